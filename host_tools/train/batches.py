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


def picture_batches(subset: Subset, recipe: Recipe, classes: int, epoch: int) -> Any:
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

    def inputs_of(chosen: NDArray[np.int64], random: np.random.Generator) -> NDArray[Any]:
        return augment(subset.pixels[chosen], recipe.augmentation, random)

    return _shuffled(subset.labels, recipe, classes, epoch, inputs_of)


def feature_batches(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    recipe: Recipe,
    classes: int,
    epoch: int,
) -> Any:
    """The same over features ``(variants, N, F)``: each picture in a variant drawn anew."""

    def inputs_of(chosen: NDArray[np.int64], random: np.random.Generator) -> NDArray[Any]:
        return features[random.integers(0, len(features), len(chosen)), chosen]

    return _shuffled(labels, recipe, classes, epoch, inputs_of)


def plain_batches(
    inputs: NDArray[Any], labels: NDArray[np.int64], classes: int, batch_size: int
) -> Any:
    """Batches in order and as they are, for validation while training."""
    return _batches(labels, np.arange(len(labels)), classes, batch_size, lambda c, _: inputs[c])


_Inputs = Callable[[NDArray[np.int64], int], NDArray[Any]]


def _shuffled(
    labels: NDArray[np.int64],
    recipe: Recipe,
    classes: int,
    epoch: int,
    inputs_of: Callable[[NDArray[np.int64], np.random.Generator], NDArray[Any]],
) -> Any:
    training = recipe.training
    order = np.random.default_rng((training.seed, epoch)).permutation(len(labels))

    def drawn(chosen: NDArray[np.int64], index: int) -> NDArray[Any]:
        return inputs_of(chosen, np.random.default_rng((training.seed, epoch, index)))

    return _batches(labels, order, classes, training.batch_size, drawn)


def _batches(
    labels: NDArray[np.int64],
    order: NDArray[np.int64],
    classes: int,
    batch_size: int,
    inputs_of: _Inputs,
) -> Any:
    keras = require("keras")
    eye = np.eye(classes, dtype=np.float32)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]  # Keras is untyped
        def __len__(self) -> int:
            return -(-len(order) // batch_size)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            chosen = order[index * batch_size : (index + 1) * batch_size]
            return inputs_of(chosen, index).astype(np.float32), eye[labels[chosen]]

    return Batches()
