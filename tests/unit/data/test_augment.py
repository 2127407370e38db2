"""Augmentation: every change is made at its probability and strength, and no other."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from host_tools.data.augment import OPERATIONS, augment, mix, moves_pixels, rand_augment
from host_tools.data.cache import PictureCache
from host_tools.data.load import Subset
from host_tools.data.pictures import Picture
from host_tools.recipe import AugmentationRecipe, Recipe, TrainingRecipe
from host_tools.recipe.keys import FILL_MODES
from host_tools.train.batches import (
    Targets,
    feature_batches,
    picture_batches,
    plain_batches,
    targets_of,
)

pytestmark = pytest.mark.computes

Pixels = NDArray[np.uint8]


def _batch(count: int = 6, height: int = 8, width: int = 10, channels: int = 3) -> Pixels:
    return np.random.default_rng(3).integers(0, 256, (count, height, width, channels), np.uint8)


def _seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class _Fixed:
    """A generator with fixed draws: every probable change happens, ranges give one position."""

    def __init__(self, place: float) -> None:
        self._place = place

    def random(self, size: Any = None) -> Any:
        return np.zeros(size or ())

    def uniform(self, low: Any, high: Any, size: Any = None) -> Any:
        drawn = np.asarray(low + (np.asarray(high) - low) * self._place)
        return np.broadcast_to(drawn, drawn.shape if size is None else size).copy()

    def integers(self, low: Any, high: Any, size: Any = None) -> Any:
        drawn = np.floor(low + (np.asarray(high) - low) * self._place).astype(int)
        return np.broadcast_to(drawn, size or ()).copy()

    def permutation(self, count: int) -> Any:
        return np.arange(count)[::-1]

    def choice(self, things: Any, size: int | None = None) -> Any:
        return things[-1] if size is None else [things[-1]] * size


def _fixed(place: float) -> np.random.Generator:
    return _Fixed(place)  # type: ignore[return-value]


_PLAIN = AugmentationRecipe()
# Each change alone, and the key of its probability.
_CHANGES: dict[str, tuple[AugmentationRecipe, str]] = {
    "horizontal-flip": (_PLAIN, "horizontal_flip"),
    "vertical-flip": (_PLAIN, "vertical_flip"),
    "rotation": (AugmentationRecipe(rotation=30), "rotation_probability"),
    "shift": (AugmentationRecipe(shift=0.25), "shift_probability"),
    "shear": (AugmentationRecipe(shear=30), "shear_probability"),
    "zoom": (AugmentationRecipe(zoom=0.5), "zoom_probability"),
    "scale": (AugmentationRecipe(scale=0.5), "scale_probability"),
    "crop": (AugmentationRecipe(crop=0.3), "crop_probability"),
    "brightness": (AugmentationRecipe(brightness=0.5), "brightness_probability"),
    "channel-multiply": (
        AugmentationRecipe(channel_multiply=0.5),
        "channel_multiply_probability",
    ),
    "channel-shuffle": (_PLAIN, "channel_shuffle"),
    "coarse-dropout": (AugmentationRecipe(coarse_dropout_size=0.8), "coarse_dropout"),
    "rand-augment": (_PLAIN, "rand_augment"),
}
_each_change = pytest.mark.parametrize("change", _CHANGES)


def _probable(change: str, probability: float) -> AugmentationRecipe:
    how, key = _CHANGES[change]
    return replace(how, **{key: probability})


def _changed(before: Pixels, how: AugmentationRecipe, random: np.random.Generator) -> float:
    """The share of changed pictures."""
    after = augment(before, how, random)
    return float((after != before).any(axis=(1, 2, 3)).mean())


# Any recipe


def _recipes() -> st.SearchStrategy[AugmentationRecipe]:
    """Recipes of any keys within their limits."""
    drawn: dict[str, st.SearchStrategy[Any]] = {}
    for key in fields(AugmentationRecipe):
        limits = key.metadata["within"]
        if limits == FILL_MODES:
            drawn[key.name] = st.sampled_from(FILL_MODES)
        elif isinstance(key.default, int):
            drawn[key.name] = st.integers(*limits)
        else:
            drawn[key.name] = st.one_of(st.just(limits[0]), st.floats(*limits), st.just(limits[1]))
    return st.builds(AugmentationRecipe, **drawn)


@settings(deadline=None, max_examples=120)
@given(
    how=_recipes(),
    channels=st.sampled_from((1, 3)),
    size=st.sampled_from(((10, 8), (9, 7), (5, 4))),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_recipe_gives_new_pictures_of_the_requested_size_reproducibly(
    how: AugmentationRecipe, channels: int, size: tuple[int, int], seed: int
) -> None:
    before = _batch(channels=channels)
    after = augment(before, how, _seeded(seed), size)
    assert after.shape == (6, size[1], size[0], channels)
    assert after.dtype == np.uint8
    assert not np.may_share_memory(after, before)
    assert np.array_equal(before, _batch(channels=channels))
    assert np.array_equal(augment(list(before), how, _seeded(seed), size), after)


@_each_change
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(10, 8), (8, 6)])
def test_each_change_alone_takes_gray_and_colour_and_larger_pictures(
    size: tuple[int, int], channels: int, change: str
) -> None:
    before = _batch(channels=channels)
    after = augment(before, _probable(change, 1.0), _seeded(), size)
    assert after.shape == (6, size[1], size[0], channels)
    assert after.dtype == np.uint8
    assert np.array_equal(before, _batch(channels=channels))


def test_an_empty_recipe_changes_nothing() -> None:
    assert _changed(_batch(), _PLAIN, _seeded()) == 0


@_each_change
def test_with_probability_zero_it_never_happens(change: str) -> None:
    assert _changed(_batch(200), _probable(change, 0.0), _seeded()) == 0


@_each_change
def test_with_probability_one_it_always_happens(change: str) -> None:
    assert _changed(_batch(50), _probable(change, 1.0), _fixed(0.2)) == 1


@_each_change
def test_with_probability_one_half_it_happens_to_half_of_them(change: str) -> None:
    before = _batch(2000, 6, 6)
    always = _changed(before, _probable(change, 1.0), _seeded(1))
    half = _changed(before, _probable(change, 0.5), _seeded(2))
    assert always > 0.6  # a draw may change nothing: no shift, the same order of channels
    assert half == pytest.approx(always / 2, abs=0.06)  # five standard deviations


@_each_change
def test_another_seed_is_another_draw(change: str) -> None:
    how = _probable(change, 0.5)
    one, other = (augment(_batch(40), how, _seeded(seed)) for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_pictures_are_drawn_one_by_one() -> None:
    before = np.repeat(_batch(1), 200, axis=0)
    for how in (AugmentationRecipe(rotation=30), AugmentationRecipe(brightness=0.5)):
        after = augment(before, how, _seeded())
        assert len({picture.tobytes() for picture in after}) > 100


# Moving


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("across", "down"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("resampled", [False, True], ids=["plain", "resampled"])
def test_a_flip_mirrors_exactly(resampled: bool, across: bool, down: bool, channels: int) -> None:
    before = _batch(channels=channels)
    # A zoom that never happens takes the flip into the transform.
    how = AugmentationRecipe(across, down, zoom=0.5 * resampled, zoom_probability=0.0)
    mirrored = before[:, :: -1 if down else 1, :: -1 if across else 1]
    assert np.array_equal(augment(before, how, _seeded()), mirrored)


_PADDED = {"reflect": "reflect", "nearest": "edge", "constant": "constant", "wrap": "wrap"}


@pytest.mark.parametrize("fill_mode", FILL_MODES)
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_shift_moves_by_whole_pixels_and_fills_the_gap(flip: float, fill_mode: str) -> None:
    one = _batch(1)
    how = AugmentationRecipe(horizontal_flip=flip, shift=0.2, fill_mode=fill_mode)
    after = augment(np.repeat(one, 500, axis=0), how, _seeded(1))
    mirrored = one[0][:, :: -1 if flip else 1]
    pad: Any = ((2, 2), (2, 2), (0, 0))  # a fifth of 8 and of 10 pixels
    padded = np.pad(mirrored, pad, _PADDED[fill_mode])
    windows = {padded[y : y + 8, x : x + 10].tobytes() for y in range(5) for x in range(5)}
    assert {picture.tobytes() for picture in after} == windows


def _spot(size: tuple[int, int], offset: tuple[float, float], spread: float) -> Pixels:
    """A soft spot so far from the middle of a picture of (width, height)."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    dx, dy = x - (width - 1) / 2 - offset[0], y - (height - 1) / 2 - offset[1]
    spot = 255 * np.exp(-(dx**2 + dy**2) / (2 * spread**2))
    return np.rint(spot).astype(np.uint8)[:, :, None]


