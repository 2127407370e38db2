"""A three-block CNN: two convolutions and a pooling per block, batch-normalised."""

from __future__ import annotations

from typing import Any

from edge_sdk.errors import RecipeError
from host_tools.extras import require
from host_tools.recipe import ModelRecipe

_CHANNELS = (32, 64, 128)


def features(recipe: ModelRecipe, inputs: Any) -> Any:
    """``(N, 128 * width)`` features of ``(N, H, W, C)`` pixels in 0..255.

    Raises:
        RecipeError: pretrained weights were asked for; there are none.
    """
    layers = require("keras").layers
    if recipe.weights != "none":
        raise RecipeError('small-cnn has no pretrained weights; set model.weights = "none"')
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    for block, channels in enumerate(_CHANNELS, 1):
        for part in (1, 2):
            name = f"block{block}_conv{part}"
            width = max(8, round(channels * recipe.width))
            x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=name)(x)
            x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
        if block < len(_CHANNELS):
            x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return layers.GlobalAveragePooling2D(name="pool")(x)
