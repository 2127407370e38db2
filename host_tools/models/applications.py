"""Keras Applications without their classifiers, each with the normalisation of its training."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from edge_sdk.errors import DownloadError, RecipeError
from host_tools.download import bounded_downloads
from host_tools.extras import require
from host_tools.models.pretrained import (
    CAFFE,
    IMAGENET,
    NONE,
    trained_model,
    turn_first_kernel,
)
from host_tools.recipe import ModelRecipe

Normalization = Literal["symmetric", "caffe", "own"]

# Means of ImageNet's training pictures, RGB, as in keras.applications' own preprocess_input.
_CAFFE_MEANS = (123.68, 116.779, 103.939)
# EfficientNet-B0's ImageNet weights were trained on inputs divided by the variance, where its
# Normalization layer divides by its square root. Keras appends these factors to it, but only when it
# loads the weights itself (keras.applications.efficientnet, weights == "imagenet").
_ROOT_FACTORS = tuple(1 / math.sqrt(deviation) for deviation in (0.229, 0.224, 0.225))
# Of BatchNorm's averages, where a network is not pretrained: the MobileNets' own 0.999 suits a million
# steps; after two thousand an eighth of the average is still its initial value.
_MOST_MOMENTUM = 0.99


class Application(NamedTuple):
    """One network of Keras Applications.

    Attributes:
        constructor: its name in ``keras.applications``.
        normalization: of its input. symmetric: -1..1; caffe: means subtracted, channels in BGR
            order (the first kernel is reversed instead); own: its first layers do it.
        smallest: side of the smallest input, in pixels.
        has_width: whether it has a multiplier of its channels.
        rescaled: whether its ImageNet weights need ``_ROOT_FACTORS`` on its normalised input.
    """

    constructor: str
    normalization: Normalization
    smallest: int = 32
    has_width: bool = False
    rescaled: bool = False


APPLICATIONS: dict[str, Application] = {
    "vgg16": Application("VGG16", "caffe"),
    "vgg19": Application("VGG19", "caffe"),
    "resnet50": Application("ResNet50", "caffe"),
    "inception-v3": Application("InceptionV3", "symmetric", smallest=75),
    "inception-resnet-v2": Application("InceptionResNetV2", "symmetric", smallest=75),
    "xception": Application("Xception", "symmetric", smallest=71),
    "efficientnet-b0": Application("EfficientNetB0", "own", rescaled=True),
    "efficientnet-v2-b0": Application("EfficientNetV2B0", "own"),
    "mobilenet": Application("MobileNet", "symmetric", has_width=True),
    "mobilenet-v2": Application("MobileNetV2", "symmetric", has_width=True),
    "mobilenet-v3-small": Application("MobileNetV3Small", "own", has_width=True),
}


def feature_map(recipe: ModelRecipe, inputs: Any) -> Any:
    """The last feature map ``(N, h, w, channels)`` of ``(N, H, W, 3)`` RGB pixels in 0..255.

    Raises:
        RecipeError: an input that is not RGB or too small, a width it does not have, or weights
            that cannot be downloaded or do not fit.
    """
    keras = require("keras")
    application = APPLICATIONS[recipe.architecture]
    _check(recipe, application, inputs.shape)
    build = getattr(keras.applications, application.constructor)
    arguments: dict[str, Any] = {"include_top": False}
    if application.has_width:
        arguments["alpha"] = recipe.width
    x = _normalized(keras, application, inputs)
    try:
        weights = IMAGENET if recipe.weights == IMAGENET else None
        with bounded_downloads():
            base = build(input_tensor=x, weights=weights, **arguments)
    except DownloadError as error:
        raise RecipeError(
            f'model.weights = "imagenet": {error}; without the internet, get that file elsewhere and '
            "set model.weights to its path"
        ) from error
    except Exception as error:  # urllib, h5py and Keras each raise their own
        if recipe.weights != IMAGENET:
            raise RecipeError(
                f"{recipe.architecture}: Keras cannot build it with model.width = {recipe.width:g} "
                f"for {inputs.shape[2]} x {inputs.shape[1]} pixels ({error})"
            ) from error
        raise RecipeError(
            f'model.weights = "imagenet": Keras could not download them ({error}); without the internet, '
            "set model.weights to the path of a weights file"
        ) from error
    if application.rescaled and recipe.weights not in (NONE, IMAGENET):
        trained = trained_model(recipe)
        # A file of weights alone is what Keras would have downloaded; a model of ours shows its layers.
        if trained is None or any(map(_multiplies_roots, trained.layers)):
            base = _with_root_factors(keras, base)
    if recipe.weights == IMAGENET and application.normalization == "caffe":
        turn_first_kernel(base)
    if recipe.weights == NONE:
        for layer in base.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = min(layer.momentum, _MOST_MOMENTUM)
    return base.output


def _check(recipe: ModelRecipe, application: Application, shape: tuple[Any, ...]) -> None:
    _, height, width, channels = shape
    if channels != 3 or min(height, width) < application.smallest:
        raise RecipeError(
            f"{recipe.architecture} needs RGB pictures of at least {application.smallest} x "
            f"{application.smallest} pixels, got {width} x {height} x {channels}; set data.width, "
            "data.height and data.color"
        )
    if recipe.width != 1 and not application.has_width:
        raise RecipeError(f"{recipe.architecture} has one width only; leave model.width out")


def _normalized(keras: Any, application: Application, inputs: Any) -> Any:
    layers = keras.layers
    if application.normalization == "symmetric":
        return layers.Rescaling(1 / 127.5, offset=-1, name="normalization_symmetric")(inputs)
    if application.normalization == "caffe":
        offset = [-mean for mean in _CAFFE_MEANS]
        return layers.Rescaling(1.0, offset=offset, name=CAFFE)(inputs)
    return inputs


def _with_root_factors(keras: Any, base: Any) -> Any:
    """The same network, untrained, with ``_ROOT_FACTORS`` where Keras puts them."""

    def call(layer: Any, *tensors: Any, **arguments: Any) -> Any:
        outputs = layer(*tensors, **arguments)
        if isinstance(layer, keras.layers.Normalization):
            return keras.layers.Rescaling(list(_ROOT_FACTORS), name="rescaling_roots")(outputs)
        return outputs

    return keras.models.clone_model(base, input_tensors=base.inputs, call_function=call)


def _multiplies_roots(layer: Any) -> bool:
    scale = getattr(layer, "scale", None)
    return isinstance(scale, list | tuple) and len(scale) == len(_ROOT_FACTORS)