def _where(picture: Pixels) -> NDArray[np.float64]:
    """How far from the middle (x, y) the spot is."""
    height, width, _ = picture.shape
    weight = picture[:, :, 0] / picture.sum(dtype=np.float64)
    x, y = weight.sum(axis=0) @ np.arange(width), weight.sum(axis=1) @ np.arange(height)
    return np.array([x - (width - 1) / 2, y - (height - 1) / 2])


def _turn(degrees: float) -> NDArray[np.float64]:
    return cv2.getRotationMatrix2D((0, 0), degrees, 1)[:, :2]


def _lean(degrees: float) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    return np.linalg.inv([[1, -np.sin(angle)], [0, np.cos(angle)]])


@settings(deadline=None, max_examples=80)
@given(
    place=st.floats(0, 1),
    margin=st.sampled_from((1.0, 1.25, 1.5)),
    change=st.sampled_from(("rotation", "shear", "zoom", "scale", "rotation and zoom")),
)
def test_a_marker_moves_to_where_geometry_says(place: float, margin: float, change: str) -> None:
    reach = 2 * place - 1  # of the largest draw, -1..1
    where = np.array([9.0, -5.0])
    how, matrix = {
        "rotation": (AugmentationRecipe(rotation=180), _turn(180 * reach)),
        "shear": (AugmentationRecipe(shear=40), _lean(40 * reach)),
        "zoom": (AugmentationRecipe(zoom=0.5), np.eye(2) * (1 + 0.5 * reach)),
        "scale": (AugmentationRecipe(scale=0.4), np.eye(2) * (1 + 0.4 * reach)),
        "rotation and zoom": (
            AugmentationRecipe(rotation=90, zoom=0.5),
            _turn(90 * reach) * (1 + 0.5 * reach),
        ),
    }[change]
    how = replace(how, fill_mode="constant")
    large = (round(64 * margin), round(56 * margin))
    finer = np.array(large) / (64, 56)
    spot = _spot(large, tuple(where * finer), 2.5 * margin)
    (after,) = augment([spot], how, _fixed(place), (64, 56))
    assert _where(after) == pytest.approx(matrix @ where, abs=0.1)


