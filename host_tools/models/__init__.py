"""Architectures: one file per family, one table of names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from host_tools.extras import require
from host_tools.models import airbench, applications, resdense, residual, small_cnn
from host_tools.models.head import add_head
from host_tools.models.pretrained import IMAGENET, NONE, load_weights
from host_tools.recipe import ModelRecipe, Recipe

# From (recipe, keras input tensor of 0..255) to a feature map (N, h, w, channels).
Backbone = Callable[[ModelRecipe, Any], Any]

ARCHITECTURES: dict[str, Backbone] = {
    "small-cnn": small_cnn.feature_map,
    "resnet8": residual.resnet8,
    "resnet20": residual.resnet20,
    "airbench": airbench.feature_map,
    "resdense": resdense.feature_map,
    **dict.fromkeys(applications.APPLICATIONS, applications.feature_map),
}


def build_model(
    recipe: Recipe,
    classes: int,
    *,
    size: tuple[int, int] | None = None,
    precision: str = "float32",
) -> Any:
    """The network of a recipe, untrained or with its pretrained part loaded.

    Args:
        recipe: says which.
        classes: number of outputs.
        size: (width, height) of the input where it is not the recipe's, as in a stage.
        precision: Keras' dtype policy for the layers; weights and logits are float32 in each.

    Returns:
        A ``keras.Model`` from ``(N, H, W, C)`` float32 RGB 0..255 to ``(N, classes)`` logits;
        normalisation is inside. The backbone ends in a layer called ``features``.

    Raises:
        RecipeError: weights that are missing or do not fit, an input too small for the network.
        MissingExtraError: Keras is not installed.
    """
    keras = require("keras")
    data, model = recipe.data, recipe.model
    width, height = size or (data.width, data.height)
    with dtype_policy(precision):
        channels = 3 if data.color == "rgb" else 1
        inputs = keras.Input((height, width, channels), name="image", dtype="float32")
        feature_map = ARCHITECTURES[model.architecture](model, inputs)
        if model.weights not in (NONE, IMAGENET):
            load_weights(keras.Model(inputs, feature_map), model)
        logits = add_head(model, feature_map, classes)
        return keras.Model(inputs, logits, name=recipe.name.replace("-", "_").replace(".", "_"))


def with_softmax(model: Any) -> Any:
    """The same network, ending in probabilities: what is saved and converted."""
    keras = require("keras")
    softmax = keras.layers.Softmax(name="probabilities", dtype="float32")
    return keras.Model(model.inputs, softmax(model.outputs[0]), name=model.name)


@contextlib.contextmanager
def dtype_policy(precision: str) -> Iterator[None]:
    """Keras builds with this policy for as long as it is open."""
    keras = require("keras")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
