"""Residual networks for small pictures, three stages of 16, 32 and 64 channels.

ResNet-8 is MLPerf Tiny's (Banbury et al. 2021), ResNet-20 CIFAR's (He et al. 2015).
"""

from __future__ import annotations

from typing import Any

from host_tools.extras import require
from host_tools.models.pretrained import refuse_weights
from host_tools.recipe import ModelRecipe

_CHANNELS = (16, 32, 64)
_L2 = 1e-4  # as in the benchmark's own training script and in the paper


def resnet8(recipe: ModelRecipe, inputs: Any) -> Any:
    """One residual block per stage: ``(N, H / 4, W / 4, 64 * width)`` of pixels in 0..255.

    Raises:
        RecipeError: pretrained weights were requested; there are none.
    """
    return _residual(recipe, inputs, blocks=1)


def resnet20(recipe: ModelRecipe, inputs: Any) -> Any:
    """Three residual blocks per stage; see ``resnet8``."""
    return _residual(recipe, inputs, blocks=3)


def _residual(recipe: ModelRecipe, inputs: Any, *, blocks: int) -> Any:
    keras = require("keras")
    layers = keras.layers
    refuse_weights(recipe)

    def conv(x: Any, channels: int, size: int, stride: int, name: str) -> Any:
        return layers.Conv2D(
            channels,
            size,
            strides=stride,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L2(_L2),
            name=name,
        )(x)

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(name=f"{name}_bn")(x)

    widths = [max(8, round(channels * recipe.width)) for channels in _CHANNELS]
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    x = layers.ReLU(name="stem_relu")(norm(conv(x, widths[0], 3, 1, "stem"), "stem"))
    for stage, width in enumerate(widths, 1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            name = f"stage{stage}" if blocks == 1 else f"stage{stage}_block{block}"
            y = norm(conv(x, width, 3, stride, f"{name}_conv1"), f"{name}_conv1")
            y = layers.ReLU(name=f"{name}_relu1")(y)
            y = norm(conv(y, width, 3, 1, f"{name}_conv2"), f"{name}_conv2")
            if stride > 1:
                x = conv(x, width, 1, stride, f"{name}_shortcut")
            x = layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, y]))
    return x
