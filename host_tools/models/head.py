"""The head: from a backbone's feature map to logits."""

from __future__ import annotations

from typing import Any

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