@pytest.mark.parametrize("degrees", [5.0, 30.0, 90.0, 137.0])
def test_a_rotation_is_that_of_opencv(degrees: float) -> None:
    before = cv2.GaussianBlur(_batch(1, 31, 41)[0], (0, 0), 2)
    (after,) = augment([before], AugmentationRecipe(rotation=degrees), _fixed(1.0))
    matrix = cv2.getRotationMatrix2D((20, 15), degrees, 1)
    expected = cv2.warpAffine(before, matrix, (41, 31), borderMode=cv2.BORDER_REFLECT_101)
    assert np.abs(after.astype(int) - expected).max() <= 2


def test_a_shift_among_others_moves_by_its_share_of_the_sides() -> None:
    how = AugmentationRecipe(shift=0.1, zoom=0.5, zoom_probability=0.0, fill_mode="constant")
    spot = _spot((80, 60), (0, 0), 2.5)
    moved = np.array([_where(p) for p in augment([spot] * 500, how, _seeded(), (40, 30))])
    assert np.abs(moved).max(axis=0) == pytest.approx([4, 3], abs=0.2)
    assert moved.mean(axis=0) == pytest.approx([0, 0], abs=0.5)


def test_a_zoom_keeps_the_shape_and_a_scale_draws_each_side_alone() -> None:
    y, x = np.mgrid[0:48, 0:64]
    slopes = np.stack([2 * x + 64, 2 * y + 80], axis=-1).astype(np.uint8)

    def enlarged(how: AugmentationRecipe) -> NDArray[np.float64]:
        after = augment([slopes] * 300, how, _seeded()).astype(np.float64)
        across = (after[:, 24, 40, 0] - after[:, 24, 24, 0]) / 32
        down = (after[:, 32, 32, 1] - after[:, 16, 32, 1]) / 32
        return 1 / np.stack([across, down])

    across, down = enlarged(AugmentationRecipe(zoom=0.3, fill_mode="nearest"))
    assert across == pytest.approx(down, abs=0.1)
    across, down = enlarged(AugmentationRecipe(scale=0.3, fill_mode="nearest"))
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.3
    for side in (across, down):
        assert side.min() == pytest.approx(0.7, abs=0.06)
        assert side.max() == pytest.approx(1.3, abs=0.06)


@settings(deadline=None, max_examples=60)
@given(
    how=st.builds(
        AugmentationRecipe,
        horizontal_flip=st.floats(0, 1),
        vertical_flip=st.floats(0, 1),
        rotation=st.floats(0, 180),
        shear=st.floats(0, 60),
        zoom=st.floats(0, 0.9),
        scale=st.floats(0, 0.9),
        fill_mode=st.sampled_from(FILL_MODES),
    ),
    seed=st.integers(0, 1000),
)
def test_the_middle_stays_the_middle(how: AugmentationRecipe, seed: int) -> None:
    before = np.zeros((21, 41, 1), np.uint8)
    before[10, 20] = 255
    after = augment([before] * 8, how, _seeded(seed))
    assert (after[:, 10, 20] >= 254).all()


@pytest.mark.parametrize("size", [(32, 32), (40, 24), (33, 31), (224, 224)])
@pytest.mark.parametrize("margin", [0.15, 0.3, 1.0])
def test_larger_pictures_show_the_same_field_of_view(margin: float, size: tuple[int, int]) -> None:
    width, height = (round(side * (1 + margin)) for side in size)
    y, x = np.mgrid[0:height, 0:width]
    slopes = np.stack([x / (width - 1), y / (height - 1), (x + y) / (width + height - 2)], axis=-1)
    large = np.rint(255 * slopes).astype(np.uint8)
    (after,) = augment([large], _PLAIN, _seeded(), size)
    error = after.astype(float) - cv2.resize(large, size, interpolation=cv2.INTER_LINEAR)
    assert np.abs(error).mean() < 0.3
    assert abs(error.mean()) < 0.3
    assert np.abs(error).max() <= 2


def test_pictures_of_the_requested_size_are_not_resampled() -> None:
    assert np.array_equal(augment(_batch(), _PLAIN, _seeded(), (10, 8)), _batch())


