"""MLPerf Tiny's ResNet-8 (Banbury et al. 2021): three residual stages of 16, 32 and 64 channels."""

from __future__ import annotations

from typing import Any

from edge_sdk.errors import RecipeError
from host_tools.extras import require
from host_tools.recipe import ModelRecipe

_CHANNELS = (16, 32, 64)
_L2 = 1e-4  # as in the benchmark's own training script


def features(recipe: ModelRecipe, inputs: Any) -> Any:
    """``(N, 64 * width)`` features of ``(N, H, W, C)`` pixels in 0..255.

    Raises:
        RecipeError: pretrained weights were asked for; there are none.
    """
    keras = require("keras")
    layers = keras.layers
    if recipe.weights != "none":
        raise RecipeError('resnet8 has no pretrained weights; set model.weights = "none"')

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
        stride = 1 if stage == 1 else 2
        name = f"stage{stage}"
        y = norm(conv(x, width, 3, stride, f"{name}_conv1"), f"{name}_conv1")
        y = layers.ReLU(name=f"{name}_relu1")(y)
        y = norm(conv(y, width, 3, 1, f"{name}_conv2"), f"{name}_conv2")
        if stride > 1:
            x = conv(x, width, 1, stride, f"{name}_shortcut")
        x = layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, y]))
    return layers.GlobalAveragePooling2D(name="pool")(x)
