"""The head on a backbone, and which layers of both are trained."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

from edge_sdk.errors import RecipeError
from host_tools.extras import require
from host_tools.recipe import ModelRecipe

# Where every backbone ends and every head begins.
FEATURES = "features"


def add_head(recipe: ModelRecipe, feature_map: Any, classes: int) -> Any:
    """Pools the feature map, then hidden layers as the recipe says, then ``(N, classes)`` logits."""
    layers = require("keras").layers
    pooling = {
        "avg": layers.GlobalAveragePooling2D,
        "max": layers.GlobalMaxPooling2D,
        "flatten": layers.Flatten,
    }
    x = pooling[recipe.pooling](name=FEATURES)(feature_map)
    for number, units in enumerate(recipe.head, 1):
        x = layers.Dense(units, use_bias=not recipe.batch_norm, name=f"hidden{number}")(x)
        if recipe.batch_norm:
            x = layers.BatchNormalization(name=f"hidden{number}_bn")(x)
        x = layers.Activation(recipe.activation, name=f"hidden{number}_{recipe.activation}")(x)
        if recipe.dropout:
            x = layers.Dropout(recipe.dropout, name=f"hidden{number}_dropout")(x)
    if recipe.dropout and not recipe.head:
        x = layers.Dropout(recipe.dropout, name="dropout")(x)
    return layers.Dense(classes, name="logits", dtype="float32")(x)


_LAST = re.compile(r"last-(\d+)")


def set_trainable(network: Any, recipe: ModelRecipe, which: str) -> None:
    """Sets what a stage trains; the head is always trained.

    Args:
        network: from ``build_model``; layers built as fixed, such as a stem, stay fixed.
        recipe: whether a pretrained backbone's batch normalisation is trained.
        which: as ``model.trainable``.

    Raises:
        RecipeError: a name that no layer has, or a choice that trains the head alone.
    """
    names = [layer.name for layer in network.layers]
    backbone = network.layers[: names.index(FEATURES)]
    chosen = _chosen(backbone, which)
    norm = require("keras").layers.BatchNormalization
    fixed_statistics = recipe.weights != "none" and not recipe.train_batch_norm
    for layer in backbone:
        # A layer that is not trainable also normalises by the statistics it came with.
        still = (fixed_statistics and isinstance(layer, norm)) or not layer.trainable
        layer.trainable = layer.name in chosen and not still
    for layer in network.layers[len(backbone) :]:
        layer.trainable = True
    if which != "head" and trains_head_only(network):
        raise RecipeError(
            f'model.trainable = "{which}": nothing of the backbone would be trained (its batch '
            "normalisation is frozen); give head, or more layers"
        )


def trains_head_only(network: Any) -> bool:
    """Whether only the head is trained, so that features can be computed once."""
    names = [layer.name for layer in network.layers]
    backbone = network.layers[: names.index(FEATURES)]
    return not any(layer.trainable_weights for layer in backbone)


def _chosen(backbone: list[Any], which: str) -> set[str]:
    with_weights = [layer.name for layer in backbone if layer.weights]
    if which == "all":
        return {layer.name for layer in backbone}
    if which == "head":
        return set()
    if last := _LAST.fullmatch(which):
        count = int(last[1])
        return set(with_weights[-count:]) if count else set()
    chosen: set[str] = set()
    for pattern in (part.strip() for part in which.split(",")):
        found = fnmatch.filter(with_weights, pattern)
        if not found:
            raise RecipeError(
                f"model.trainable: no layer is called {pattern!r}; give all, head, last-20, or "
                f"names such as {', '.join(with_weights[-3:])}; the report of a run lists all of them"
            )
        chosen |= set(found)
    return chosen
