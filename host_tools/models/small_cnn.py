"""A three-block CNN, two convolutions and a pooling each, with the steps of its ablation."""

from __future__ import annotations

from typing import Any

from host_tools.extras import require
from host_tools.models.pretrained import refuse_weights
from host_tools.recipe import ModelRecipe

_CHANNELS = (32, 64, 128)


def feature_map(recipe: ModelRecipe, inputs: Any) -> Any:
    """``(N, H / 4, W / 4, 128 * width)`` of ``(N, H, W, C)`` pixels in 0..255.

    Raises:
        RecipeError: pretrained weights were requested; there are none.
    """
    layers = require("keras").layers
    refuse_weights(recipe)
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    for block, channels in enumerate(_CHANNELS, 1):
        for part in (1, 2):
            name = f"block{block}_conv{part}"
            width = max(8, round(channels * recipe.width))
            bias = not recipe.batch_norm
            x = layers.Conv2D(
                width, 3, padding="same", use_bias=bias, kernel_initializer="he_normal", name=name
            )(x)
            if recipe.batch_norm:
                x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
        if block < len(_CHANNELS):
            x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
        if recipe.block_dropout:
            x = layers.Dropout(recipe.block_dropout, name=f"block{block}_dropout")(x)
    return x
