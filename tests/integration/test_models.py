"""Architectures: each has its documented structure, and the right pretrained weights are trainable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import Artifact, Classifier, Preprocessing, read_image
from edge_sdk.errors import RecipeError
from edge_sdk.vision.preprocess import preprocess
from host_tools.extras import require
from host_tools.recipe import Recipe, keys, recipe_from
from tests.integration.host import edgecls

_ALPHA_035 = "weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"


@pytest.fixture(scope="module")
def keras() -> Any:
    pytest.importorskip("tensorflow", reason="the extra [host] is not installed")
    from host_tools.extras import require

    return require("keras")


def _random_pixels(count: int, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    # Fine for arithmetic: float and artifact must agree on any input, and nothing is learnt here.
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "side", "parameters"),
    [
        ("small-cnn", 32, 289_642),
        ("resnet8", 32, 78_666),
        ("airbench", 32, 570_922),
        ("mobilenet-v2", 96, 2_270_794),
    ],
)
def test_an_architecture_has_its_known_size_and_converts_to_itself(
    architecture: str, side: int, parameters: int, keras: Any, tmp_path: Path
) -> None:
    from host_tools.models import build_model, with_softmax
    from host_tools.package import Description, write_artifact
    from host_tools.quantize.convert import convert

    recipe = recipe_from(
        {
            "name": "any",
            "data": {"width": side, "height": side},
            "model": {"architecture": architecture},
        },
        "test",
    )
    keras.utils.set_random_seed(0)
    logits = build_model(recipe, 10)
    assert logits.count_params() == parameters
    model = with_softmax(logits)
    labels = tuple(f"class {i}" for i in range(10))
    path = tmp_path / "any.tflite"
    write_artifact(
        path,
        convert(model, "float32"),
        Description("any", "", "float32", labels, Preprocessing(side, side), {}),
    )
    pixels = _random_pixels(4, side)
    expected = model.predict(pixels.astype(np.float32), verbose=0)
    with Classifier.open(path) as classifier:
        scores = [classifier.classify(picture).scores for picture in pixels]
    assert np.abs(np.stack(scores) - expected).max() < 1e-4


@pytest.mark.computes
@pytest.mark.parametrize("ending", ["softmax in dense", "softmax activation", "softmax layer"])
def test_any_way_to_end_in_a_softmax_converts(ending: str, keras: Any, tmp_path: Path) -> None:
    from host_tools.package import Description, write_artifact
    from host_tools.quantize.convert import convert

    layers = keras.layers
    inputs = keras.Input((16, 16, 3))
    x = layers.Flatten()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(inputs)))
    tails = {
        "softmax in dense": [layers.Dense(3, activation="softmax")],
        "softmax activation": [layers.Dense(3), layers.Activation("softmax")],
        "softmax layer": [layers.Dense(3), layers.Softmax()],
    }
    for layer in tails[ending]:
        x = layer(x)
    model = keras.Model(inputs, x)
    pixels = _random_pixels(20, 16)
    path = tmp_path / "any.tflite"
    write_artifact(
        path,
        convert(model, "int8", pixels),
        Description("any", "", "int8", ("a", "b", "c"), Preprocessing(16, 16), {}),
    )
    artifact = Artifact.open(path)
    assert artifact.operators["SOFTMAX"] == 1
    assert not artifact.logits
    with Classifier.open(path) as classifier:
        scores = np.stack([classifier.classify(picture).scores for picture in pixels])
    assert np.abs(scores - model.predict(pixels.astype(np.float32), verbose=0)).max() < 0.1
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_a_model_without_a_softmax_is_refused_with_the_remedy(keras: Any) -> None:
    from edge_sdk.errors import ConversionError
    from host_tools.quantize.convert import convert

    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    with pytest.raises(ConversionError, match=r"expected a softmax; add keras.layers.Softmax"):
        convert(keras.Model(inputs, outputs), "float32")


# Every architecture.

_LIGHT = (
    *("small-cnn", "resnet8", "resnet20", "airbench", "resdense", "mobilenet", "mobilenet-v2"),
    *("mobilenet-v3-small", "efficientnet-b0"),
)


def _recipe(architecture: str, side: int | None = None, **sections: dict[str, Any]) -> Recipe:
    from host_tools.models.applications import APPLICATIONS

    smallest = APPLICATIONS[architecture].smallest if architecture in APPLICATIONS else 32
    side = side or smallest
    return recipe_from(
        {
            "name": "any",
            "data": {"width": side, "height": side},
            "model": {"architecture": architecture} | sections.get("model", {}),
            "training": sections.get("training", {}),
            "augmentation": sections.get("augmentation", {}),
        },
        "test",
    )


def _ours(architecture: str, side: int | None = None, classes: int = 4, **model: Any) -> Any:
    from host_tools.models import build_model

    return build_model(_recipe(architecture, side, model=model), classes)


def _pictures(folder: Path, count: int, side: int) -> Any:
    """Real ones, ``(count, side, side, 3)`` float32."""
    files = sorted(folder.rglob("*.png"))[::7][:count]
    found = [preprocess(read_image(file), Preprocessing(side, side)) for file in files]
    return np.stack(found).astype(np.float32)


def test_every_architecture_of_a_recipe_can_be_built_and_the_other_way_round() -> None:
    from host_tools.models import ARCHITECTURES
    from host_tools.models.applications import APPLICATIONS

    assert tuple(ARCHITECTURES) == keys.ARCHITECTURES
    assert tuple(APPLICATIONS) == keys.APPLICATIONS


@pytest.mark.slow
@pytest.mark.parametrize("architecture", keys.ARCHITECTURES)
def test_an_architecture_is_what_it_is_taken_for(
    architecture: str, digits: Path, keras: Any
) -> None:
    from host_tools.models.anatomy import layers_of, stages_of_network
    from host_tools.models.applications import APPLICATIONS

    network = _ours(architecture)
    assert network.output_shape == (None, 4)
    assert [layer.name for layer in network.layers].count("features") == 1
    layers = layers_of(network)
    assert sum(layer.parameters for layer in layers) == network.count_params()
    assert sum(stage.parameters for stage in stages_of_network(layers)) == network.count_params()
    if architecture in APPLICATIONS:
        # The published number of parameters of the backbone, as Keras has it.
        build = getattr(keras.applications, APPLICATIONS[architecture].constructor)
        side = network.input_shape[1]
        if architecture in _LIGHT:
            original = build(include_top=False, weights=None, input_shape=(side, side, 3))
            head = network.get_layer("logits").count_params()
            assert network.count_params() == original.count_params() + head
    if architecture in _LIGHT:
        pictures = _pictures(digits, 3, network.input_shape[1])
        logits = network.predict_on_batch(pictures)
        assert np.isfinite(logits).all()
        assert np.abs(logits[0] - logits[1]).max() > 0


@pytest.mark.parametrize(
    ("architecture", "side", "message"),
    [
        ("inception-v3", 74, "at least 75 x 75 pixels, got 74 x 74 x 3"),
        ("xception", 32, "at least 71 x 71 pixels"),
        ("mobilenet", 24, "at least 32 x 32 pixels"),
        ("airbench", 8, "at least 9 x 9 pixels, got 8 x 8"),
    ],
)
def test_an_input_too_small_for_an_architecture_is_refused(
    architecture: str, side: int, message: str, keras: Any
) -> None:
    with pytest.raises(RecipeError, match=message):
        _ours(architecture, side)


@pytest.mark.computes
@pytest.mark.parametrize("channels", [1, 3])
def test_a_fixed_stem_whitens_and_is_exact_in_int8(channels: int, keras: Any, digits: Path) -> None:
    from host_tools.models import build_model

    recipe = _recipe("airbench")
    color = "rgb" if channels == 3 else "gray"
    network = build_model(replace(recipe, data=replace(recipe.data, color=color)), 4)
    (kernel,) = network.get_layer("stem").get_weights()
    half = 4 * channels
    assert kernel.shape == (2, 2, channels, 2 * half)
    assert np.array_equal(kernel[..., half:], -kernel[..., :half])
    filters = kernel[..., :half].reshape(-1, half)
    products = filters.T @ filters
    assert np.allclose(products, np.diag(np.diag(products)), atol=1e-4 * products.max())
    # All but brightness are differences, which a gray picture must not leak into.
    assert np.flatnonzero(np.abs(filters.sum(axis=0)) > 1e-6).tolist() == [0]
    steps = filters / np.abs(filters).max(axis=0) * 2
    assert np.array_equal(steps, np.rint(steps))  # so that int8 holds them as they are


def test_a_fixed_stem_stays_whatever_is_to_learn(keras: Any) -> None:
    from host_tools.models.head import set_trainable

    recipe = _recipe("airbench")
    network = _ours("airbench")
    for which in ("all", "stem, block1_conv1"):
        set_trainable(network, recipe.model, which)
        learning = {variable.path.split("/")[0] for variable in network.trainable_variables}
        assert "stem" not in learning
        assert {"block1_conv1", "logits"} <= learning


def test_what_an_architecture_does_not_have_is_refused(keras: Any) -> None:
    with pytest.raises(RecipeError, match="vgg16 has one width only"):
        _ours("vgg16", width=0.5)
    with pytest.raises(RecipeError, match="small-cnn has no ImageNet weights"):
        _ours("small-cnn", weights="imagenet")
    from host_tools.models import build_model

    recipe = _recipe("mobilenet")
    gray = replace(recipe, data=replace(recipe.data, color="gray"))
    with pytest.raises(RecipeError, match=r"needs RGB pictures .* got 32 x 32 x 1"):
        build_model(gray, 4)


# Normalisation: our network takes RGB 0..255, the original what its preprocess_input makes of it.

_MODULES = {"vgg16": "vgg16", "mobilenet": "mobilenet", "efficientnet-b0": "efficientnet"}


@pytest.mark.parametrize(("weights", "most"), [("none", 0.99), ("file", 0.999)])
def test_averages_of_a_network_from_nothing_follow_soon(
    weights: str, most: float, keras: Any, tmp_path: Path
) -> None:
    if weights == "file":
        original = keras.applications.MobileNetV3Small(
            include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.25
        )
        weights = str(tmp_path / "original.weights.h5")
        original.save_weights(weights)
    network = _ours("mobilenet-v3-small", weights=weights, width=0.25)
    norms = [one for one in network.layers if isinstance(one, keras.layers.BatchNormalization)]
    assert {norm.momentum for norm in norms} == {most}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", _MODULES)
@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_weights_of_the_original_answer_as_the_original(
    architecture: str, suffix: str, digits: Path, keras: Any, tmp_path: Path, no_download: Path
) -> None:
    from host_tools.models.applications import APPLICATIONS

    keras.utils.set_random_seed(3)
    build = getattr(keras.applications, APPLICATIONS[architecture].constructor)
    original = build(include_top=False, weights=None, input_shape=(32, 32, 3))
    if architecture == "efficientnet-b0":  # Keras' own graph for ImageNet weights has a layer more
        original.save_weights(no_download)
        original = build(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    file = tmp_path / f"original{suffix}"
    if suffix == ".h5":
        legacy_h5_format = require("keras.src.legacy.saving.legacy_h5_format")
        with require("h5py").File(file, "w") as h5:
            legacy_h5_format.save_weights_to_hdf5_group(h5, original)
    else:
        original.save_weights(file)
    ours = _ours(architecture, weights=str(file))
    features = keras.Model(ours.inputs, ours.get_layer("features").input)
    # Colours, so that red and blue exchanged would be found.
    pictures = _pictures(digits, 2, 32) * np.array([1.0, 0.5, 0.1], np.float32)
    module = getattr(keras.applications, _MODULES[architecture])
    expected = original.predict_on_batch(module.preprocess_input(pictures.copy()))
    given = features.predict_on_batch(pictures)
    assert np.abs(expected).max() > 0
    assert np.abs(given - expected).max() < 1e-3 * np.abs(expected).max()
    swapped = features.predict_on_batch(pictures[..., ::-1])
    assert np.abs(swapped - expected).max() > 1e-2 * np.abs(expected).max()


@pytest.fixture
def no_download(keras: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keras finds this file, yet to be made, where it would look for ImageNet weights."""
    file = tmp_path / "downloaded.weights.h5"
    file_utils = require("keras.src.utils.file_utils")
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(file))
    return file


