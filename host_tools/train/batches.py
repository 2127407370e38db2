"""Batches for Keras: shuffled and augmented differently in every epoch, reproducibly by seed.

A frozen base gives the same features for the same picture in every epoch, so they are cached, and an
epoch takes only the head's time. Each augmented variant is one more pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.data.augment import augment, mix
from host_tools.data.load import Dataset, Subset
from host_tools.extras import require
from host_tools.models import dtype_policy
from host_tools.models.head import FEATURES, trains_head_only
from host_tools.progress import progress
from host_tools.recipe import AugmentationRecipe, Recipe
from host_tools.train.distributed import ALONE, Team
from host_tools.train.stages import Stage

_BATCH = 32


def split_network(network: Any, precision: str = "float32") -> tuple[Any, Any]:
    """A network's base and its head, which share its weights: training the head trains the network.

    Args:
        network: from ``build_model``.
        precision: the one it was built with.

    Returns:
        ``keras.Model`` from pixels to features ``(N, F)``, and one from features to logits.
    """
    keras = require("keras")
    features = network.get_layer(FEATURES).output
    base = keras.Model(network.inputs, features, name="base")
    names = [layer.name for layer in network.layers]
    inputs = keras.Input(features.shape[1:], name="features")
    logits = inputs
    for layer in network.layers[names.index(FEATURES) + 1 :]:
        logits = layer(logits)
    with dtype_policy(precision):
        return base, keras.Model(inputs, logits, name="head")


def training_features(base: Any, subset: Subset, recipe: Recipe) -> NDArray[np.float32]:
    """``(variants, N, F)`` features: of the pictures as they are, then of augmented passes."""
    variants = []
    passes = recipe.training.feature_variants
    for variant in range(passes):
        how = recipe.augmentation if variant else None
        seed = (recipe.training.seed, variant)
        variants.append(
            _features(
                base,
                subset,
                how,
                seed,
                f"computing features, pass {variant + 1} of {recipe.training.feature_variants}",
            )
        )
    return np.stack(variants)


def plain_features(base: Any, subset: Subset) -> NDArray[np.float32]:
    """``(N, F)`` features of the pictures as they are."""
    return _features(base, subset, None, (0, 0), "computing features for validation")


def _features(
    base: Any, subset: Subset, how: AugmentationRecipe | None, seed: tuple[int, int], what: str
) -> NDArray[np.float32]:
    starts = range(0, len(subset), _BATCH)
    parts = []
    for start in progress(starts, what, len(starts)):
        random = np.random.default_rng((*seed, start))
        rows = np.arange(start, min(start + _BATCH, len(subset)))
        pixels = subset.pixels(rows)
        if how is not None:
            height, width = pixels.shape[1:3]
            pixels = augment(subset.large_pictures(rows), how, random, (width, height))
        parts.append(np.asarray(base.predict_on_batch(pixels), np.float32))
    return np.concatenate(parts)


# Inputs and targets of some pictures, from their indices and the batch's random generator.
_Draw = Callable[
    [NDArray[np.int64], NDArray[np.float32], np.random.Generator],
    tuple[NDArray[Any], NDArray[np.float32]],
]
# Threads that augment during training, and batches prepared ahead. Starting and stopping
# them takes a tenth of a second, so features and validation do without.
_WORKERS = min(4, os.cpu_count() or 1)
_AHEAD = 4


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """The training targets.

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
        targets: their labels and weights.
        recipe: seed, augmentation.
        batch_size: pictures per batch, of the whole team.
        epoch: 0-based.
        team: the processes that share each batch.

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
    """The same over features ``(variants, N, F)``: a random variant of each picture per epoch."""

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
    """Batches in order and without augmentation, for validation during training."""
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
        # The weight of a mixed picture is the mean of its parts' weights, by share.
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


# Small enough for the largest network, large enough to be fast.
_VALIDATION_BATCH = 64
_HEAD_STEPS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """A model with its training and validation batches.

    Attributes:
        model: the network, or its head alone, which shares its weights.
        batches: from a 0-based epoch to its training batches.
        held_out: validation batches; None: there are no such pictures.
        steps_at_once: that TensorFlow runs per Python call; a step of a head alone is shorter
            than the call.
    """

    model: Any
    batches: Callable[[int], Any]
    held_out: Any
    steps_at_once: int


def material_for(
    network: Any, dataset: Dataset, recipe: Recipe, stage: Stage, team: Team
) -> Material:
    """Prepares a stage: a frozen backbone is computed here, once, unless several devices share it."""
    classes = len(dataset.classes)
    subset, validation = dataset.splits["train"], dataset.splits["validation"]
    targets = targets_of(subset, recipe, classes)
    inputs_of: Callable[[Any], Any] = validation.pixels
    if trains_head_only(network) and team.devices == 1:
        (base, model), steps_at_once = (
            split_network(network, recipe.training.precision),
            _HEAD_STEPS,
        )
        features = training_features(base, subset, recipe)
        if len(validation):
            held_out_features = plain_features(base, validation)
            inputs_of = held_out_features.__getitem__

        def batches(epoch: int) -> Any:
            return feature_batches(features, targets, recipe, stage.batch_size, epoch)
    else:
        model, steps_at_once = network, 1

        def batches(epoch: int) -> Any:
            return picture_batches(subset, targets, recipe, stage.batch_size, epoch, team)

    held_out = None
    if len(validation):
        size = -(-_VALIDATION_BATCH // team.devices) * team.devices
        held_out = plain_batches(inputs_of, validation.labels, classes, size, team)
    return Material(model, batches, held_out, steps_at_once)
