"""Recipes: every mistake is named, and what is written is read back."""

from __future__ import annotations

import tomllib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import RecipeError
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.cli import main
from host_tools.recipe import (
    ConversionRecipe,
    DataRecipe,
    GatesRecipe,
    ModelRecipe,
    Recipe,
    ScoresRecipe,
    StageRecipe,
    TrainingRecipe,
    builtin_recipes,
    load_recipe,
    notes_of,
    preprocessing_of,
    recipe_from,
    recipe_to,
    recipe_toml,
    variants_of,
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
    defaults = recipe_to(Recipe(name="mine"))
    assert defaults["data"] == {
        "width": 32,
        "height": 32,
        "color": "rgb",
        "crop": "center",
        "validation": 0.1,
        "test": 0.2,
        "seed": 0,
        "margin": 0.15,
    }
    assert defaults["model"] == {
        "architecture": "small-cnn",
        "width": 1.0,
        "weights": "none",
        "trainable": "all",
        "batch_norm": True,
        "train_batch_norm": False,
        "block_dropout": 0.0,
        "pooling": "avg",
        "head": [],
        "activation": "relu",
        "dropout": 0.2,
    }
    assert defaults["training"] == {
        "epochs": 30,
        "batch_size": 32,
        "optimizer": "adam",
        "learning_rate": 0.001,
        "schedule": "cosine",
        "plateau_factor": 0.5,
        "plateau_patience": 3,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "loss": "crossentropy",
        "focal_gamma": 2.0,
        "class_weights": "none",
        "ema": 0.0,
        "precision": "float32",
        "teacher": "none",
        "distillation_weight": 0.5,
        "distillation_temperature": 4.0,
        "patience": 8,
        "seed": 0,
        "feature_variants": 1,
        "stages": [],
    }
    assert defaults["conversion"] == {
        "formats": ["int8", "float16"],
        "calibration_images": 200,
        "io": "uint8",
    }
    assert defaults["scores"] == {"temperature": False}
    assert "gates" not in defaults  # no budget, no verdict


# The keys that enable an augmentation; with all of them off, nothing is changed.
_STRENGTHS = (
    *("horizontal_flip", "vertical_flip", "rotation", "shift", "shear", "zoom", "scale", "crop"),
    *("brightness", "channel_multiply", "channel_shuffle", "coarse_dropout", "rand_augment"),
    *("mixup", "cutmix"),
)


def test_nothing_is_augmented_by_default() -> None:
    augmentation = recipe_to(Recipe(name="mine"))["augmentation"]
    assert {augmentation[name] for name in _STRENGTHS} == {0.0}


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
        ("scores.temperature", "1.5", "true or false"),
        ("scores.coverage", '"most"', "a number"),
        ("gates.max_class_drop", "true", "a number"),
        ("data.seed", "0.5", "a whole number"),
        ("data.color", "3", "text"),
        ("model.weights", "false", "text"),
        ("description", "5", "text"),
        ("name", "5", "text"),
        ("conversion.formats", '"int8"', "a list, as in"),
        ("conversion.formats", "[]", "not be empty"),
        ("conversion.formats", "[8]", "text"),
        ("model.head", "128", "a list, as in"),
        ("model.head", '["128"]', "a whole number"),
        ("model.head", "[1.5]", "a whole number"),
        ("model.head", "[true]", "a whole number"),
        ("model.batch_norm", "1", "true or false"),
        ("model.batch_norm", '"yes"', "true or false"),
        ("training.stages", "{}", "a list, as in"),
        ("training.stages", "[3]", "a section"),
        ("training", "5", "a section"),
        ("data", "[1]", "a section"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(
    key: str, value: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(
        RecipeError,
        match=rf"{key}(\[0\])? must (be )?{expected}",
    ):
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
    "scores.coverage": ("0.00009", "0.0001", "0.9999", "1"),
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


_SECTIONS = {
    section.name: type(getattr(Recipe("x"), section.name))
    for section in fields(Recipe)
    if is_dataclass(getattr(Recipe("x"), section.name))
}
_KEYS = [(section, entry) for section, kind in _SECTIONS.items() for entry in fields(kind)]


@pytest.mark.parametrize(
    ("section", "entry"), _KEYS, ids=[f"{section}.{entry.name}" for section, entry in _KEYS]
)
def test_every_key_is_explained_and_kept_within_its_limits(section: str, entry: Any) -> None:
    kind, within = str(entry.type), entry.metadata["within"]
    about = entry.metadata["about"]
    assert about
    assert not about.endswith(".")
    if "bool" in kind or "StageRecipe" in kind:
        return
    path = f"{section}.{entry.name}"
    if "str" in kind:
        if within is not None:  # a path, or layers' names: anything else is one of some words
            listed = "tuple" in kind
            value = '["nonsense"]' if listed else "nonsense"
            with pytest.raises(RecipeError, match=f"{path} cannot be 'nonsense'"):
                load_recipe("digits", [f"{path}={value}"])
        return
    low, high = within  # every number has limits
    for outside in (low - (abs(low) or 1), high * 1.5 + 1):
        number = str(round(outside)) if "int" in kind else repr(float(outside))
        value = f"[{number}]" if "tuple" in kind else number
        with pytest.raises(RecipeError, match=rf"{path} must be .* to .*, got"):
            load_recipe("digits", [f"{path}={value}"])


def test_a_stage_has_the_limits_of_the_keys_it_replaces() -> None:
    of_training = {entry.name: entry for entry in fields(TrainingRecipe)}
    of_data = {entry.name: entry for entry in fields(DataRecipe)}
    for name, whole in (
        ("width", of_data["width"]),
        ("height", of_data["height"]),
        ("batch_size", of_training["batch_size"]),
        ("learning_rate", of_training["learning_rate"]),
        ("schedule", of_training["schedule"]),
    ):
        of_stage = next(entry for entry in fields(StageRecipe) if entry.name == name)
        assert of_stage.metadata["within"] == whole.metadata["within"]
    for wrong in ("{share=0}", "{width=7}", "{schedule='linear'}", "{epochs=3}", "{batch_size=0}"):
        with pytest.raises(
            RecipeError, match=r"training\.stages\[0\]\.(share|width|sch|epo|batch)"
        ):
            load_recipe("digits", [f"training.stages=[{wrong}]"])


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
        ("training.optimizer", "adamW", r"'adamW' \(did you mean adamw\?\)"),
        ("training.schedule", "onecycle", r"'onecycle' \(did you mean one-cycle\?\)"),
        ("model.architecture", "mobilenetv2", r"'mobilenetv2' \(did you mean mobilenet-v2\?\)"),
        ("model.activation", "Relu", r"'Relu' \(did you mean relu\?\)"),
        ("training.loss", "cross-entropy", r"'cross-entropy' \(did you mean crossentropy\?\)"),
        ("conversion.formats", "['int8', 'int5']", r"'int5' \(did you mean int8\?\)"),
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


_BUILTIN = [
    source
    for name in builtin_recipes()
    for source in (name, *(f"{name}:{variant}" for variant in variants_of(name)))
]


@pytest.mark.parametrize("source", _BUILTIN)
def test_a_builtin_recipe_loads_and_comes_back_whole(source: str, tmp_path: Path) -> None:
    recipe = load_recipe(source)
    assert recipe.name == source.replace(":", "-")
    assert recipe.description
    assert recipe_from(recipe_to(recipe), "back") == recipe
    for explained in (False, True):
        assert _load(tmp_path, recipe_toml(recipe, explained=explained)) == recipe


def test_the_builtin_recipes_are_these() -> None:
    assert builtin_recipes() == (
        *("cifar10-cnn", "cifar10-fast", "cifar10-transfer", "cinic10-vgg16", "digits"),
        *("edge-mobilenet", "edge-small", "edge-tiny", "imagenet100-transfer", "melanoma"),
        *("small-cnn", "tiny-imagenet-resdense"),
    )


# Variants.

_WITH_VARIANTS = """\
# What it is for,
# in two lines.
name = "mine"

[data]
width = 64

[model]
head = [64, 32]
dropout = 0.4

[variants.wide.model]
head = [512]

[variants.tall]
data = { height = 96 }

[variants.same]
"""


def test_a_variant_changes_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(_WITH_VARIANTS, "utf-8")
    assert variants_of(path) == ("wide", "tall", "same")
    base = load_recipe(path)
    assert base.model.head == (64, 32)
    wide = load_recipe(f"{path}:wide")
    assert wide == replace(base, name="mine-wide", model=replace(base.model, head=(512,)))
    tall = load_recipe(f"{path}:tall", ["data.width=48"])
    assert tall == replace(base, name="mine-tall", data=replace(base.data, width=48, height=96))
    assert load_recipe(f"{path}:same") == replace(base, name="mine-same")
    assert load_recipe(f"{path}:same", ["name=other"]).name == "other"


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("wid", r"no variant 'wid' \(did you mean wide\?\); it has wide, tall, same"),
        ("", r"no variant ''; it has wide, tall, same"),
        ("zzz", r"no variant 'zzz'; it has wide, tall, same"),
    ],
)
def test_a_wrong_variant_names_the_nearest(variant: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(_WITH_VARIANTS, "utf-8")
    with pytest.raises(RecipeError, match=message):
        load_recipe(f"{path}:{variant}")


def test_a_recipe_without_variants_says_so() -> None:
    with pytest.raises(RecipeError, match="recipe digits: has no variant 'large'; it has none"):
        load_recipe("digits:large")


def test_an_error_in_a_variant_says_which(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text('name = "x"\n[variants.a.model]\nhaed = [3]\n', "utf-8")
    assert load_recipe(path).name == "x"  # the recipe itself is sound
    with pytest.raises(RecipeError, match=r"my\.toml:a: unknown key model\.haed"):
        load_recipe(f"{path}:a")


@pytest.mark.parametrize("text", ["variants = 3", "variants = { a = 3 }", "variants = [{ a = 3 }]"])
def test_variants_are_sections(text: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="variants must hold sections"):
        _load(tmp_path, f'name = "x"\n{text}')


@pytest.mark.parametrize("name", ["", "name = 5\n"])
def test_a_variant_does_not_make_up_for_a_missing_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(f"{name}[variants.large.model]\nwidth = 2\n", "utf-8")
    with pytest.raises(RecipeError, match=r"needs a name|name must be text"):
        load_recipe(f"{path}:large")


def test_a_file_with_a_colon_in_its_name_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a:b"
    path.write_text('name = "x"\n', "utf-8")
    assert load_recipe(path).name == "x"


def test_the_notes_are_the_comment_at_the_head(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(_WITH_VARIANTS, "utf-8")
    assert notes_of(path) == notes_of(f"{path}:wide") == "# What it is for,\n# in two lines.\n"
    path.write_text('name = "x"\n# not at the head\n', "utf-8")
    assert notes_of(path) == ""


def test_an_explained_recipe_says_what_every_key_means() -> None:
    text = recipe_toml(load_recipe("digits"), explained=True)
    lines = text.splitlines()
    for section, entry in _KEYS:
        if f"{entry.name} =" in text:
            about = " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
            assert entry.metadata["about"] in about, section
    assert all(len(line) <= 106 for line in lines if line.startswith("#"))


# Contradictions.

_PRETRAINED = ("model.architecture=mobilenet-v2", "model.weights=imagenet")
_FROZEN = (*_PRETRAINED, "model.trainable=head", "augmentation.shift=0")
_TWO = "training.stages=[{trainable='head'},{trainable='last-2'}]"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.trainable=head"], "needs pretrained weights"),
        (["model.trainable=last-3"], "needs pretrained weights"),
        (["scores.coverage=0.9", "scores.accuracy=0.9"], "a threshold has one goal"),
        (["training.stages=[{trainable='head'},{}]"], "needs pretrained weights"),
        ([*_PRETRAINED, "model.trainable=head"], "first pass is not augmented"),
        (
            [*_FROZEN, "training.feature_variants=2", "augmentation.mixup=0.5"],
            "without mixed batches",
        ),
        (
            [*_FROZEN, "training.feature_variants=2", "augmentation.cutmix=1"],
            "without mixed batches",
        ),
        ([*_FROZEN, "training.teacher=big.keras"], "training.teacher needs pictures"),
        ([*_PRETRAINED, _TWO, "training.teacher=big.keras"], "training.teacher needs pictures"),
        (["training.feature_variants=2"], 'needs model.trainable = "head"'),
        (["training.optimizer=adamw"], "needs training.weight_decay"),
        (
            [*_PRETRAINED, "training.stages=[{},{trainable='head'}]"],
            "only the first of training.stages",
        ),
        (["training.stages=[{},{width=16}]"], "the last of training.stages must have the input's"),
        (["training.stages=[{height=16}]"], "input's size, 32 x 32, got 32 x 16"),
        (["model.pooling=flatten", "training.stages=[{width=16},{}]"], "stages of other sizes"),
        (["training.stages=[{},{},{}]", "training.epochs=2"], "need as many epochs, got 2"),
        (["name=..."], "must have a letter or a digit"),
    ],
)
def test_a_contradiction_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("digits", settings)


@pytest.mark.parametrize(
    "settings",
    [
        [*_FROZEN],
        [*_PRETRAINED, "model.trainable=head", "training.feature_variants=2"],
        [*_PRETRAINED, _TWO, "training.feature_variants=2"],
        [*_PRETRAINED, _TWO, "augmentation.mixup=0.5"],
        [*_PRETRAINED, "model.trainable=last-3", "augmentation.mixup=0.5"],
        ["training.stages=[{width=16,height=16},{}]"],
        ["training.optimizer=adamw", "training.weight_decay=0.004"],
        ["training.teacher=big.keras"],
        ["model.pooling=flatten", "training.stages=[{learning_rate=0.1},{}]"],
    ],
    ids=str,
)
def test_what_is_close_to_a_contradiction_is_not_one(settings: list[str]) -> None:
    load_recipe("digits", settings)


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
    name=st.text(st.characters(categories=("L", "Nd"), include_characters="-_.")).map("a".__add__),
    description=st.text(),
    data=st.builds(DataRecipe, width=st.integers(8, 4096), validation=_SHARES, test=_SHARES),
    model=st.builds(
        ModelRecipe,
        weights=st.text(),
        width=st.floats(0.05, 4),
        head=st.lists(st.integers(1, 65_536), max_size=3).map(tuple),
    ),
    training=st.builds(
        TrainingRecipe,
        learning_rate=st.floats(1e-12, 1e3),
        weight_decay=st.floats(0, 1),
        stages=st.lists(
            st.builds(
                StageRecipe,
                share=st.floats(1e-6, 1e6),
                learning_rate=st.none() | st.floats(1e-12, 1e3),
                batch_size=st.none() | st.integers(1, 65_536),
                schedule=st.none() | st.sampled_from(["constant", "plateau"]),
            ),
            max_size=3,
        ).map(tuple),
    ),
    conversion=st.builds(
        ConversionRecipe,
        formats=st.lists(st.sampled_from(["float32", "int8", "int16x8"]), min_size=1).map(tuple),
    ),
    scores=st.builds(
        ScoresRecipe, temperature=st.booleans(), coverage=st.none() | st.floats(0.0001, 0.9999)
    ),
    gates=st.builds(GatesRecipe, max_drop=st.none() | st.floats(0, 100)),
)


@pytest.mark.slow
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


# The commands.


def _edgecls(*words: str) -> Result:
    return CliRunner().invoke(main, ["recipe", *words])


def test_the_list_names_every_recipe_and_variant() -> None:
    lines = _edgecls("list").stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(
        builtin_recipes()
    )
    for source in _BUILTIN:
        assert any(source in line.replace(",", "").split() for line in lines)


@pytest.mark.parametrize("source", _BUILTIN)
def test_what_is_shown_is_a_recipe_to_start_from(source: str, tmp_path: Path) -> None:
    shown = _edgecls("show", source).stdout
    assert shown.startswith(notes_of(source))
    assert "\n# of the model's input, in pixels\nwidth = " in shown
    (tmp_path / "mine.toml").write_text(shown, "utf-8")
    assert load_recipe(tmp_path / "mine.toml") == load_recipe(source)
    checked = _edgecls("check", str(tmp_path / "mine.toml"))
    assert checked.exit_code == 0
    assert checked.stdout.endswith(f"a valid recipe, {load_recipe(source).name}\n")


def test_a_check_looks_into_every_variant(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(_WITH_VARIANTS, "utf-8")
    assert _edgecls("check", str(path)).stdout.endswith(
        "a valid recipe, mine, mine-wide, mine-tall, mine-same\n"
    )
    path.write_text(_WITH_VARIANTS + "model = { width = 9 }\n", "utf-8")
    checked = _edgecls("check", str(path))
    assert checked.exit_code == 2
    assert "mine.toml:same: model.width must be 0.05 to 4, got 9.0" in checked.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "cinic10-vgg16:frozn"), "no variant 'frozn' (did you mean frozen?)"),
        (("show", "cinic-vgg16"), "did you mean cinic10-vgg16?"),
        (("check", "nowhere.toml"), "nowhere.toml: no such recipe file"),
    ],
)
def test_a_wrong_word_is_a_usage_error(words: tuple[str, ...], message: str) -> None:
    result = _edgecls(*words)
    assert result.exit_code == 2
    assert message in result.stderr
