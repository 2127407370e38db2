"""A hybrid: residual blocks that refine, dense blocks that collect (He et al. 2015, Huang et al. 2016).

Each stage halves the picture in a residual block, then a dense block appends what its layers find
to what came in, and a 1x1 convolution chooses from it.
"""

from __future__ import annotations

from typing import Any

from host_tools.extras import require
from host_tools.models.pretrained import refuse_weights
from host_tools.recipe import ModelRecipe

_CHANNELS = (64, 128, 256)  # per stage, after the residual block
_GROWTH = 32  # channels that each layer of a dense block appends
_DENSE_LAYERS = 4


def feature_map(recipe: ModelRecipe, inputs: Any) -> Any:
    """``(N, H / 8, W / 8, 256 * width)`` of ``(N, H, W, C)`` pixels in 0..255.

    Raises:
        RecipeError: pretrained weights were requested; there are none.
    """
    layers = require("keras").layers
    refuse_weights(recipe)

    def conv(x: Any, channels: int, size: int, name: str, stride: int = 1) -> Any:
        x = layers.Conv2D(
            channels,
            size,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=name,
        )(x)
        return layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)

    def relu(x: Any, name: str) -> Any:
        return layers.ReLU(name=f"{name}_relu")(x)

    def residual(x: Any, channels: int, name: str) -> Any:
        y = relu(conv(x, channels, 3, f"{name}_conv1", stride=2), f"{name}_conv1")
        y = conv(y, channels, 3, f"{name}_conv2")
        shortcut = conv(x, channels, 1, f"{name}_shortcut", stride=2)
        return relu(layers.Add(name=f"{name}_add")([shortcut, y]), name)

    def dense(x: Any, growth: int, name: str) -> Any:
        for number in range(1, _DENSE_LAYERS + 1):
            part = f"{name}_{number}"
            y = relu(conv(x, 2 * growth, 1, f"{part}_bottleneck"), f"{part}_bottleneck")
            y = relu(conv(y, growth, 3, f"{part}_conv"), f"{part}_conv")
            x = layers.Concatenate(name=f"{part}_concat")([x, y])
        return x

    widths = [max(8, round(channels * recipe.width)) for channels in _CHANNELS]
    growth = max(8, round(_GROWTH * recipe.width))
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(inputs)
    x = relu(conv(x, widths[0] // 2, 3, "stem"), "stem")
    for stage, width in enumerate(widths, 1):
        x = residual(x, width, f"stage{stage}_residual")
        x = dense(x, growth, f"stage{stage}_dense")
        x = relu(conv(x, width, 1, f"stage{stage}_choice"), f"stage{stage}_choice")
    return x