def _kept_by_crops(least: float, size: tuple[int, int]) -> NDArray[np.float64]:
    """``(N, 2, 2)``: left and right, top and bottom edges of crops, as shares of the sides."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    slopes = np.stack([255 * x / (width - 1), 255 * y / (height - 1)], axis=-1)
    before = np.rint(slopes).astype(np.uint8)
    after = augment([before] * 1000, AugmentationRecipe(crop=least), _seeded()).astype(np.float64)
    middle = after[:, height // 2, :, 0], after[:, :, width // 2, 1]
    return np.stack([side[:, (0, -1)] for side in middle], axis=1) / 255


@pytest.mark.parametrize("least", [0.08, 0.3, 0.6, 0.9, 1.0])
def test_a_crop_keeps_at_least_its_share_of_the_area(least: float) -> None:
    edges = _kept_by_crops(least, (64, 64))
    kept = (edges[:, :, 1] - edges[:, :, 0]).prod(axis=1)
    assert kept.min() > least - 0.03
    assert kept.min() < least + 0.03


@pytest.mark.parametrize("least", [0.08, 0.3, 0.6])
@pytest.mark.parametrize("size", [(64, 64), (80, 50)])
def test_a_crop_is_up_to_a_third_wider_or_narrower_than_the_picture(
    size: tuple[int, int], least: float
) -> None:
    edges = _kept_by_crops(least, size)
    across, down = (edges[:, :, 1] - edges[:, :, 0]).T
    assert (across / down).min() == pytest.approx(3 / 4, abs=0.05)
    assert (across / down).max() == pytest.approx(4 / 3, abs=0.05)


def test_crops_lie_anywhere_and_within_the_picture() -> None:
    edges = _kept_by_crops(0.1, (64, 64))
    slack = edges[:, :, 0] + (1 - edges[:, :, 1])
    place = edges[:, :, 0][slack > 0.2] / slack[slack > 0.2]
    assert place.min() < 0.1
    assert place.max() > 0.9
    assert place.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("how", "moves"),
    [
        (_PLAIN, False),
        (AugmentationRecipe(horizontal_flip=0.5, brightness=0.5, rand_augment=1.0), False),
        *((AugmentationRecipe(**{key: 0.5}), True) for key in ("rotation", "shift", "shear")),
        *((AugmentationRecipe(**{key: 0.5}), True) for key in ("zoom", "scale", "crop")),
    ],
)
def test_what_more_pixels_are_good_for(how: AugmentationRecipe, moves: bool) -> None:
    assert moves_pixels(how) is moves


# Recolouring


def _levels(channels: int = 3) -> Pixels:
    """Every value of a channel once."""
    return np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), channels, axis=2)


@settings(deadline=None, max_examples=60)
@given(reach=st.floats(0.01, 0.95), place=st.floats(0, 1), channels=st.sampled_from((1, 3)))
@pytest.mark.parametrize("key", ["brightness", "channel_multiply"])
def test_a_gain_multiplies_rounds_and_saturates(
    key: str, reach: float, place: float, channels: int
) -> None:
    how = AugmentationRecipe(**{key: reach})
    (after,) = augment([_levels(channels)], how, _fixed(place))
    gain = 1 - reach + 2 * reach * place
    exact = np.clip(_levels(channels) * gain, 0, 255)
    assert np.abs(after - exact).max() <= 0.5 + 1e-9


def _gains(picture: Pixels) -> list[float]:
    """The gain of each channel, from what became of every value."""
    found = []
    for channel in picture.reshape(256, -1).T.astype(np.float64):
        inside = slice(1, max(2, int((channel < 255).sum())))
        levels = np.arange(256)[inside]
        low = ((channel[inside] - 0.5) / levels).max()
        high = ((channel[inside] + 0.5) / levels).min()
        assert low <= high + 1e-9  # one gain explains them all
        found.append((low + high) / 2)
    return found


def test_brightness_is_one_gain_for_all_channels_within_its_reach() -> None:
    how = AugmentationRecipe(brightness=0.3)
    after = augment([_levels()] * 300, how, _seeded())
    gains = np.array([_gains(picture) for picture in after])
    assert np.ptp(gains, axis=1).max() < 1e-9
    assert gains.min() == pytest.approx(0.7, abs=0.02)
    assert gains.max() == pytest.approx(1.3, abs=0.02)


def test_channels_are_multiplied_each_by_its_own_gain() -> None:
    how = AugmentationRecipe(channel_multiply=0.3)
    gains = np.array([_gains(picture) for picture in augment([_levels()] * 300, how, _seeded())])
    assert gains.min() == pytest.approx(0.7, abs=0.02)
    assert gains.max() == pytest.approx(1.3, abs=0.02)
    assert np.abs(np.corrcoef(gains.T) - np.eye(3)).max() < 0.25


def test_brightness_and_channels_multiply_together() -> None:
    how = AugmentationRecipe(brightness=0.5, channel_multiply=0.5)
    (after,) = augment([_levels()], how, _fixed(0.1))
    assert _gains(after) == pytest.approx([0.6 * 0.6] * 3, abs=0.003)


def test_channels_are_only_exchanged_and_in_every_order() -> None:
    before = _batch(300)
    after = augment(before, AugmentationRecipe(channel_shuffle=1.0), _seeded())
    seen = set()
    for one, other in zip(before, after, strict=True):
        orders = [o for o in itertools.permutations(range(3)) if (one[:, :, o] == other).all()]
        assert len(orders) == 1
        seen.add(orders[0])
    assert len(seen) == 6


@settings(deadline=None, max_examples=40)
@given(size=st.floats(0, 1), seed=st.integers(0, 1000))
def test_one_hole_is_a_black_rectangle_within_its_size(size: float, seed: int) -> None:
    white = np.full((40, 20, 30, 3), 255, np.uint8)
    how = AugmentationRecipe(coarse_dropout=1.0, coarse_dropout_size=size)
    for picture in augment(white, how, _seeded(seed)):
        black = (picture == 0).all(axis=2)
        assert (picture[~black] == 255).all()
        rows, columns = np.flatnonzero(black.any(axis=1)), np.flatnonzero(black.any(axis=0))
        assert black.sum() == len(rows) * len(columns)
        assert len(rows) <= size * 20 + 1
        assert len(columns) <= size * 30 + 1


def test_holes_reach_their_size_and_every_place() -> None:
    white = np.full((2000, 20, 30, 1), 255, np.uint8)
    how = AugmentationRecipe(coarse_dropout=1.0, coarse_dropout_size=0.4)
    black = augment(white, how, _seeded())[..., 0] == 0
    assert black.any(axis=1).sum(axis=1).max() == 12
    assert black.any(axis=2).sum(axis=1).max() == 8
    assert black.any(axis=0).all()


def test_the_number_of_holes_is_the_set_one() -> None:
    white = np.full((300, 40, 40, 1), 255, np.uint8)
    many, one = (
        AugmentationRecipe(coarse_dropout=1.0, coarse_dropout_holes=holes) for holes in (8, 1)
    )
    area_of_many, area_of_one = (
        (augment(white, how, _seeded()) == 0).mean() for how in (many, one)
    )
    # One to eight of them, which overlap now and then.
    assert 3 < area_of_many / area_of_one < 4.6


# RandAugment


def _picture(channels: int = 3) -> Pixels:
    """Smooth, with all values in every channel about equally often."""
    random = np.random.default_rng(5)
    values = np.tile(np.arange(256, dtype=np.uint8), 36)
    picture = np.stack([random.permutation(values) for _ in range(channels)], axis=-1)
    return picture.reshape(96, 96, channels)


def _operated(name: str, strength: float, picture: Pixels | None = None) -> Pixels:
    before = _picture() if picture is None else picture
    kept = before.copy()
    after = OPERATIONS[name](before, strength)
    assert np.array_equal(before, kept)
    return after


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
@settings(deadline=None, max_examples=15)
@given(strength=st.floats(-1, 1))
def test_every_operation_keeps_shape_and_type(name: str, channels: int, strength: float) -> None:
    before = _batch(1, channels=channels)[0]
    after = _operated(name, strength, before)
    assert after.shape == before.shape
    assert after.dtype == np.uint8


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"auto-contrast", "equalize"}))
@pytest.mark.parametrize("channels", [1, 3])
def test_strength_zero_changes_nothing(name: str, channels: int) -> None:
    assert np.array_equal(_operated(name, 0.0, _picture(channels)), _picture(channels))


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"identity"}))
def test_full_strength_changes_much(name: str) -> None:
    # Of few values, so that stretching and equalizing have something to do.
    before = (cv2.GaussianBlur(_picture(), (0, 0), 1) // 2) + 20
    changed = [(_operated(name, sign, before) != before).mean() for sign in (-1.0, 1.0)]
    assert min(changed) > 0.4


def _differs(ours: Pixels, theirs: Any) -> int:
    return int(np.abs(ours.astype(int) - np.asarray(theirs).astype(int)).max())


@pytest.fixture(scope="module")
def pillow() -> SimpleNamespace:
    modules = {
        name: pytest.importorskip(f"PIL.{name}", reason="the extra [host] is not installed")
        for name in ("Image", "ImageOps", "ImageEnhance")
    }
    return SimpleNamespace(**modules)


@pytest.mark.parametrize("strength", [-1.0, -0.4, 0.3, 1.0])
@pytest.mark.parametrize(
    ("name", "enhancer"),
    [("color", "Color"), ("contrast", "Contrast"), ("brightness", "Brightness")],
)
def test_enhancements_are_those_of_pillow(
    name: str, enhancer: str, strength: float, pillow: SimpleNamespace
) -> None:
    image = pillow.Image.fromarray(_picture())
    theirs = getattr(pillow.ImageEnhance, enhancer)(image).enhance(1 + 0.9 * strength)
    assert _differs(_operated(name, strength), theirs) <= 2


@pytest.mark.parametrize("strength", [-1.0, -0.4, 0.3, 1.0])
def test_sharpness_is_that_of_pillow(strength: float, pillow: SimpleNamespace) -> None:
    image = pillow.Image.fromarray(_picture())
    theirs = np.asarray(pillow.ImageEnhance.Sharpness(image).enhance(1 + 0.9 * strength))
    inner = slice(1, -1)  # Pillow leaves the border alone
    ours = _operated("sharpness", strength)
    assert _differs(ours[inner, inner], theirs[inner, inner]) <= 2


@pytest.mark.parametrize("strength", [-1.0, -0.5, 0.2, 0.3, 0.9])
def test_posterizing_and_solarizing_are_those_of_pillow(
    strength: float, pillow: SimpleNamespace
) -> None:
    image = pillow.Image.fromarray(_picture())
    bits = 8 - round(4 * abs(strength))
    assert _differs(_operated("posterize", strength), pillow.ImageOps.posterize(image, bits)) == 0
    threshold = 256 * (1 - abs(strength))
    assert (
        _differs(_operated("solarize", strength), pillow.ImageOps.solarize(image, threshold)) == 0
    )


@pytest.mark.parametrize("low", [0, 40])
@pytest.mark.parametrize("high", [60, 200, 255])
def test_stretching_the_contrast_is_that_of_pillow(
    low: int, high: int, pillow: SimpleNamespace
) -> None:
    before = np.clip(_picture(), low, high)
    theirs = pillow.ImageOps.autocontrast(pillow.Image.fromarray(before))
    after = _operated("auto-contrast", 0.5, before)
    assert _differs(after, theirs) <= 1
    assert (after.min(), after.max()) == (0, 255)


def test_equalizing_is_that_of_pillow(pillow: SimpleNamespace) -> None:
    # Where every value is rare the two definitions agree: theirs rounds at the other end of a bin.
    before = np.rint(255 * (_picture() / 255) ** 2).astype(np.uint8)
    before = cv2.GaussianBlur(before, (0, 0), 1)
    theirs = pillow.ImageOps.equalize(pillow.Image.fromarray(before))
    rarest = max(np.bincount(before[..., c].ravel()).max() for c in range(3)) / before[..., 0].size
    assert _differs(_operated("equalize", 0.5, before), theirs) <= 2 + 255 * rarest


@pytest.mark.parametrize("name", ["auto-contrast", "equalize", "contrast", "sharpness"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_one_value_stays_so(name: str, channels: int) -> None:
    plain = np.full((8, 8, channels), 77, np.uint8)
    assert np.array_equal(_operated(name, 0.7, plain), plain)


@pytest.mark.parametrize(
    ("name", "strength", "moved"),
    [
        *(("translate-x", s, (-0.45 * s * 64, 0)) for s in (-0.5, 0.7)),
        *(("translate-y", s, (0, -0.45 * s * 48)) for s in (-0.5, 0.7)),
    ],
)
def test_a_translation_is_a_share_of_the_side(
    name: str, strength: float, moved: tuple[float, float]
) -> None:
    spot = _spot((64, 48), (0, 0), 1.0)
    assert _where(_operated(name, strength, spot)) == pytest.approx(moved, abs=0.1)


@pytest.mark.parametrize("strength", [-1.0, 0.5])
def test_a_rotation_and_shears_turn_about_the_middle(strength: float) -> None:
    spot = _spot((64, 48), (8, 6), 1.5)
    where = np.array([8.0, 6.0])
    for name, matrix in (
        ("rotate", _turn(30 * strength)),
        ("shear-x", np.linalg.inv([[1, 0.3 * strength], [0, 1]])),
        ("shear-y", np.linalg.inv([[1, 0], [0.3 * strength, 1]])),
    ):
        assert _where(_operated(name, strength, spot)) == pytest.approx(matrix @ where, abs=0.1)


def test_operations_are_drawn_alike_with_either_sign_and_one_strength(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[tuple[str, float]] = []

    def recorder(name: str) -> Any:
        def operate(picture: Pixels, strength: float) -> Pixels:
            drawn.append((name, strength))
            return picture

        return operate

    assert len(OPERATIONS) == 14
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, recorder(name))
    how = AugmentationRecipe(rand_augment=1.0, rand_augment_operations=3, rand_augment_magnitude=12)
    augment(_batch(1400), how, _seeded())
    assert len(drawn) == 3 * 1400
    names, counts = np.unique([name for name, _ in drawn], return_counts=True)
    assert len(names) == 14
    assert np.abs(counts - 300).max() < 5 * 300**0.5
    strengths = np.array([strength for _, strength in drawn])
    assert np.abs(strengths) == pytest.approx(0.4)
    assert (strengths > 0).mean() == pytest.approx(0.5, abs=0.04)


def test_each_operation_works_on_what_the_one_before_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda picture, _: picture + np.uint8(1))
    pixels = np.zeros((4, 3, 3, 1), np.uint8)
    how = AugmentationRecipe(rand_augment=1.0, rand_augment_operations=5)
    rand_augment(pixels, how, _seeded())
    assert (pixels == 5).all()


# Mixing


def _numbered(count: int = 8, height: int = 12, width: int = 16) -> tuple[Pixels, Any]:
    """Pictures whose pixels encode the picture's number and the position; each is a class."""
    pixels = np.empty((count, height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(count)[:, None, None] * 30
    pixels[..., 1] = np.arange(height)[:, None]
    pixels[..., 2] = np.arange(width)
    return pixels, np.eye(count, dtype=np.float32)


def _partners(targets: NDArray[np.float32]) -> list[tuple[float, int]]:
    """For each picture the share it kept, and its partner (itself where unmixed)."""
    found = []
    for i, row in enumerate(targets):
        others = np.flatnonzero(np.where(np.arange(len(row)) == i, 0, row))
        assert len(others) <= 1
        found.append((float(row[i]), int(others[0]) if len(others) else i))
    return found


_ALL = st.builds(
    AugmentationRecipe,
    mixup=st.floats(0, 1),
    cutmix=st.floats(0, 1),
    mixup_alpha=st.floats(0.01, 10),
    cutmix_alpha=st.floats(0.01, 10),
)


@settings(deadline=None, max_examples=100)
@given(how=_ALL, seed=st.integers(0, 2**32 - 1), count=st.integers(1, 8))
def test_mixed_targets_are_shares_that_sum_to_one(
    how: AugmentationRecipe, seed: int, count: int
) -> None:
    pixels, targets = _numbered(count)
    before = pixels.copy(), targets.copy()
    mixed, wanted = mix(pixels, targets, how, _seeded(seed))
    assert (mixed.shape, mixed.dtype) == (pixels.shape, np.uint8)
    assert (wanted.shape, wanted.dtype) == (targets.shape, np.float32)
    assert wanted.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert wanted.min() >= 0
    assert np.array_equal(pixels, before[0])
    assert np.array_equal(targets, before[1])
    again = mix(pixels, targets, how, _seeded(seed))
    assert np.array_equal(again[0], mixed)
    assert np.array_equal(again[1], wanted)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), alpha=st.floats(0.05, 10))
