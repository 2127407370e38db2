"""Recipes: TOML files, read into frozen dataclasses, that specify how a model is made.

Every key has a default but ``name``; an unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import itertools
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edge_sdk.errors import RecipeError
from edge_sdk.files import read_text
from edge_sdk.plain import PlainError, from_plain, nearest
from edge_sdk.vision.preprocess import CROPS, Crop, Preprocessing
from host_tools.recipe.keys import (
    AugmentationRecipe,
    ConversionRecipe,
    DataRecipe,
    GatesRecipe,
    ModelRecipe,
    Recipe,
    ScoresRecipe,
    StageRecipe,
    TrainingRecipe,
)

__all__ = [
    "AugmentationRecipe",
    "ConversionRecipe",
    "DataRecipe",
    "GatesRecipe",
    "ModelRecipe",
    "Recipe",
    "ScoresRecipe",
    "StageRecipe",
    "TrainingRecipe",
    "builtin_recipes",
    "literal",
    "load_recipe",
    "notes_of",
    "preprocessing_of",
    "recipe_from",
    "recipe_to",
    "recipe_toml",
    "variants_of",
]

# A table of the file that is not a section: the keys that each variant of the recipe changes.
_VARIANTS = "variants"
_RECIPE_BYTES = 1_000_000


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """The device's preprocessing that a recipe specifies."""
    data = recipe.data
    crop: Crop = next(name for name in CROPS if name == data.crop)
    return Preprocessing(data.width, data.height, 3 if data.color == "rgb" else 1, crop)


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        source: the name of a recipe that comes with edgecls, or the path of a TOML file;
            ``NAME:VARIANT`` for one of its variants.
        overrides: ``section.key=value`` each, the value as in TOML; plain words need no quotes.

    Raises:
        RecipeError: no such recipe or variant, not TOML, an unknown key, a value of the wrong kind
            or range.
    """
    values, variant, where = _parsed(source)
    variants = values.pop(_VARIANTS, {})
    if variant is not None:
        if variant not in variants:
            raise RecipeError(
                f"{where}: has no variant {variant!r}{nearest(variant, list(variants))}; "
                f"it has {', '.join(variants) or 'none'}"
            )
        if isinstance(values.get("name"), str):
            values["name"] += f"-{variant}"
        values = _merged(values, variants[variant])
    for override in overrides:
        _override(values, override)
    return recipe_from(values, where if variant is None else f"{where}:{variant}")


def variants_of(source: str | Path) -> tuple[str, ...]:
    """The names of a recipe's variants, in the order of the file.

    Raises:
        RecipeError: see ``load_recipe``.
    """
    return tuple(_parsed(source)[0].get(_VARIANTS, {}))


def notes_of(source: str | Path) -> str:
    """The comment at the head of a recipe's file, its purpose; empty without one.

    Raises:
        RecipeError: see ``load_recipe``.
    """
    text, _ = _read(_named(source)[0])
    return "".join(itertools.takewhile(lambda line: line[0] == "#", text.splitlines(keepends=True)))


def recipe_from(values: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from parsed TOML or from the ``recipe`` an artifact's provenance records.

    Raises:
        RecipeError: see ``load_recipe``.
    """
    if "name" not in values:
        raise RecipeError(f'{where}: a recipe needs a name, as in name = "my-recipe"')
    try:
        recipe = from_plain(Recipe, values, unknown_keys="refuse")
    except PlainError as error:
        raise RecipeError(f"{where}: {error}") from error
    for wrong in _contradictions(recipe):
        raise RecipeError(f"{where}: {wrong}")
    return recipe


def _contradictions(recipe: Recipe) -> Iterator[str]:
    model, training, data = recipe.model, recipe.training, recipe.data
    stages = training.stages or (StageRecipe(),)
    frozen = [(stage.trainable or model.trainable) == "head" for stage in stages]
    first = stages[0].trainable or model.trainable
    if first != "all" and model.weights == "none":
        yield f'trainable = "{first}" needs pretrained weights; set model.weights'
    if (
        all(frozen)
        and training.feature_variants == 1
        and recipe.augmentation != AugmentationRecipe()
    ):
        yield (
            'with model.trainable = "head" the first pass is not augmented; set '
            "training.feature_variants to 2 or more, or leave augmentation out"
        )
    if all(frozen) and (recipe.augmentation.mixup or recipe.augmentation.cutmix):
        yield (
            "a frozen backbone is computed once, without mixed batches; leave mixup and cutmix "
            "out, or train more than the head"
        )
    if any(frozen) and training.teacher != "none":
        yield "training.teacher needs pictures, and a stage with a frozen backbone has only features"
    if any(frozen[1:]):
        yield 'only the first of training.stages can have trainable = "head"'
    if training.optimizer == "adamw" and not training.weight_decay:
        yield 'training.optimizer = "adamw" needs training.weight_decay, as in 0.004'
    if not any(frozen) and training.feature_variants > 1:
        yield 'training.feature_variants needs model.trainable = "head"'
    last = stages[-1]
    if (last.width or data.width, last.height or data.height) != (data.width, data.height):
        yield (
            f"the last of training.stages must have the input's size, {data.width} x {data.height}, "
            f"got {last.width or data.width} x {last.height or data.height}"
        )
    if model.pooling == "flatten" and any(stage.width or stage.height for stage in stages[:-1]):
        yield 'stages of other sizes need model.pooling = "avg" or "max", whose features fit'
    if len(stages) > training.epochs:
        yield f"{len(stages)} training.stages need as many epochs, got {training.epochs}"
    if recipe.scores.coverage is not None and recipe.scores.accuracy is not None:
        yield "a threshold has one goal: give scores.coverage or scores.accuracy"
    if not recipe.name or not all(c.isalnum() or c in "-_." for c in recipe.name):
        yield f"name must be of letters, digits, - _ and ., got {recipe.name!r}"
    elif not any(character.isalnum() for character in recipe.name):
        yield f"name must have a letter or a digit in it, got {recipe.name!r}"


