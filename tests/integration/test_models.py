"""Every architecture builds, converts and agrees with itself; pretrained weights stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import Artifact, Classifier, Preprocessing
from host_tools.recipe import recipe_from
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


@pytest.mark.parametrize(
    ("architecture", "side", "parameters"),
    [("small-cnn", 32, 289_642), ("resnet8", 32, 78_666), ("mobilenet-v2", 96, 2_270_794)],
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


def test_head_only_training_leaves_the_pretrained_weights_alone(
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
    inner = next(layer for layer in trained.layers if layer.name == base.name)
    for ours, original in zip(inner.get_weights(), base.get_weights(), strict=True):
        assert np.array_equal(ours, original)


def test_a_head_trained_on_features_is_the_head_of_the_whole_network(
    digits: Path, public_data: Path, keras: Any
) -> None:
    from edge_sdk import Preprocessing
    from host_tools.data.layouts import find_pictures
    from host_tools.data.load import SplitRule, load_dataset
    from host_tools.models import build_model
    from host_tools.train.transfer import plain_features, split_network, training_features

    recipe = recipe_from(
        {
            "name": "any",
            "data": {"width": 48, "height": 48},
            "augmentation": {"horizontal_flip": 1.0},
            "model": {
                "architecture": "mobilenet-v2",
                "width": 0.35,
                "trainable": "head",
                "weights": str(public_data / _ALPHA_035),
            },
            "training": {"feature_variants": 2},
        },
        "test",
    )
    subset = load_dataset(
        find_pictures(digits), Preprocessing(48, 48), SplitRule(0.5, 0.4, 0)
    ).splits["train"]
    network = build_model(recipe, 4)
    base, head = split_network(network)
    features = training_features(base, subset, recipe)
    assert features.shape == (2, len(subset), 1280)
    assert np.array_equal(features[0], plain_features(base, subset))
    assert [v.path for v in head.trainable_variables] == ["logits/kernel", "logits/bias"]

    kernel = head.trainable_variables[0]
    kernel.assign(kernel + 1)  # what is learnt by the head is learnt by the network
    for variant, pixels in ((0, subset.pixels), (1, subset.pixels[:, :, ::-1])):
        through_head = head.predict(features[variant], verbose=0)
        whole = network.predict(pixels.astype(np.float32), verbose=0)
        assert np.abs(through_head - whole).max() < 1e-3 * np.abs(whole).max()
