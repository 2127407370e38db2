"""Recipes: every mistake is named, and what is written is read back."""

from __future__ import annotations

import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import RecipeError
from edge_sdk.preprocess import Preprocessing
from host_tools.recipe import (
    ConversionRecipe,
    DataRecipe,
    GatesRecipe,
    ModelRecipe,
    Recipe,
    TrainingRecipe,
    builtin_recipes,
    load_recipe,
    preprocessing_of,
    recipe_from,
    recipe_to,
    recipe_toml,
)


def _load(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    path = tmp_path / "my.toml"
    path.write_text(text, "utf-8")
    return load_recipe(path, overrides)


def _value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return value


def test_a_name_is_all_that_a_recipe_needs(tmp_path: Path) -> None:
    assert _load(tmp_path, 'name = "mine"') == Recipe(name="mine")


def test_the_defaults_are_these() -> None:
    assert recipe_to(Recipe(name="mine")) == {
        "name": "mine",
        "description": "",
        "data": {
            "width": 32,
            "height": 32,
            "color": "rgb",
            "crop": "center",
            "validation": 0.1,
            "test": 0.2,
            "seed": 0,
        },
        "augmentation": {"horizontal_flip": 0.0, "shift": 0.0, "brightness": 0.0},
        "model": {
            "architecture": "small-cnn",
            "width": 1.0,
            "weights": "none",
            "trainable": "all",
            "dropout": 0.2,
        },
        "training": {
            "epochs": 30,
            "batch_size": 32,
            "optimizer": "adam",
            "learning_rate": 0.001,
            "schedule": "cosine",
            "weight_decay": 0.0,
            "label_smoothing": 0.0,
            "patience": 8,
            "seed": 0,
            "feature_variants": 1,
        },
        "conversion": {"formats": ["int8", "float16"], "calibration_images": 200},
    }


def test_a_section_keeps_the_defaults_of_what_it_leaves_out(tmp_path: Path) -> None:
    recipe = _load(tmp_path, 'name = "x"\n[training]\nepochs = 3\n[gates]\nmax_drop = 2')
    assert recipe.training == TrainingRecipe(epochs=3)
    assert recipe.gates == GatesRecipe(max_drop=2.0, max_class_drop=None)
    assert recipe.data == DataRecipe()


def test_the_preprocessing_is_the_one_that_the_recipe_asks_for() -> None:
    data = DataRecipe(width=96, height=64, color="gray", crop="letterbox")
    assert preprocessing_of(Recipe("x", data=data)) == Preprocessing(96, 64, 1, "letterbox")
    assert preprocessing_of(Recipe("x")) == Preprocessing(32, 32, 3, "center")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nmae = 'y'", r"unknown key nmae \(did you mean name\?\)"),
        ("[trainig]\nepochs = 3", r"unknown key trainig \(did you mean training\?\)"),
        ("[training]\nepoch = 3", r"training\.epoch \(did you mean training\.epochs\?\)"),
        ("[data]\nheigth = 3", r"data\.heigth \(did you mean data\.height\?\)"),
        ("[gates]\nmaxdrop = 3", r"gates\.maxdrop \(did you mean gates\.max_drop\?\)"),
        ("zzzzzzzz = 3", r"unknown key zzzzzzzz; known here: name, description, data"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=rf"my\.toml: .*{named}"):
        _load(tmp_path, f'name = "x"\n{text}')


@pytest.mark.parametrize("text", ["", "description = 'no name'", "[training]\nepochs = 3"])
def test_a_recipe_without_a_name_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a recipe needs a name"):
        _load(tmp_path, text)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../x", "a\\nb", "ü?"])
def test_a_name_that_makes_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="name must be of letters, digits"):
        _load(tmp_path, f'name = "{name}"')


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.epochs", "1.0", "a whole number"),
        ("training.epochs", '"3"', "a whole number"),
        ("training.epochs", "true", "a whole number"),
        ("training.epochs", "[3]", "a whole number"),
        ("training.epochs", "{a = 3}", "a whole number"),
        ("training.epochs", "1979-05-27", "a whole number"),
        ("training.learning_rate", '"0.1"', "a number"),
        ("training.learning_rate", "false", "a number"),
        ("gates.max_drop", '"none"', "a number"),
        ("gates.max_class_drop", "true", "a number"),
        ("data.seed", "0.5", "a whole number"),
        ("data.color", "3", "text"),
        ("model.weights", "false", "text"),
        ("description", "5", "text"),
        ("name", "5", "text"),
        ("conversion.formats", '"int8"', "a list of words"),
        ("conversion.formats", "[]", "a list of words"),
        ("conversion.formats", "[8]", "a list of words"),
        ("training", "5", "a section"),
        ("data", "[1]", "a section"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(
    key: str, value: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=rf"{key} must be {expected}"):
        _load(tmp_path, 'name = "x"', f"{key}={value}")


# key: just outside below, the ends of the range, just outside above
_RANGES = {
    "data.width": ("7", "8", "4096", "4097"),
    "data.height": ("7", "8", "4096", "4097"),
    "data.validation": ("-0.01", "0", "0.45", "0.46"),
    "data.test": ("-0.01", "0", "0.45", "0.46"),
    "augmentation.horizontal_flip": ("-0.1", "0", "1", "1.1"),
    "augmentation.shift": ("-0.1", "0", "0.5", "0.6"),
    "augmentation.brightness": ("-0.1", "0", "0.9", "1.0"),
    "model.width": ("0.04", "0.05", "4", "4.1"),
    "model.dropout": ("-0.1", "0", "0.95", "0.96"),
    "training.epochs": ("0", "1", "100000", "100001"),
    "training.batch_size": ("0", "1", "65536", "65537"),
    "training.learning_rate": ("0", "1e-12", "1000", "1001"),
    "training.weight_decay": ("-0.1", "0", "1", "1.1"),
    "training.label_smoothing": ("-0.1", "0", "0.9", "1"),
    "training.patience": ("-1", "0", "100000", "100001"),
    "conversion.calibration_images": ("0", "1", "1000000", "1000001"),
    "gates.max_drop": ("-0.1", "0", "100", "101"),
    "gates.max_class_drop": ("-0.1", "0", "100", "101"),
}


@pytest.mark.parametrize("key", _RANGES)
def test_a_number_must_be_within_its_range(key: str) -> None:
    below, low, high, above = _RANGES[key]
    for value in (low, high):
        assert _value(load_recipe("digits", [f"{key}={value}"]), key) == float(value)
    for value in (below, above):
        with pytest.raises(RecipeError, match=rf"{key} must be .* to .*, got"):
            load_recipe("digits", [f"{key}={value}"])


def test_every_number_but_a_seed_has_a_range_in_this_table() -> None:
    numbers = {
        f"{section.name}.{entry.name}"
        for section in fields(Recipe)
        if is_dataclass(kind := type(getattr(Recipe("x"), section.name)))
        for entry in fields(kind)
        if "int" in str(entry.type) or "float" in str(entry.type)
    }
    others = {"data.seed", "training.seed", "training.feature_variants"}
    assert numbers - others == set(_RANGES)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "9" * 400], ids=lambda v: v[:5])