def recipe_to(recipe: Recipe) -> dict[str, Any]:
    """Every key with its value, as TOML and JSON can hold them (what is None is left out)."""

    def plain(value: Any) -> Any:
        if is_dataclass(value):
            entries = ((f.name, getattr(value, f.name)) for f in fields(value))
            return {name: plain(entry) for name, entry in entries if entry is not None}
        return [plain(entry) for entry in value] if isinstance(value, tuple) else value

    return {name: value for name, value in plain(recipe).items() if value != {}}


def recipe_toml(recipe: Recipe, *, explained: bool = False) -> str:
    """The recipe as a TOML file that ``load_recipe`` reads back to the same recipe.

    Args:
        recipe: what to write.
        explained: with a comment above every key, in the words of its field.
    """
    lines = []
    for name, section in recipe_to(recipe).items():
        if not isinstance(section, dict):
            lines.append(f"{name} = {literal(section)}")
            continue
        kind = type(getattr(recipe, name))
        lines += ["", f"[{name}]"]
        if explained:
            lines.insert(-1, f"# {(kind.__doc__ or '').strip().splitlines()[0]}")
        about = {declared.name: declared.metadata["about"] for declared in fields(kind)}
        for entry, value in section.items():
            if explained:
                lines += textwrap.wrap(
                    about[entry], 96, initial_indent="# ", subsequent_indent="# "
                )
            lines.append(f"{entry} = {literal(value)}")
    return "\n".join(lines) + "\n"


def literal(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {literal(entry)}' for name, entry in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(literal(entry) for entry in value)}]"
    if isinstance(value, str):
        escaped = "".join(
            c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value
        )
        return f'"{escaped}"'
    return repr(value)


def builtin_recipes() -> tuple[str, ...]:
    """The names of the recipes that come with edgecls, sorted."""
    folder = resources.files("host_tools.recipe.recipes")
    return tuple(
        sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))
    )


def _parsed(source: str | Path) -> tuple[dict[str, Any], str | None, str]:
    """The values of a recipe's file, the requested variant, and its name in errors."""
    name, variant = _named(source)
    text, where = _read(name)
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"{where}: not valid TOML: {error}") from error
    variants = values.get(_VARIANTS, {})
    if not isinstance(variants, dict) or not all(isinstance(v, dict) for v in variants.values()):
        raise RecipeError(
            f"{where}: {_VARIANTS} must hold sections, as in [{_VARIANTS}.large.model]"
        )
    return values, variant, where


def _named(source: str | Path) -> tuple[str | Path, str | None]:
    """A recipe and the requested variant."""
    name, colon, variant = str(source).rpartition(":")
    # A Windows path has a colon too, and a file may have any name.
    has_variant = bool(colon) and all(c.isalnum() or c in "-_" for c in variant)
    return (name, variant) if has_variant and not Path(source).exists() else (source, None)


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, change in changes.items():
        old = merged.get(name)
        both = isinstance(old, dict) and isinstance(change, dict)
        merged[name] = _merged(old, change) if both else change  # type: ignore[arg-type]  # both are
    return merged


def _read(source: str | Path) -> tuple[str, str]:
    if str(source) in builtin_recipes():
        text = (
            resources.files("host_tools.recipe.recipes")
            .joinpath(f"{source}.toml")
            .read_text("utf-8")
        )
        return text, f"recipe {source}"
    path = Path(source)
    try:
        if path.exists() and not path.is_dir():
            return read_text(path, most_bytes=_RECIPE_BYTES), str(path)
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
        raise RecipeError(f"--set {path}: nested too deep") from error
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a plain word or path
    *sections, key = path.strip().split(".")
    table = values
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override}: {section} is not a section")
    table[key] = value
