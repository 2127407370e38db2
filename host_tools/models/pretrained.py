"""Weights that were trained before: a Keras weights file, or a whole model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_sdk.errors import ConversionError, RecipeError
from host_tools.models.head import FEATURES
from host_tools.recipe import ModelRecipe
from host_tools.third_party.keras import load_keras

NONE, IMAGENET = "none", "imagenet"
# The layer that marks a network trained on BGR pixels, see applications.py.
CAFFE = "normalization_caffe"


def refuse_weights(recipe: ModelRecipe) -> None:
    """Refuses weights for an architecture without pretrained ones.

    Raises:
        RecipeError: weights were requested.
    """
    if recipe.weights == IMAGENET:
        raise RecipeError(
            f'{recipe.architecture} has no ImageNet weights; set model.weights = "none"'
        )


def trained_model(recipe: ModelRecipe) -> Any | None:
    """The model that ``recipe.weights`` names; None where it is a file of weights alone.

    Raises:
        RecipeError: no such file, or no model in it.
    """
    path = _file(recipe)
    if path.suffix != ".keras":
        return None
    try:
        return load_keras(path)
    except (ValueError, OSError, KeyError, ConversionError) as error:
        raise _misfit(path, recipe, error) from error


def load_weights(base: Any, recipe: ModelRecipe) -> None:
    """Loads a file of weights, or a model trained before, into a backbone.

    Raises:
        RecipeError: no such file, or it does not fit.
    """
    path = _file(recipe)
    try:
        if path.suffix == ".keras":
            _copy(base, load_keras(path))
        else:
            base.load_weights(str(path))
            if any(layer.name == CAFFE for layer in base.layers):
                turn_first_kernel(base)
    except (ValueError, OSError, KeyError, ConversionError) as error:
        raise _misfit(path, recipe, error) from error


def _file(recipe: ModelRecipe) -> Path:
    path = Path(recipe.weights)
    if path.is_dir():
        path = path / "model.keras"
    if not path.is_file():
        raise RecipeError(
            f"model.weights: {path} is not a file; give none, imagenet, or a path to weights"
        )
    return path


def _misfit(path: Path, recipe: ModelRecipe, error: Exception) -> RecipeError:
    return RecipeError(
        f"model.weights: {path} does not fit {recipe.architecture} with model.width = "
        f"{recipe.width:g} ({str(error).splitlines()[0]})"
    )


def turn_first_kernel(base: Any) -> None:
    """Adapts BGR weights to RGB pixels: reverses the first kernel's input channels."""
    first = next(layer for layer in base.layers if layer.weights)
    kernel, *others = first.get_weights()
    first.set_weights([kernel[:, :, ::-1, :], *others])


def _copy(base: Any, trained: Any) -> None:
    """Copies the backbone of a model that was built like this one, layer by layer."""
    names = [layer.name for layer in trained.layers]
    if FEATURES not in names:
        raise ValueError("it has no layer called features, where a backbone of ours ends")
    # By their order: Keras numbers some layers across all networks of a process.
    have = [layer for layer in trained.layers[: names.index(FEATURES)] if layer.weights]
    want = [layer for layer in base.layers if layer.weights]
    if [type(layer) for layer in have] != [type(layer) for layer in want]:
        raise ValueError("its layers are others")
    for layer, old in zip(want, have, strict=True):
        layer.set_weights(old.get_weights())