@pytest.mark.parametrize("key", ["model.width", "training.learning_rate", "gates.max_drop"])
def test_a_number_that_is_none_is_out_of_every_range(key: str, value: str) -> None:
    with pytest.raises(RecipeError, match=key):
        load_recipe("digits", [f"{key}={value}"])


@pytest.mark.parametrize(
    ("key", "seed"), [("data.seed", -1), ("training.seed", -1), ("training.seed", 2**32)]
)
def test_a_seed_that_no_generator_takes_is_refused(key: str, seed: int) -> None:
    with pytest.raises(RecipeError, match=key):
        load_recipe("digits", [f"{key}={seed}"])


@pytest.mark.parametrize(
    ("key", "value", "known"),
    [
        ("data.color", "grey", r"'grey' \(did you mean gray\?\)"),
        ("data.crop", "centre", r"'centre' \(did you mean center\?\)"),
        ("training.optimizer", "adamw", r"'adamw' \(did you mean adam\?\)"),
        ("training.schedule", "onecycle", r"'onecycle' \(did you mean one-cycle\?\)"),
        ("model.trainable", "none", r"'none'.*one of all, head"),
        ("conversion.formats", "['int8', 'int4']", r"'int4' \(did you mean int8\?\)"),
        ("data.color", "RGB", r"'RGB'.*one of rgb, gray"),
    ],
)
def test_an_unknown_word_names_the_nearest_known_one(key: str, value: str, known: str) -> None:
    with pytest.raises(RecipeError, match=rf"{key} cannot be {known}"):
        load_recipe("digits", [f"{key}={value}"])


