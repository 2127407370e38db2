"""Batches for training, from pictures in the cache to arrays; ``input_path.py`` has the peers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

pytest.importorskip("keras", reason="the extra [host] is not installed")

from host_tools.data.cache import PictureCache
from host_tools.data.load import Subset
from host_tools.data.pictures import Picture
from host_tools.recipe import AugmentationRecipe, DataRecipe, Recipe
from host_tools.train.batches import picture_batches, targets_of

_PICTURES, _SIDE, _CLASSES, _BATCH = 1024, 32, 10, 32
_EPOCH = f"an epoch of {_PICTURES} pictures of {_SIDE}x{_SIDE}, batches of {_BATCH}"


@pytest.fixture(scope="module")
def subset() -> Subset:
    """Pictures of noise: what they show costs nothing."""
    noise = np.random.default_rng(0)
    pixels = noise.integers(0, 256, (_PICTURES, _SIDE, _SIDE, 3), np.uint8)
    names = tuple(str(i) for i in range(_PICTURES))
    pictures = tuple(Picture(Path(f"{name}.png"), 0, None) for name in names)
    cache = PictureCache(pixels, pixels, pictures, names, ())
    return Subset(cache, np.arange(_PICTURES), np.arange(_PICTURES) % _CLASSES)


@pytest.mark.benchmark(group=_EPOCH)
def test_copies_alone(benchmark: BenchmarkFixture, subset: Subset) -> None:
    pixels, order = subset.pixels(), np.random.default_rng(0)

    def epoch() -> int:
        rows = order.permutation(_PICTURES).reshape(-1, _BATCH)
        return sum(len(pixels[batch]) for batch in rows)

    assert epoch() == _PICTURES
    benchmark(epoch)


@pytest.mark.benchmark(group=_EPOCH)
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(AugmentationRecipe(), id="no changes"),
        pytest.param(AugmentationRecipe(horizontal_flip=0.5), id="flip"),
        pytest.param(AugmentationRecipe(horizontal_flip=0.5, shift=0.1), id="flip and shift"),
        pytest.param(
            AugmentationRecipe(
                horizontal_flip=0.5, shift=0.1, rotation=15, shear=10, zoom=0.15, brightness=0.2
            ),
            id="all",
        ),
    ],
)
def test_epoch(benchmark: BenchmarkFixture, subset: Subset, how: AugmentationRecipe) -> None:
    recipe = Recipe("input", data=DataRecipe(width=_SIDE, height=_SIDE), augmentation=how)
    targets = targets_of(subset, recipe, _CLASSES)
    epochs = iter(range(1_000_000))

    def epoch() -> list[tuple[int, ...]]:
        batches = picture_batches(subset, targets, recipe, _BATCH, next(epochs))
        return [batches[index][0].shape for index in range(len(batches))]

    assert epoch() == [(_BATCH, _SIDE, _SIDE, 3)] * (_PICTURES // _BATCH)
    first = picture_batches(subset, targets, recipe, _BATCH, 0)
    assert sum(first[index][1].sum() for index in range(len(first))) == pytest.approx(_PICTURES)
    benchmark(epoch)
