"""Convolutions and pooling without shortcuts: trains on small pictures in few, cheap epochs.

After the network of Jordan's CIFAR-10 speed records (2024, arXiv:2404.00498): a fixed 2 x 2 stem that
whitens, then three blocks of a convolution, max-pooling, and a second convolution. Narrower than there,
and with ReLU instead of GELU, which the int8 kernels compute together with the convolution.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sdk.errors import RecipeError
from host_tools.extras import require
from host_tools.models.pretrained import refuse_weights
from host_tools.recipe import ModelRecipe

_CHANNELS = (64, 128, 128)
_SMALLEST = 9  # side in pixels: one is left after the stem and three poolings
# The weights change fast in a short training; the moving averages must follow.
_MOMENTUM = 0.9

# Neighbouring pixels of photographs differ little, and their colours less: brightness, differences and
# opponent colours are what whitens them, nearly the same for all photographs. Factors that bring each to
# a standard deviation of about one (0.7 to 1.2), measured on CIFAR-10's training pictures at -1..1.
_BY_DIFFERENCES = (0.18, 1.0, 2.5)
_OPPONENT = ((1.0, 1.0, 1.0), (5.0, 0.0, -5.0), (-6.0, 12.0, -6.0))


def feature_map(recipe: ModelRecipe, inputs: Any) -> Any:
    """``(N, H / 8, W / 8, 128 * width)`` of ``(N, H, W, C)`` pixels in 0..255.

    Raises:
        RecipeError: the input is too small, or pretrained weights were requested; there are none.
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

    def conv(x: Any, channels: int, name: str) -> Any:
        return layers.Conv2D(
            channels,
            3,
            padding="same",
            use_bias=not recipe.batch_norm,
            kernel_initializer="he_normal",
            name=name,
        )(x)

    def norm_relu(x: Any, name: str) -> Any:
        if recipe.batch_norm:
            x = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(inputs)
    kernel = _stem_kernel(inputs.shape[-1])
    # Needs no gradient, which would be the largest of all.
    stem = layers.Conv2D(kernel.shape[-1], 2, use_bias=False, trainable=False, name="stem")
    x = layers.ReLU(name="stem_relu")(stem(x))
    stem.set_weights([kernel])
    for block, channels in enumerate(_CHANNELS, 1):
        filters = max(8, round(channels * recipe.width))
        name = f"block{block}_conv1"
        x = conv(x, filters, name)
        x = norm_relu(layers.MaxPooling2D(name=f"block{block}_pool")(x), name)
        name = f"block{block}_conv2"
        x = norm_relu(conv(x, filters, name), name)
        if recipe.block_dropout:
            x = layers.Dropout(recipe.block_dropout, name=f"block{block}_dropout")(x)
    return x


def _stem_kernel(channels: int) -> npt.NDArray[np.float32]:
    """``(2, 2, channels, 8 * channels)``: every filter, then every filter's negative for the ReLU."""
    colors = np.array(_OPPONENT if channels == 3 else np.eye(channels))
    filters = [
        _BY_DIFFERENCES[down + right]
        * np.outer((1, 1 - 2 * down), (1, 1 - 2 * right))[..., None]
        * color
        for down, right in itertools.product((0, 1), repeat=2)
        for color in colors
    ]
    kernel = np.stack(filters, axis=-1)
    return np.concatenate([kernel, -kernel], axis=-1).astype(np.float32)