def test_mixup_blends_pixels_in_the_shares_of_the_targets(seed: int, alpha: float) -> None:
    pixels, targets = _batch(8), np.eye(8, dtype=np.float32)
    how = AugmentationRecipe(mixup=1.0, mixup_alpha=alpha)
    mixed, wanted = mix(pixels, targets, how, _seeded(seed))
    for i, (share, other) in enumerate(_partners(wanted)):
        blend = share * pixels[i].astype(np.float64) + (1 - share) * pixels[other]
        assert np.abs(mixed[i] - (pixels[i] if other == i else blend)).max() <= 0.5 + 1e-3


def test_mixup_draws_a_share_for_each_picture() -> None:
    _, targets = _numbered()
    _, wanted = mix(_batch(8), targets, AugmentationRecipe(mixup=1.0, mixup_alpha=1.0), _seeded())
    shares = {round(share, 4) for share, other in _partners(wanted) if share < 1}
    assert len(shares) > 4


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), alpha=st.floats(0.1, 10))
def test_cutmix_pastes_the_partners_pixels_and_counts_their_area(seed: int, alpha: float) -> None:
    pixels, targets = _numbered()
    how = AugmentationRecipe(cutmix=1.0, cutmix_alpha=alpha)
    mixed, wanted = mix(pixels, targets, how, _seeded(seed))
    assert np.array_equal(mixed[..., 1:], pixels[..., 1:])  # from the same place
    for i, (share, other) in enumerate(_partners(wanted)):
        pasted = mixed[i, ..., 0] != pixels[i, ..., 0]
        assert (mixed[i, ..., 0][pasted] == pixels[other, 0, 0, 0]).all()
        assert np.float32(1 - pasted.sum() / pasted.size) == pytest.approx(share, abs=1e-7)
        assert pasted.sum() == pasted.any(axis=0).sum() * pasted.any(axis=1).sum()


