"""Batches for Keras: shuffled and augmented anew in every epoch, the same way for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.data.augment import augment
from host_tools.data.load import Subset
from host_tools.extras import require
from host_tools.recipe import Recipe


def training_batches(subset: Subset, recipe: Recipe, classes: int, epoch: int) -> Any:
    """A ``keras.utils.PyDataset`` over a training split, for one epoch.

    Order and augmentation depend on the seed and the epoch alone: a resumed training draws what an
    uninterrupted one would have drawn.

    Args:
        subset: the pictures.
        recipe: batch size, seed, augmentation.
        classes: for one-hot labels.
        epoch: 0-based.

    Returns:
        Batches of ``(n, H, W, C)`` float32 in 0..255 and ``(n, classes)`` float32 one-hot labels.
    """
    training = recipe.training
    order = np.random.default_rng((training.seed, epoch)).permutation(len(subset))

    def batch(chosen: NDArray[np.int64], index: int) -> NDArray[np.uint8]:
        random = np.random.default_rng((training.seed, epoch, index))
        return augment(subset.pixels[chosen], recipe.augmentation, random)

    return _batches(subset, order, classes, training.batch_size, batch)


def plain_batches(subset: Subset, classes: int, batch_size: int) -> Any:
    """The same in order and without augmentation, for validation while training."""
    order = np.arange(len(subset))
    return _batches(subset, order, classes, batch_size, lambda chosen, _: subset.pixels[chosen])


def _batches(
    subset: Subset,
    order: NDArray[np.int64],
    classes: int,
    batch_size: int,
    pixels_of: Callable[[NDArray[np.int64], int], NDArray[np.uint8]],
) -> Any:
    keras = require("keras")
    eye = np.eye(classes, dtype=np.float32)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]  # Keras is untyped
        def __len__(self) -> int:
            return -(-len(order) // batch_size)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            chosen = order[index * batch_size : (index + 1) * batch_size]
            return pixels_of(chosen, index).astype(np.float32), eye[subset.labels[chosen]]

    return Batches()
