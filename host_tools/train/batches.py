"""Batches for Keras: shuffled and augmented anew in every epoch, the same way for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from host_tools.data.augment import augment
from host_tools.data.load import Subset
from host_tools.extras import require
from host_tools.recipe import Recipe


def training_batches(subset: Subset, recipe: Recipe, classes: int, first_epoch: int) -> Any:
    """A ``keras.utils.PyDataset`` over a training split.

    Args:
        subset: the pictures.
        recipe: batch size, seed, augmentation.
        classes: for one-hot labels.
        first_epoch: 0, or the epoch that a resumed training begins with.

    Returns:
        Batches of ``(n, H, W, C)`` float32 in 0..255 and ``(n, classes)`` float32 one-hot labels.
    """
    keras = require("keras")
    training = recipe.training
    eye = np.eye(classes, dtype=np.float32)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]  # Keras has no type information
        def __init__(self) -> None:
            super().__init__()
            self.epoch = first_epoch
            self._shuffle()

        def _shuffle(self) -> None:
            # A generator per epoch: a resumed training draws what an uninterrupted one would have.
            self.random = np.random.default_rng((training.seed, self.epoch))
            self.order = self.random.permutation(len(subset))

        def __len__(self) -> int:
            return -(-len(subset) // training.batch_size)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            start = index * training.batch_size
            chosen = self.order[start : start + training.batch_size]
            random = np.random.default_rng((training.seed, self.epoch, index))
            pixels = augment(subset.pixels[chosen], recipe.augmentation, random)
            return pixels.astype(np.float32), eye[subset.labels[chosen]]

        def on_epoch_end(self) -> None:
            self.epoch += 1
            self._shuffle()

    return Batches()


def plain_batches(subset: Subset, classes: int, batch_size: int) -> Any:
    """The same without shuffling and augmentation, for validation while training."""
    keras = require("keras")
    eye = np.eye(classes, dtype=np.float32)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]  # Keras has no type information
        def __len__(self) -> int:
            return -(-len(subset) // batch_size)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            part = slice(index * batch_size, (index + 1) * batch_size)
            return subset.pixels[part].astype(np.float32), eye[subset.labels[part]]

    return Batches()