def test_cutmix_pastes_any_area_at_any_place() -> None:
    pixels, targets = _numbered()
    how = AugmentationRecipe(cutmix=1.0)
    pasted = []
    for seed in range(300):
        mixed, _ = mix(pixels, targets, how, _seeded(seed))
        pasted.append((mixed != pixels).any(axis=(0, 3)))
    area = np.array(pasted).mean(axis=(1, 2))
    assert area.min() < 0.05
    assert area.max() > 0.8
    assert np.array(pasted).mean(axis=0).min() > 0.1


def test_without_mixing_pictures_and_targets_are_the_same_objects() -> None:
    pixels, targets = _numbered()
    same = mix(pixels, targets, _PLAIN, _seeded())
    assert same[0] is pixels
    assert same[1] is targets


@pytest.mark.parametrize(
    ("mixup", "cutmix", "kinds"),
    [
        (0.5, 0.0, {"none": 0.5, "mixup": 0.5}),
        (0.0, 0.5, {"none": 0.5, "cutmix": 0.5}),
        (1.0, 1.0, {"mixup": 0.5, "cutmix": 0.5}),
        (0.5, 0.5, {"none": 0.25, "mixup": 0.375, "cutmix": 0.375}),
    ],
)
def test_batches_are_mixed_at_the_set_probability(
    mixup: float, cutmix: float, kinds: dict[str, float]
) -> None:
    pixels, targets = _numbered()
    how = AugmentationRecipe(mixup=mixup, cutmix=cutmix, mixup_alpha=1.0)
    found = []
    for seed in range(1000):
        mixed, wanted = mix(pixels, targets, how, _seeded(seed))
        shares = {round(share, 5) for share, other in _partners(wanted) if share < 1}
        kind = "mixup" if len(shares) > 1 else "cutmix"
        found.append("none" if mixed is pixels else kind)
    names, counts = np.unique(found, return_counts=True)
    assert dict(zip(names.tolist(), counts / 1000, strict=True)) == pytest.approx(kinds, abs=0.08)


