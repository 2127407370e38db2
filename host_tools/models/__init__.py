"""Architectures: one file per family, one table of names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from host_tools.models import mobilenet_v2, resnet8, small_cnn
from host_tools.recipe import ModelRecipe, Recipe

# From (recipe, keras input tensor of 0..255) to a feature tensor (N, features).
Backbone = Callable[[ModelRecipe, Any], Any]

ARCHITECTURES: dict[str, Backbone] = {
    "small-cnn": small_cnn.features,
    "resnet8": resnet8.features,
    "mobilenet-v2": mobilenet_v2.features,
}


def build_model(recipe: Recipe, classes: int) -> Any:
    """The network of a recipe, untrained or with its pretrained part loaded.

    Args:
        recipe: says which.
        classes: number of outputs.

    Returns:
        A ``keras.Model`` from ``(N, H, W, C)`` float32 RGB 0..255 to ``(N, classes)`` logits;
        normalisation is inside.

    Raises:
        RecipeError: weights that are missing or do not fit.
        MissingExtraError: Keras is not installed.
    """
    from host_tools.extras import require

    keras = require("keras")
    data, model = recipe.data, recipe.model
    inputs = keras.Input((data.height, data.width, 3 if data.color == "rgb" else 1), name="image")
    features = ARCHITECTURES[model.architecture](model, inputs)
    if model.dropout:
        features = keras.layers.Dropout(model.dropout, name="dropout")(features)
    logits = keras.layers.Dense(classes, name="logits")(features)
    return keras.Model(inputs, logits, name=recipe.name.replace("-", "_").replace(".", "_"))


def with_softmax(model: Any) -> Any:
    """The same network, ending in probabilities: what is saved and converted."""
    from host_tools.extras import require

    keras = require("keras")
    softmax = keras.layers.Softmax(name="probabilities", dtype="float32")
    return keras.Model(model.inputs, softmax(model.outputs[0]), name=model.name)
