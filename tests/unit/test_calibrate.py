"""The representative dataset: stratified, seeded, and anchored at black and white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import ConversionError
from host_tools.data.cache_file import PictureCache
from host_tools.data.load import Subset
from host_tools.data.pictures import Picture
from host_tools.quantize.calibrate import calibration_pixels


def _subset(*per_class: int) -> Subset:
    """Pictures whose every pixel is their running number, behind some of another split."""
    labels = np.repeat(np.arange(len(per_class)), per_class)
    others = 7
    pixels = np.empty((others + len(labels), 4, 4, 3), np.uint8)
    pixels[:others] = 254
    pixels[others:] = np.arange(1, len(labels) + 1)[:, None, None, None]
    pictures = tuple(Picture(Path(f"{i}.png"), 0, None) for i in range(len(pixels)))
    cache = PictureCache(pixels, pixels, pictures, tuple(map(str, range(len(pixels)))), ())
    return Subset(cache, others + np.arange(len(labels)), labels)


def test_classes_are_drawn_evenly_however_unequal_they_are() -> None:
    subset = _subset(100, 5, 40)
    chosen = calibration_pixels(subset, 12, seed=0)[:-2, 0, 0, 0]
    assert chosen.max() < 254
    labels = subset.labels[chosen.astype(int) - 1]
    assert np.bincount(labels).tolist() == [4, 4, 4]
    assert len(set(chosen.tolist())) == 12


def test_a_small_class_is_used_up_and_the_others_fill_in() -> None:
    subset = _subset(100, 2)
    chosen = calibration_pixels(subset, 20, seed=0)[:-2, 0, 0, 0]
    assert np.bincount(subset.labels[chosen.astype(int) - 1]).tolist() == [18, 2]


def test_the_last_two_are_black_and_white() -> None:
    pixels = calibration_pixels(_subset(5, 5), 4, seed=0)
    assert (pixels[-2] == 0).all()
    assert (pixels[-1] == 255).all()


def test_the_draw_depends_on_the_seed_alone() -> None:
    subset = _subset(50, 50)
    first, again, other = (calibration_pixels(subset, 10, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_more_than_there_are_is_all_there_are() -> None:
    assert len(calibration_pixels(_subset(3, 4), 500, seed=0)) == 7 + 2


def test_no_training_pictures_is_an_error_and_never_random_data() -> None:
    with pytest.raises(ConversionError, match="no training pictures to calibrate with"):
        calibration_pixels(_subset(), 10, seed=0)
