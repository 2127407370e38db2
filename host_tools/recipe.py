"""Recipes: a TOML file, read into frozen dataclasses, that says how a model is made.

Every key has a default but ``name``; an unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edge_sdk.errors import RecipeError
from edge_sdk.preprocess import CROPS, Crop, Preprocessing
from host_tools.recipe_limits import LIMITS
from host_tools.strict_toml import build, literal, nearest


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """What the model sees, and how a folder without ready splits is split.

    Attributes:
        width, height: of the model's input, in pixels.
        color: ``rgb`` or ``gray``.
        crop: ``center``, ``squash`` or ``letterbox``.
        validation, test: shares (0..1) cut from the training pictures where the folder has no
            such split of its own.
        seed: of the split.
    """

    width: int = 32
    height: int = 32
    color: str = "rgb"
    crop: str = "center"
    validation: float = 0.1
    test: float = 0.2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class AugmentationRecipe:
    """Changes made to training pictures, anew in every epoch.

    A frozen base (``model.trainable = "head"``) sees them in ``training.feature_variants`` passes.

    Attributes:
        horizontal_flip: probability of mirroring left and right.
        shift: up to this share of width and height, in both directions, borders reflected.
        brightness: up to this share brighter or darker.
    """

    horizontal_flip: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelRecipe:
    """The network.

    Attributes:
        architecture: ``small-cnn``, ``resnet8`` or ``mobilenet-v2``.
        width: multiplier of the number of channels (MobileNet's alpha).
        weights: ``none``, ``imagenet`` (downloaded by Keras), or the path of a weights file.
        trainable: ``all``, or ``head`` to leave the pretrained part as it is.
        dropout: share of features dropped before the last layer while training.
    """

    architecture: str = "small-cnn"
    width: float = 1.0
    weights: str = "none"
    trainable: str = "all"
    dropout: float = 0.2


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """How the network learns.

    Attributes:
        epochs: at most.
        batch_size: pictures per step.
        optimizer: ``adam`` or ``sgd`` (Nesterov momentum 0.9).
        learning_rate: the highest.
        schedule: ``constant``, ``cosine`` (down to zero), or ``one-cycle`` (up for a quarter of
            the steps, then down to zero; Smith 2018).
        weight_decay: decoupled (AdamW, SGDW); 0 for none.
        label_smoothing: 0..1, see Szegedy et al. 2016.
        patience: epochs without a better validation loss before training stops; 0: never stops.
        seed: of weights, order and augmentation.
        feature_variants: passes over the pictures with ``model.trainable = "head"``, whose base is
            computed once: the first as they are, each further one augmented.
    """

    epochs: int = 30
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 0.001
    schedule: str = "cosine"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    patience: int = 8
    seed: int = 0
    feature_variants: int = 1


@dataclass(frozen=True, slots=True)
class ConversionRecipe:
    """The artifacts to make.

    Attributes:
        formats: of ``float32 float16 dynamic int8 int16x8``.
        calibration_images: training pictures that set the ranges of int8, spread over the classes.
    """

    formats: tuple[str, ...] = ("int8", "float16")
    calibration_images: int = 200


@dataclass(frozen=True, slots=True)
class GatesRecipe:
    """Budgets that ``edgecls build`` holds artifacts to; without one there is no verdict.

    Attributes:
        max_drop: points of accuracy an artifact may lose.
        max_class_drop: points any single class may lose.
    """

    max_drop: float | None = None
    max_class_drop: float | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """All of it. ``name`` names the files; ``description`` is for people."""

    name: str
    description: str = ""
    data: DataRecipe = field(default_factory=DataRecipe)
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    conversion: ConversionRecipe = field(default_factory=ConversionRecipe)
    gates: GatesRecipe = field(default_factory=GatesRecipe)


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """The device's preprocessing that a recipe asks for."""
    data = recipe.data
    crop: Crop = next(name for name in CROPS if name == data.crop)
    return Preprocessing(data.width, data.height, 3 if data.color == "rgb" else 1, crop)


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        source: the name of a recipe that comes with edgecls, or the path of a TOML file.
        overrides: ``section.key=value`` each, the value as in TOML; plain words need no quotes.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown key, a value of the wrong kind or range.
    """
    text, where = _read(source)
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"{where}: not valid TOML: {error}") from error
    for override in overrides:
        _override(values, override)
    return recipe_from(values, where)


def recipe_from(values: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from parsed TOML or from the ``recipe`` an artifact's provenance records.

    Raises:
        RecipeError: see ``load_recipe``.
    """
    recipe = build(Recipe, values, where, LIMITS)
    for wrong in _contradictions(recipe):
        raise RecipeError(f"{where}: {wrong}")
    return recipe


def _contradictions(recipe: Recipe) -> Iterator[str]:
    model, training = recipe.model, recipe.training
    head = model.trainable == "head"
    if head and model.weights == "none":
        yield 'model.trainable = "head" needs pretrained weights; set model.weights'
    if head and training.feature_variants == 1 and recipe.augmentation != AugmentationRecipe():
        yield (
            'with model.trainable = "head" the first pass is not augmented; set '
            "training.feature_variants to 2 or more, or leave augmentation out"
        )
    if not head and training.feature_variants > 1:
        yield 'training.feature_variants needs model.trainable = "head"'
    if not any(character.isalnum() for character in recipe.name):
        yield f"name must have a letter or a digit in it, got {recipe.name!r}"


def recipe_to(recipe: Recipe) -> dict[str, Any]:
    """Every key with its value, as TOML and JSON can hold them (what is None is left out)."""

    def plain(value: Any) -> Any:
        if is_dataclass(value):
            entries = ((f.name, getattr(value, f.name)) for f in fields(value))
            return {name: plain(entry) for name, entry in entries if entry is not None}
        return list(value) if isinstance(value, tuple) else value

    return {key: value for key, value in plain(recipe).items() if value != {}}


def recipe_toml(recipe: Recipe) -> str:
    """The recipe as a TOML file that ``load_recipe`` reads back to the same recipe."""
    values = recipe_to(recipe)
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines = [f"{key} = {literal(value)}" for key, value in values.items() if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {literal(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def builtin_recipes() -> tuple[str, ...]:
    """The names of the recipes that come with edgecls, sorted."""
    folder = resources.files("host_tools.recipes")
    return tuple(
        sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))
    )


def _read(source: str | Path) -> tuple[str, str]:
    if str(source) in builtin_recipes():
        text = resources.files("host_tools.recipes").joinpath(f"{source}.toml").read_text("utf-8")
        return text, f"recipe {source}"
    path = Path(source)
    try:
        if path.is_file():
            return path.read_text("utf-8"), str(path)
    except (OSError, ValueError) as error:  # a name too long, a null in it, not UTF-8 inside
        raise RecipeError(f"{path}: cannot be read as text ({error})") from error
    raise RecipeError(
        f"{source}: no such recipe file, and none that comes with edgecls has this name"
        f"{nearest(str(source), builtin_recipes())}; see edgecls recipe list"
    )


def _override(values: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator or not path.strip():
        raise RecipeError(f"--set {override}: expected KEY=VALUE as in training.epochs=20")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except RecursionError as error:
        raise RecipeError(f"--set {path}: nested too deep to be meant") from error
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a plain word or path
    *sections, key = path.strip().split(".")
    table = values
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override}: {section} is not a section")
    table[key] = value