# --set


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("training.epochs=5", "training.epochs", 5),
        ("training.epochs = 5 ", "training.epochs", 5),
        ("training.epochs=5_0", "training.epochs", 50),
        ("training.learning_rate=1e-2", "training.learning_rate", 0.01),
        ("training.learning_rate=1", "training.learning_rate", 1.0),
        ("model.architecture=resnet8", "model.architecture", "resnet8"),
        ('model.architecture="resnet8"', "model.architecture", "resnet8"),
        ("model.architecture='resnet8'", "model.architecture", "resnet8"),
        ("model.weights=a/b c/d.h5", "model.weights", "a/b c/d.h5"),
        ("model.weights=C:\\w\\x.h5", "model.weights", "C:\\w\\x.h5"),
        ("model.weights=a=b.h5", "model.weights", "a=b.h5"),
        ("description=two words", "description", "two words"),
        ("description=", "description", ""),
        ("conversion.formats=['int8']", "conversion.formats", ("int8",)),
        ('conversion.formats=["float32", "dynamic"]', "conversion.formats", ("float32", "dynamic")),
        ("gates.max_drop=2", "gates.max_drop", 2.0),
        ("gates={max_drop=3, max_class_drop=4}", "gates", GatesRecipe(3.0, 4.0)),
        ("name=other-name", "name", "other-name"),
    ],
)
def test_a_set_overrides_the_recipe(override: str, key: str, value: object) -> None:
    recipe = load_recipe("edge-tiny", [override])
    assert _value(recipe, key) == value
    assert type(_value(recipe, key)) is type(value)


def test_the_last_set_counts_and_the_rest_stays() -> None:
    recipe = load_recipe("edge-tiny", ["training.epochs=5", "training.epochs=6"])
    assert recipe.training.epochs == 6
    assert recipe.training.batch_size == load_recipe("edge-tiny").training.batch_size


def test_a_set_makes_the_section_it_needs(tmp_path: Path) -> None:
    assert _load(tmp_path, 'name = "x"', "training.epochs=4").training.epochs == 4