# Batches


_CLASSES = 3


def _subset(count: int = 23, large: bool = False) -> Subset:
    """Every second picture of a cache, each of one value: its number."""
    pytest.importorskip("keras", reason="the extra [host] is not installed")
    numbers = np.arange(2 * count, dtype=np.uint8)
    exact = np.repeat(numbers, 6 * 8 * 3).reshape(-1, 6, 8, 3)
    wide = np.repeat(numbers, 8 * 10 * 3).reshape(-1, 8, 10, 3) if large else exact
    labels = (numbers % 7 % _CLASSES).astype(np.int64)
    pictures = tuple(Picture(Path(f"{i}.png"), int(label), None) for i, label in enumerate(labels))
    cache = PictureCache(exact, wide, pictures, tuple(map(str, numbers)), ())
    rows = np.arange(1, 2 * count, 2)
    return Subset(cache, rows, labels[rows])


def _recipe(seed: int = 0, weights: str = "none", **augmentation: Any) -> Recipe:
    return Recipe(
        "test",
        augmentation=AugmentationRecipe(**augmentation),
        training=TrainingRecipe(seed=seed, class_weights=weights),
    )


def _epoch(recipe: Recipe, epoch: int, subset: Subset | None = None) -> list[tuple[Any, ...]]:
    subset = subset or _subset()
    batches = picture_batches(subset, targets_of(subset, recipe, _CLASSES), recipe, 5, epoch)
    return [batches[i] for i in range(len(batches))]