def _layers_of_backbone(network: Any) -> list[tuple[str, Any]]:
    """Kind and settings of each layer, without names, which Keras numbers."""
    names = [layer.name for layer in network.layers]
    found = []
    for layer in network.layers[: names.index("features")]:
        settings = layer.get_config()
        del settings["name"]
        found.append((type(layer).__name__, settings))
    return found


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined:UserWarning")
@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=() if name in _LIGHT else pytest.mark.slow)
        for name in keys.APPLICATIONS
    ],
)
def test_weights_from_a_file_are_in_the_network_that_imagenet_is_in(
    architecture: str, no_download: Path, keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Graphs are compared: what is loaded into them does not matter.
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
    no_download.touch()
    downloaded = _layers_of_backbone(_ours(architecture, weights="imagenet"))
    from_file = _layers_of_backbone(_ours(architecture, weights=str(no_download)))
    assert len(downloaded) == len(from_file)
    assert downloaded == from_file


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_efficientnet_answers_alike_with_weights_from_a_file(
    suffix: str, no_download: Path, keras: Any, digits: Path, tmp_path: Path
) -> None:
    from host_tools.models import with_softmax
    from host_tools.third_party.keras import save_keras

    keras.utils.set_random_seed(3)
    original = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    original.save_weights(no_download)
    file = tmp_path / f"original{suffix}"
    if suffix == ".h5":
        legacy_h5_format = require("keras.src.legacy.saving.legacy_h5_format")
        with require("h5py").File(file, "w") as h5:
            legacy_h5_format.save_weights_to_hdf5_group(h5, original)
    else:
        original.save_weights(file)

    def answers(weights: object) -> Any:
        network = _ours("efficientnet-b0", weights=str(weights))
        features = keras.Model(network.inputs, network.get_layer("features").input)
        return network, features.predict_on_batch(_pictures(digits, 2, 32))

    downloaded, expected = answers("imagenet")
    from_file, given = answers(file)
    assert np.abs(expected).max() > 0
    assert np.array_equal(given, expected)
    assert not np.allclose(original.predict_on_batch(_pictures(digits, 2, 32)), expected)
    # A model of ours keeps its graph, and so does what starts from its weights.
    nothing = _ours("efficientnet-b0")
    for name, network in (("imagenet", downloaded), ("file", from_file), ("nothing", nothing)):
        save_keras(with_softmax(network), tmp_path / f"{name}.keras")
        second, again = answers(tmp_path / f"{name}.keras")
        features = keras.Model(network.inputs, network.get_layer("features").input)
        assert np.array_equal(again, features.predict_on_batch(_pictures(digits, 2, 32)))
        kinds = [kind for kind, _ in _layers_of_backbone(network)]
        assert [kind for kind, _ in _layers_of_backbone(second)] == kinds


# Heads.


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"head": [8, 5], "dropout": 0.3},
        {"head": [6], "activation": "gelu", "batch_norm": False, "dropout": 0.0},
        {"pooling": "flatten", "head": [4], "activation": "leaky_relu"},
        {"pooling": "max", "activation": "swish", "head": [4]},
        {"batch_norm": False, "block_dropout": 0.2},
    ],
    ids=str,
)
def test_a_head_is_built_saved_and_loaded(
    head: dict[str, Any], digits: Path, keras: Any, tmp_path: Path
) -> None:
    from host_tools.models import with_softmax
    from host_tools.third_party.keras import load_keras, save_keras

    network = _ours("small-cnn", 16, width=0.25, **head)
    model = with_softmax(network)
    save_keras(model, tmp_path / "model.keras")
    loaded = load_keras(tmp_path / "model.keras")
    pictures = _pictures(digits, 4, 16)
    scores = loaded.predict_on_batch(pictures)
    assert np.array_equal(scores, model.predict_on_batch(pictures))
    assert scores.sum(axis=1) == pytest.approx(1, abs=1e-5)

    names = [layer.name for layer in network.layers]
    hidden = [network.get_layer(f"hidden{i + 1}").units for i in range(len(head.get("head", [])))]
    assert hidden == head.get("head", [])
    norms = [name for name in names if name.startswith("hidden") and name.endswith("_bn")]
    assert len(norms) == (len(hidden) if head.get("batch_norm", True) else 0)
    drops = [layer.rate for layer in network.layers if "Dropout" in type(layer).__name__]
    blocks = 3 if head.get("block_dropout") else 0
    assert len(drops) == blocks + (max(1, len(hidden)) if head.get("dropout", 0.2) else 0)
    flat = {"flatten": 4 * 4 * 32}.get(head.get("pooling", "avg"), 32)
    assert network.get_layer("features").output.shape[-1] == flat