@pytest.mark.parametrize(
    "override",
    [
        "",
        "training.epochs",
        "=5",
        " =5",
        ".=5",
        "training.=5",
        ".epochs=5",
        "training..epochs=5",
        "training.epochs.more=5",
        "nonsense=5",
        "nonsense.epochs=5",
        "training.nonsense=5",
        "training=cosine",
        "conversion.formats=int8",
        "name.x=5",
        "model.weights=" + "[" * 5000,
    ],
    ids=lambda override: override[:24],
)
def test_a_malformed_set_is_refused(override: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe("digits", [override])


def test_a_set_that_is_no_assignment_is_repeated_in_the_message() -> None:
    with pytest.raises(RecipeError, match=r"--set training\.epochs: expected KEY=VALUE as in"):
        load_recipe("digits", ["training.epochs"])


# Files.


@pytest.mark.parametrize("name", builtin_recipes())
def test_a_builtin_recipe_loads_and_comes_back_whole(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert recipe_from(recipe_to(recipe), "back") == recipe
    assert recipe_from(tomllib.loads(recipe_toml(recipe)), "back") == recipe


def test_the_builtin_recipes_are_these() -> None:
    assert builtin_recipes() == ("digits", "edge-mobilenet", "edge-tiny", "small-cnn")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"name = ", "not valid TOML", id="half a line"),
        pytest.param(b"name = x", "not valid TOML", id="a word without quotes"),
        pytest.param(b'name = "x"\nname = "y"', "not valid TOML", id="twice"),
        pytest.param(b"[training\nepochs = 3", "not valid TOML", id="half a heading"),
        pytest.param(b"\0\0\0", "not valid TOML", id="zeros"),
        pytest.param(b"name: x\ntraining:\n  epochs: 3\n", "not valid TOML", id="YAML"),
        pytest.param(bytes(range(256)), "cannot be read as text", id="binary"),
        pytest.param(b"PK\x03\x04\xff\xfe" * 20, "cannot be read as text", id="a zip"),
        pytest.param(b"a = " + b"[" * 5000, "", id="nested too deep"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=rf"my\.toml: .*{message}"):
        load_recipe(path)


def test_a_missing_recipe_names_the_nearest_that_comes_with_edgecls() -> None:
    with pytest.raises(RecipeError, match=r"edge-tinny: no such recipe.*did you mean edge-tiny\?"):
        load_recipe("edge-tinny")


@pytest.mark.parametrize(
    "source", ["", "no/such/file.toml", "a\0b", "x" * 300], ids=["empty", "path", "nul", "long"]
)
def test_a_missing_recipe_is_refused(source: str) -> None:
    with pytest.raises(RecipeError, match=r"no such recipe|File name too long"):
        load_recipe(source)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path)


# Round trips.

_SHARES = st.floats(0, 0.45)
_RECIPES = st.builds(
    Recipe,
    name=st.text(st.characters(categories=("L", "Nd"), include_characters="-_."), min_size=1),
    description=st.text(),
    data=st.builds(DataRecipe, width=st.integers(8, 4096), validation=_SHARES, test=_SHARES),
    model=st.builds(ModelRecipe, weights=st.text(), width=st.floats(0.05, 4)),
    training=st.builds(
        TrainingRecipe, learning_rate=st.floats(1e-12, 1e3), weight_decay=st.floats(0, 1)
    ),
    conversion=st.builds(
        ConversionRecipe,
        formats=st.lists(st.sampled_from(["float32", "int8", "int16x8"]), min_size=1).map(tuple),
    ),
    gates=st.builds(GatesRecipe, max_drop=st.none() | st.floats(0, 100)),
)


@given(_RECIPES)
def test_any_recipe_is_read_back_from_toml(recipe: Recipe) -> None:
    assert recipe_from(tomllib.loads(recipe_toml(recipe)), "TOML") == recipe


@given(_RECIPES)
def test_any_recipe_is_read_back_from_provenance(recipe: Recipe) -> None:
    assert recipe_from(recipe_to(recipe), "provenance") == recipe


@pytest.mark.parametrize(
    "description",
    [
        'quotes " and \\ backslashes',
        "lines\nand\ttabs\r\n",
        "\x00\x1f\x7f\x85",
        "größe 猫 🐈",
        "\u2028\u202e\ufeff",
        "\U000e0001 a tag, which is neither printable nor of four digits",
    ],
    ids=["quotes", "lines", "controls", "letters", "separators", "beyond four digits"],
)
def test_any_text_is_read_back_from_a_file(description: str, tmp_path: Path) -> None:
    recipe = Recipe("x", description)
    assert _load(tmp_path, recipe_toml(recipe)) == recipe