def _equal(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    parts = zip(itertools.chain(*one), itertools.chain(*other), strict=True)
    return all(np.array_equal(a, b) for a, b in parts)


_BUSY: dict[str, Any] = {"brightness": 0.3, "channel_multiply": 0.3, "mixup": 0.5}


def test_an_epoch_shows_every_picture_once_with_its_label() -> None:
    subset = _subset()
    batches = _epoch(_recipe(), 0)
    assert [len(pixels) for pixels, _, _ in batches] == [5, 5, 5, 5, 3]
    shown = [
        (int(picture[0, 0, 0]), int(target.argmax()))
        for pixels, targets, _ in batches
        for picture, target in zip(pixels, targets, strict=True)
    ]
    assert sorted(shown) == list(zip(subset.rows.tolist(), subset.labels.tolist(), strict=True))
    assert shown != sorted(shown)


def test_the_same_seed_and_epoch_are_the_same_batches_whatever_was_drawn_before() -> None:
    recipe = _recipe(**_BUSY)
    expected = _epoch(recipe, 3)
    for epoch in range(3):
        _epoch(recipe, epoch)
    np.random.default_rng().random(10)
    assert _equal(_epoch(recipe, 3), expected)
    subset = _subset()
    batches = picture_batches(subset, targets_of(subset, recipe, _CLASSES), recipe, 5, 3)
    backwards = [batches[i] for i in reversed(range(len(batches)))]
    assert _equal(backwards[::-1], expected)


@pytest.mark.parametrize("augmentation", [{}, _BUSY], ids=["plain", "augmented"])
def test_another_epoch_or_seed_is_another_order(augmentation: dict[str, Any]) -> None:
    first = _epoch(_recipe(**augmentation), 0)
    assert not _equal(_epoch(_recipe(**augmentation), 1), first)
    assert not _equal(_epoch(_recipe(1, **augmentation), 0), first)


def test_each_batch_has_chance_of_its_own() -> None:
    def gray(_: int) -> Pixels:
        return np.full((20, 6, 8, 3), 100, np.uint8)

    cache = replace(_subset().cache, exact=gray(0), large=gray(0))
    subset = Subset(cache, np.arange(20), np.zeros(20, np.int64))
    batches = _epoch(_recipe(brightness=0.5), 0, subset)
    brightness = [tuple(pixels[:, 0, 0, 0].tolist()) for pixels, _, _ in batches]
    assert len(set(brightness)) == len(batches)


def test_larger_pictures_come_at_the_size_of_the_input() -> None:
    for pixels, _, _ in _epoch(_recipe(rotation=10), 0, _subset(large=True)):
        assert pixels.shape[1:] == (6, 8, 3)
        assert pixels.dtype == np.uint8


def test_threads_that_take_them_in_any_order_get_the_same_batches() -> None:
    recipe, subset = _recipe(**_BUSY), _subset()
    batches = picture_batches(subset, targets_of(subset, recipe, _CLASSES), recipe, 5, 0)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert _equal(list(pool.map(batches.__getitem__, range(5))), _epoch(recipe, 0))


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    weighing = pytest.importorskip(
        "sklearn.utils.class_weight", reason="the extra [host] is not installed"
    )
    subset = _subset()
    weights = targets_of(subset, _recipe(weights="balanced"), _CLASSES).weights
    theirs = weighing.compute_class_weight("balanced", classes=np.arange(3), y=subset.labels)
    assert weights == pytest.approx(theirs, rel=1e-6)
    assert np.ptp(weights) > 0.1


def test_without_class_weights_every_picture_counts_alike() -> None:
    for augmentation in ({}, {"mixup": 1.0}):
        for _, _, weights in _epoch(_recipe(**augmentation), 0):
            assert weights == pytest.approx(1, abs=1e-6)


def test_a_picture_counts_as_much_as_its_class() -> None:
    recipe = _recipe(weights="balanced")
    of_class = targets_of(_subset(), recipe, _CLASSES).weights
    for _, targets, weights in _epoch(recipe, 0):
        assert np.array_equal(weights, of_class[targets.argmax(axis=1)])


def test_a_mixed_picture_counts_as_much_as_what_it_is_mixed_of() -> None:
    recipe = _recipe(weights="balanced", mixup=1.0, mixup_alpha=5.0)
    of_class = targets_of(_subset(), recipe, _CLASSES).weights
    between = 0
    for _, targets, weights in _epoch(recipe, 0):
        expected = [sum(s * w for s, w in zip(t, of_class, strict=True)) for t in targets.tolist()]
        assert weights == pytest.approx(expected, rel=1e-5)
        between += int((targets.max(axis=1) < 0.99).sum())
    assert between > 5


def test_plain_batches_are_in_order_and_as_they_are() -> None:
    subset = _subset()
    batches = plain_batches(subset.pixels, subset.labels, _CLASSES, 5)
    assert len(batches) == 5
    pixels, targets = (
        np.concatenate(part) for part in zip(*(batches[i] for i in range(5)), strict=True)
    )
    assert np.array_equal(pixels, subset.pixels())
    assert np.array_equal(targets, np.eye(3)[subset.labels])


def test_features_come_in_a_random_variant_per_epoch() -> None:
    subset = _subset(60)
    features = np.empty((4, 60, 2), np.float32)
    features[..., 0] = np.arange(4)[:, None]
    features[..., 1] = np.arange(60)
    targets = Targets(subset.labels, np.ones(3, np.float32))
    drawn = []
    for epoch in (0, 0, 1):
        batches = feature_batches(features, targets, _recipe(), 7, epoch)
        inputs, wanted, _ = (
            np.concatenate(part)
            for part in zip(*(batches[i] for i in range(len(batches))), strict=True)
        )
        order = inputs[:, 1].astype(int)
        assert sorted(order.tolist()) == list(range(60))
        assert np.array_equal(wanted.argmax(axis=1), subset.labels[order])
        assert set(inputs[:, 0].tolist()) == {0, 1, 2, 3}
        drawn.append(inputs)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
