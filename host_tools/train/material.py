"""What a stage trains, on what: the network on pictures, or its head on features computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from host_tools.data.load import Dataset
from host_tools.models.freeze import trains_head_only
from host_tools.recipe import Recipe
from host_tools.train.batches import feature_batches, picture_batches, plain_batches, targets_of
from host_tools.train.distributed import Team
from host_tools.train.stages import Stage
from host_tools.train.transfer import plain_features, split_network, training_features

# Small enough for the largest network, large enough not to matter.
_VALIDATION_BATCH = 64
_HEAD_STEPS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What is trained on what.

    Attributes:
        model: the network, or its head alone, which shares its weights.
        batches: from a 0-based epoch to its training batches.
        held_out: validation batches; None: there are no such pictures.
        steps_at_once: that TensorFlow takes between two looks from Python; a step of a head alone
            is shorter than the look.
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
