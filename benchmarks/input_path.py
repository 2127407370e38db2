"""The training input beside Keras' ImageDataGenerator: CPU per picture and epoch, the same changes.

    python benchmarks/input_path.py --data trashnet/ --small cifar10/ [--json FILE]

Both read the same pictures, augment them the same way and hand over batches of 32 as float32
tensors; CPU is counted over all threads of the process, in turns, after one epoch that fills caches
and file buffers. Channel shuffle, coarse dropout, MixUp, CutMix and RandAugment the generator does
not have, so they are left out. Exit code 1: a target is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.data.load import DataPlace, Subset, load_for
from host_tools.extras import require
from host_tools.recipe import AugmentationRecipe, DataRecipe, Recipe
from host_tools.train.batches import picture_batches, targets_of

_TARGET = 10.0
_BATCH = 32
_ROUNDS = 3
# (name, ours, the generator's)
_CHANGES: tuple[tuple[str, AugmentationRecipe, dict[str, Any]], ...] = (
    ("flip", AugmentationRecipe(horizontal_flip=0.5), {"horizontal_flip": True}),
    (
        "flip and shift",
        AugmentationRecipe(horizontal_flip=0.5, shift=0.1),
        {"horizontal_flip": True, "width_shift_range": 0.1, "height_shift_range": 0.1},
    ),
    (
        "flip, shift, rotation, shear, zoom, brightness",
        AugmentationRecipe(
            horizontal_flip=0.5, shift=0.1, rotation=15, shear=10, zoom=0.15, brightness=0.2
        ),
        {
            "horizontal_flip": True,
            "width_shift_range": 0.1,
            "height_shift_range": 0.1,
            "rotation_range": 15,
            "shear_range": 10,
            "zoom_range": 0.15,
            "brightness_range": (0.8, 1.2),
        },
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="photographs, for 224 px")
    parser.add_argument("--small", type=Path, required=True, help="small pictures, for 32 px")
    parser.add_argument("--pictures", type=int, default=640, help="per epoch")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    rows = [
        _compare(data, side, arguments.pictures, *change)
        for data, side in ((arguments.data, 224), (arguments.small, 32))
        for change in _CHANGES
    ]
    print("| px | changes | ImageDataGenerator ms | edgecls ms | ratio |\n|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['side_px']} | {row['changes']} | {row['generator_ms']:.3f} | "
            f"{row['edgecls_ms']:.4f} | {row['ratio']:.1f} |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    sys.exit(any(row["ratio"] < _TARGET for row in rows))


def _compare(
    data: Path, side: int, pictures: int, name: str, how: AugmentationRecipe, theirs: dict[str, Any]
) -> dict[str, Any]:
    recipe = Recipe(
        "input", data=DataRecipe(width=side, height=side, crop="squash"), augmentation=how
    )
    dataset = load_for(recipe, DataPlace(data), lambda _: None)
    subset = _first(dataset.splits["train"], pictures)
    ours = _ours(subset, recipe, len(dataset.classes))
    generator = _generator(data, subset, len(dataset.classes), side, theirs)
    ours(), generator()  # caches and file buffers are warm for both
    pairs = [(_cpu_s(generator), _cpu_s(ours)) for _ in range(_ROUNDS)]
    generator_s, ours_s = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {
        "side_px": side,
        "changes": name,
        "generator_ms": 1e3 * generator_s / pictures,
        "edgecls_ms": 1e3 * ours_s / pictures,
        "ratio": statistics.median(theirs / ours for theirs, ours in pairs),
    }


def _first(subset: Subset, pictures: int) -> Subset:
    spread = np.linspace(0, len(subset) - 1, pictures).astype(int)
    return Subset(subset.cache, subset.rows[spread], subset.labels[spread])


def _ours(subset: Subset, recipe: Recipe, classes: int) -> Callable[[], None]:
    targets = targets_of(subset, recipe, classes)
    epochs = iter(range(1_000_000))

    def epoch() -> None:
        batches = picture_batches(subset, targets, recipe, _BATCH, next(epochs))
        seen = 0
        for index in range(len(batches)):
            pixels, wanted, _ = batches[index]
            seen += len(_as_tensor(pixels))
            assert len(wanted) == len(pixels)
        assert seen == len(subset)

    return epoch


def _generator(
    data: Path, subset: Subset, classes: int, side: int, theirs: dict[str, Any]
) -> Callable[[], None]:
    """The usual way: from the folder for photographs, from an array for small pictures."""
    image = require("keras.src.legacy.preprocessing.image")
    made = image.ImageDataGenerator(fill_mode="reflect", **theirs)
    if side < 64:
        targets = np.eye(classes, dtype=np.float32)[subset.labels]
        batches = made.flow(subset.pixels(), targets, batch_size=_BATCH)
    else:
        size = (side, side)
        batches = made.flow_from_directory(str(data), target_size=size, batch_size=_BATCH)

    def epoch() -> None:
        seen = 0
        while seen < len(subset):
            pixels, wanted = next(batches)
            pixels = _as_tensor(pixels)
            assert pixels.shape[1:] == (side, side, 3)
            assert len(wanted) == len(pixels)
            seen += len(pixels)

    return epoch


def _as_tensor(pixels: NDArray[Any]) -> Any:
    """What the network is given: a float32 tensor of TensorFlow's."""
    tensorflow = require("tensorflow")
    return tensorflow.cast(tensorflow.convert_to_tensor(pixels), tensorflow.float32)


def _cpu_s(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
