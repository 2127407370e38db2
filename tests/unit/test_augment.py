"""Augmentation: reproducible, within range, and doing what its name says."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from host_tools.data.augment import augment
from host_tools.recipe import AugmentationRecipe


def _batch(count: int = 6, height: int = 8, width: int = 10) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), np.uint8)


@settings(deadline=None, max_examples=40)
@given(
    flip=st.floats(0, 1),
    shift=st.floats(0, 0.5),
    brightness=st.floats(0, 0.9),
    seed=st.integers(0, 2**32),
)
def test_any_augmentation_keeps_shape_and_dtype_and_repeats_with_its_seed(
    flip: float, shift: float, brightness: float, seed: int
) -> None:
    how = AugmentationRecipe(flip, shift, brightness)
    before = _batch()
    first = augment(before, how, np.random.default_rng(seed))
    again = augment(before, how, np.random.default_rng(seed))
    assert first.shape == before.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert np.array_equal(before, _batch())


def test_nothing_asked_for_is_nothing_done() -> None:
    assert np.array_equal(
        augment(_batch(), AugmentationRecipe(), np.random.default_rng(0)), _batch()
    )


def test_a_certain_flip_mirrors_every_picture() -> None:
    flipped = augment(_batch(), AugmentationRecipe(horizontal_flip=1.0), np.random.default_rng(0))
    assert np.array_equal(flipped, _batch()[:, :, ::-1])


def test_half_the_pictures_are_flipped_with_a_probability_of_one_half() -> None:
    before = _batch(2000, 4, 4)
    after = augment(before, AugmentationRecipe(horizontal_flip=0.5), np.random.default_rng(0))
    flipped = (after != before).any(axis=(1, 2, 3)).mean()
    assert 0.45 < flipped < 0.55


def test_a_shift_moves_the_picture_and_reflects_its_border() -> None:
    row = np.arange(10, dtype=np.uint8)
    before = np.broadcast_to(row[None, None, :, None], (50, 8, 10, 3)).copy()
    after = augment(before, AugmentationRecipe(shift=0.2), np.random.default_rng(1))
    expected = {tuple(np.pad(row, 2, "reflect")[start : start + 10].tolist()) for start in range(5)}
    assert {tuple(picture[0, :, 0].tolist()) for picture in after} == expected


def test_brightness_scales_within_its_reach_and_saturates() -> None:
    before = np.full((200, 2, 2, 3), 100, np.uint8)
    after = augment(before, AugmentationRecipe(brightness=0.3), np.random.default_rng(0))
    assert 69 <= after.min() < 75
    assert 125 < after.max() <= 130
    white = np.full((50, 2, 2, 3), 250, np.uint8)
    assert augment(white, AugmentationRecipe(brightness=0.5), np.random.default_rng(0)).max() == 255
