"""Convolutions and pooling without shortcuts: learns small pictures in few and cheap epochs.

After the network of Jordan's CIFAR-10 speed records (2024, arXiv:2404.00498): a 2 x 2 stem, then three
blocks of a convolution, max-pooling, and a second convolution. Narrower than there, and with ReLU
instead of GELU, which the int8 kernels compute together with the convolution.
"""

from __future__ import annotations

from typing import Any

from edge_sdk.errors import RecipeError
from host_tools.extras import require
from host_tools.models.pretrained import refuse_weights
from host_tools.recipe import ModelRecipe

_STEM = 24
_CHANNELS = (64, 128, 128)
_SMALLEST = 9  # side in pixels: one is left after the stem and three poolings
# The weights change fast in so short a training: their statistics must follow.
_MOMENTUM = 0.9


def feature_map(recipe: ModelRecipe, inputs: Any) -> Any:
    """``(N, H / 8, W / 8, 128 * width)`` of ``(N, H, W, C)`` pixels in 0..255.

    Raises:
        RecipeError: the input is too small, or pretrained weights were asked for; there are none.
    """
    layers = require("keras").layers
    refuse_weights(recipe)
    height, width = inputs.shape[1:3]
    if min(height, width) < _SMALLEST:
        raise RecipeError(
            f"{recipe.architecture} needs pictures of at least {_SMALLEST} x {_SMALLEST} pixels, got "
            f"{width} x {height}; set data.width, data.height or the stage's, or choose another "
            "model.architecture"
        )

    def conv(x: Any, channels: int, size: int, name: str) -> Any:
        return layers.Conv2D(
            channels,
            size,
            padding="valid" if size == 2 else "same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=name,
        )(x)

    def norm_relu(x: Any, name: str) -> Any:
        x = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    x = norm_relu(conv(x, _STEM, 2, "stem"), "stem")
    for block, channels in enumerate(_CHANNELS, 1):
        filters = max(8, round(channels * recipe.width))
        name = f"block{block}_conv1"
        x = conv(x, filters, 3, name)
        x = norm_relu(layers.MaxPooling2D(name=f"block{block}_pool")(x), name)
        name = f"block{block}_conv2"
        x = norm_relu(conv(x, filters, 3, name), name)
        if recipe.block_dropout:
            x = layers.Dropout(recipe.block_dropout, name=f"block{block}_dropout")(x)
    return x
