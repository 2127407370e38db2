"""Batches for Keras: shuffled and augmented anew in every epoch, the same way for the same seed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.data.augment import augment, mix
from host_tools.data.load import Subset
from host_tools.extras import require
from host_tools.recipe import Recipe
from host_tools.train.distributed import ALONE, Team

# Inputs and targets of some pictures, from their indices and the batch's own chance.
_Draw = Callable[
    [NDArray[np.int64], NDArray[np.float32], np.random.Generator],
    tuple[NDArray[Any], NDArray[np.float32]],
]
# Threads that augment while the network works, and batches they are ahead. Starting and stopping
# them costs a tenth of a second, so what needs no work (features, validation) does without.
_WORKERS = min(4, os.cpu_count() or 1)
_AHEAD = 4


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What the network should answer.

    Attributes:
        labels: ``(N,)`` int64.
        weights: ``(classes,)`` float32, how much a picture of each class counts.
    """

    labels: NDArray[np.int64]
    weights: NDArray[np.float32]

    @property
    def classes(self) -> int:
        return len(self.weights)

    def one_hot(self, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """``(n, classes)`` float32."""
        wanted = np.zeros((len(chosen), self.classes), np.float32)
        wanted[np.arange(len(chosen)), self.labels[chosen]] = 1
        return wanted


def targets_of(subset: Subset, recipe: Recipe, classes: int) -> Targets:
    """The labels of a training split and the weights of its classes.

    ``balanced`` is N / (classes * N of the class), as scikit-learn has it: every class counts alike.
    """
    weights = np.ones(classes, np.float32)
    if recipe.training.class_weights == "balanced":
        counts = np.bincount(subset.labels, minlength=classes)
        weights = (len(subset) / (classes * np.maximum(counts, 1))).astype(np.float32)
    return Targets(subset.labels, weights)


def picture_batches(
    subset: Subset,
    targets: Targets,
    recipe: Recipe,
    batch_size: int,
    epoch: int,
    team: Team = ALONE,
) -> Any:
    """A ``keras.utils.PyDataset`` over a training split, for one epoch.

    Order and augmentation depend on the seed and the epoch alone: a resumed training draws what an
    uninterrupted one would have drawn.

    Args:
        subset: the pictures.
        targets: what they are.
        recipe: seed, augmentation.
        batch_size: pictures per batch, of the whole team.
        epoch: 0-based.
        team: among which each batch is shared.

    Returns:
        Batches of ``(n, H, W, C)`` uint8, ``(n, classes)`` float32 targets and ``(n,)`` weights.
    """
    height, width = subset.cache.exact.shape[1:3]
    how = recipe.augmentation

    def draw(
        chosen: NDArray[np.int64], wanted: NDArray[np.float32], random: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        pixels = augment(subset.large_pictures(chosen), how, random, (width, height))
        return mix(pixels, wanted, how, random)

    return _shuffled(targets, recipe.training.seed, batch_size, epoch, draw, _WORKERS, team)


def feature_batches(
    features: NDArray[np.float32], targets: Targets, recipe: Recipe, batch_size: int, epoch: int
) -> Any:
    """The same over features ``(variants, N, F)``: each picture in a variant drawn anew."""

    def draw(
        chosen: NDArray[np.int64], wanted: NDArray[np.float32], random: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        return features[random.integers(0, len(features), len(chosen)), chosen], wanted

    return _shuffled(targets, recipe.training.seed, batch_size, epoch, draw, 1, ALONE)


def plain_batches(
    inputs_of: Callable[[NDArray[np.int64]], NDArray[Any]],
    labels: NDArray[np.int64],
    classes: int,
    batch_size: int,
    team: Team = ALONE,
) -> Any:
    """Batches in order and as they are, for validation while training."""
    targets = Targets(labels, np.ones(classes, np.float32))

    def batch(chosen: NDArray[np.int64], _: int) -> tuple[Any, ...]:
        return inputs_of(chosen), targets.one_hot(chosen)

    return _batches(np.arange(len(labels)), batch_size, batch, 1, team)


def _shuffled(
    targets: Targets,
    seed: int,
    batch_size: int,
    epoch: int,
    draw: _Draw,
    workers: int,
    team: Team,
) -> Any:
    own = (team.rank,) if team.rank else ()  # the processes of a team augment differently
    order = np.random.default_rng((seed, epoch)).permutation(len(targets.labels))

    def batch(chosen: NDArray[np.int64], index: int) -> tuple[Any, ...]:
        # (seed, epoch), which is (seed, epoch, 0), drew the order.
        random = np.random.default_rng((seed, epoch, index + 1, *own))
        inputs, wanted = draw(chosen, targets.one_hot(chosen), random)
        # A mixed picture counts as much as what it is mixed of.
        return inputs, wanted, wanted @ targets.weights

    return _batches(order, batch_size, batch, workers, team)


def _batches(
    order: NDArray[np.int64],
    batch_size: int,
    batch: Callable[[NDArray[np.int64], int], tuple[Any, ...]],
    workers: int,
    team: Team,
) -> Any:
    keras = require("keras")
    order = team.whole(order)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]  # Keras is untyped
        def __len__(self) -> int:
            return -(-len(order) // batch_size)

        def __getitem__(self, index: int) -> tuple[Any, ...]:
            return batch(team.share(order[index * batch_size : (index + 1) * batch_size]), index)

    return Batches(workers=workers, max_queue_size=_AHEAD)