@pytest.mark.parametrize("architecture", ["small-cnn", "airbench"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_every_convolution_that_learns_is_normalised_or_has_a_bias(
    architecture: str, batch_norm: bool, keras: Any
) -> None:
    network = _ours(architecture, 16, width=0.25, batch_norm=batch_norm)

    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds.count("BatchNormalization") == 6 * batch_norm
    learning = [
        layer for layer in network.layers if type(layer).__name__ == "Conv2D" and layer.trainable
    ]
    assert len(learning) == 6
    assert all(layer.use_bias is not batch_norm for layer in learning)


# Anatomy.


@pytest.mark.parametrize(
    ("architecture", "field"), [("vgg16", 212), ("resnet50", 483), ("mobilenet-v2", 491)]
)
def test_receptive_fields_are_the_published_ones(architecture: str, field: int, keras: Any) -> None:
    # Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks" (2019).
    from host_tools.models.anatomy import layers_of

    layers = layers_of(_ours(architecture, 64))
    names = [layer.name for layer in layers]
    assert layers[names.index("features") - 1].receptive_field == field
    assert layers[-1].receptive_field == 0


# Pretrained weights: which of them learn, and which stay.


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of ours that has learnt a little: pretrained weights without a download."""
    out = tmp_path_factory.mktemp("trained") / "run"
    result = edgecls(
        *("train", "digits", "--data", digits, "--out", out, "--set", "training.epochs=1"),
        *("--set", "model.width=0.25", "--set", "data.width=16", "--set", "data.height=16"),
    )
    assert result.exit_code == 0, result.output
    return out


def _learnt(network: Any, before: dict[str, list[Any]]) -> set[str]:
    """The layers whose weights differ from before."""
    return {
        layer.name
        for layer in network.layers
        if layer.name in before
        and any(
            not np.array_equal(a, b)
            for a, b in zip(layer.get_weights(), before[layer.name], strict=True)
        )
    }


_HEAD = {"logits"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainable", "train_batch_norm", "learnt"),
    [
        ("head", False, _HEAD),
        ("head", True, _HEAD),
        ("last-1", True, _HEAD | {"block3_conv2_bn"}),
        ("last-2", False, _HEAD | {"block3_conv2"}),
        ("last-3", True, _HEAD | {"block3_conv1_bn", "block3_conv2", "block3_conv2_bn"}),
        ("block1_conv1", False, _HEAD | {"block1_conv1"}),
        ("block1_*, block3_conv2", False, _HEAD | {"block1_conv1", "block1_conv2", "block3_conv2"}),
        ("all", False, _HEAD | {f"block{b}_conv{c}" for b in (1, 2, 3) for c in (1, 2)}),
    ],
)
def test_exactly_the_layers_asked_for_learn(
    trainable: str, train_batch_norm: bool, learnt: set[str], trained: Path, digits: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    from host_tools.third_party.keras import load_keras

    before = {
        layer.name: layer.get_weights() for layer in load_keras(trained / "model.keras").layers
    }
    out = tmp_path / "run"
    batch_norm = str(train_batch_norm).lower()
    result = edgecls(
        *("train", "digits", "--data", digits, "--out", out, "--set", "training.epochs=1"),
        *("--set", "model.width=0.25", "--set", "data.width=16", "--set", "data.height=16"),
        *("--set", f"model.weights={trained}", "--set", f"model.trainable={trainable}"),
        *("--set", f"model.train_batch_norm={batch_norm}", "--set", "augmentation.shift=0"),
    )
    assert result.exit_code == 0, result.output
    assert _learnt(load_keras(out / "model.keras"), before) == learnt


def test_a_layer_that_is_not_there_is_a_usage_error_that_names_layers(
    trained: Path, digits: Path, tmp_path: Path
) -> None:
    result = edgecls(
        *("train", "digits", "--data", digits, "--out", tmp_path / "run"),
        *("--set", "model.width=0.25", "--set", "data.width=16", "--set", "data.height=16"),
        *("--set", f"model.weights={trained}", "--set", "model.trainable=block9_*"),
    )
    assert result.exit_code == 2
    assert "no layer is called 'block9_*'" in result.stderr
    assert "block3_conv2" in result.stderr


@pytest.mark.parametrize("which", ["last-0", "last-1"])
def test_a_backbone_that_turns_out_frozen_is_not_left_without_augmentation(
    which: str, trained: Path, digits: Path, tmp_path: Path
) -> None:
    # last-0 is the head alone; last-1 is a batch normalisation, which is kept still.
    result = edgecls(
        *("train", "digits", "--data", digits, "--out", tmp_path / "run"),
        *("--set", "training.epochs=1"),
        *("--set", "model.width=0.25", "--set", "data.width=16", "--set", "data.height=16"),
        *("--set", f"model.weights={trained}", "--set", f"model.trainable={which}"),
    )
    assert result.exit_code == 2, "augmentation was asked for, and nothing was augmented"


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["efficientnet-b0", "xception"])
def test_a_model_of_ours_is_pretrained_weights_for_its_like(
    architecture: str, digits: Path, keras: Any, tmp_path: Path
) -> None:
    # Keras numbers the layers it names itself on and on: the second network has other names.
    from host_tools.models import with_softmax
    from host_tools.third_party.keras import save_keras

    first = _ours(architecture)
    save_keras(with_softmax(first), tmp_path / "model.keras")
    second = _ours(architecture, classes=7, weights=str(tmp_path / "model.keras"))
    assert second.output_shape == (None, 7)
    pictures = _pictures(digits, 2, first.input_shape[1])
    features = [
        keras.Model(network.inputs, network.get_layer("features").output).predict_on_batch(pictures)
        for network in (first, second)
    ]
    assert np.array_equal(*features)


@pytest.mark.slow
def test_real_weights_stay_as_they_are_under_a_new_head(
    digits: Path, public_data: Path, keras: Any, tmp_path: Path
) -> None:
    weights = public_data / _ALPHA_035
    out = tmp_path / "run"
    result = edgecls(
        *("train", "edge-mobilenet", "--data", digits, "--out", out),
        *("--set", f"model.weights={weights}", "--set", "training.epochs=1"),
        *("--set", "data.width=48", "--set", "data.height=48"),
    )
    assert result.exit_code == 0, result.output
    trained = keras.models.load_model(out / "model.keras", compile=False)
    base = keras.applications.MobileNetV2(
        input_shape=(48, 48, 3), alpha=0.35, include_top=False, weights=None
    )
    base.load_weights(weights)
    with_weights = [layer for layer in base.layers if layer.weights]
    assert len(with_weights) > 100
    for original in with_weights:
        ours = trained.get_layer(original.name).get_weights()
        for one, other in zip(ours, original.get_weights(), strict=True):
            assert np.array_equal(one, other)


@pytest.mark.slow
def test_a_head_trained_on_features_is_the_head_of_the_whole_network(
    digits: Path, public_data: Path, keras: Any
) -> None:
    from host_tools.data.layouts import find_pictures
    from host_tools.data.load import Loading, load_dataset
    from host_tools.data.split import SplitRule
    from host_tools.models import build_model
    from host_tools.train.batches import plain_features, split_network, training_features

    recipe = _recipe(
        "mobilenet-v2",
        48,
        augmentation={"horizontal_flip": 1.0},
        model={
            "width": 0.35,
            "trainable": "head",
            "head": [16],
            "weights": str(public_data / _ALPHA_035),
        },
        training={"feature_variants": 2},
    )
    loading = Loading(Preprocessing(48, 48), SplitRule(0.5, 0.4, 0))
    subset = load_dataset(find_pictures(digits), loading).splits["train"]
    network = build_model(recipe, 4)
    base, head = split_network(network)
    features = training_features(base, subset, recipe)
    assert features.shape == (2, len(subset), 1280)
    assert np.array_equal(features[0], plain_features(base, subset))
    learning = [variable.path for variable in head.trainable_variables]
    assert learning[-2:] == ["logits/kernel", "logits/bias"]
    assert {path.split("/")[0] for path in learning} == {"hidden1", "hidden1_bn", "logits"}

    kernel = head.trainable_variables[-2]
    kernel.assign(kernel + 1)  # what is learnt by the head is learnt by the network
    pixels = subset.pixels()
    for variant, seen in ((0, pixels), (1, pixels[:, :, ::-1])):
        through_head = head.predict(features[variant], verbose=0)
        whole = network.predict(seen.astype(np.float32), verbose=0)
        assert np.abs(through_head - whole).max() < 1e-3 * np.abs(whole).max()


# Files of weights that are none.


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 half"], ids=repr)
@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5", ".bin"])
def test_a_file_that_holds_no_weights_is_refused(
    content: bytes, suffix: str, keras: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"model\.weights: .* does not fit small-cnn"):
        _ours("small-cnn", 16, weights=str(path))
