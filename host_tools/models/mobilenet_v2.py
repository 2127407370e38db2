"""Keras Applications' MobileNetV2 (Sandler et al. 2018) without its classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_sdk.errors import RecipeError
from host_tools.extras import require
from host_tools.recipe import ModelRecipe


def features(recipe: ModelRecipe, inputs: Any) -> Any:
    """``(N, 1280)`` features of ``(N, H, W, 3)`` pixels in 0..255.

    Raises:
        RecipeError: an input that is not RGB of at least 32x32, or weights that cannot be had
            or do not fit.
    """
    keras = require("keras")
    _, height, width, channels = inputs.shape
    if channels != 3 or min(height, width) < 32:
        raise RecipeError(
            f"mobilenet-v2 needs RGB pictures of at least 32x32, got {width}x{height}x{channels}"
        )
    base = _base(keras, recipe, (height, width, 3))
    base.trainable = recipe.trainable == "all"
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(inputs)
    # training=False keeps the statistics of the pretrained batch normalisation while only the head
    # learns; with everything trainable they learn too.
    x = base(x, training=None if base.trainable else False)
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


def _base(keras: Any, recipe: ModelRecipe, shape: tuple[int, int, int]) -> Any:
    arguments = {"input_shape": shape, "alpha": recipe.width, "include_top": False}
    build = keras.applications.MobileNetV2
    if recipe.weights in ("none", "imagenet"):
        weights = None if recipe.weights == "none" else "imagenet"
        try:
            return build(**arguments, weights=weights)
        except Exception as error:  # urllib, h5py and Keras each raise their own
            raise RecipeError(
                f"model.weights = {recipe.weights!r}: Keras could not get them ({error}); without "
                "the internet, set model.weights to the path of a weights file"
            ) from error
    path = Path(recipe.weights)
    if not path.is_file():
        raise RecipeError(
            f"model.weights: {path} is not a file; give none, imagenet, or a path to weights"
        )
    base = build(**arguments, weights=None)
    try:
        base.load_weights(str(path))
    except (ValueError, OSError, KeyError) as error:
        raise RecipeError(
            f"model.weights: {path} does not fit MobileNetV2 with model.width = {recipe.width:g} "
            f"({str(error).splitlines()[0]})"
        ) from error
    return base
