"""From a Keras network to the bytes of a model file, and to an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

pytest.importorskip("tensorflow", reason="the extra [host] is not installed")

from edge_sdk import Classifier
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.extras import require
from host_tools.package import Description, write_artifact
from host_tools.quantize.convert import convert

_SIDE, _CLASSES, _ROUNDS = 32, 4, 3
_LABELS = tuple("abcd")
_CONVERT = f"convert a network of three convolutions, {_SIDE}x{_SIDE}"


@pytest.fixture(scope="module")
def network() -> Any:
    keras = require("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((_SIDE, _SIDE, 3)),
            layers.Rescaling(1 / 255),
            *(layers.Conv2D(16, 3, strides=2, activation="relu") for _ in range(3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(_CLASSES),
            layers.Softmax(),
        ]
    )


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """To calibrate with; the last two are black and white."""
    noise = np.random.default_rng(0)
    drawn = noise.integers(0, 256, (34, _SIDE, _SIDE, 3), np.uint8)
    drawn[-2:] = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    return drawn


@pytest.mark.benchmark(group=_CONVERT)
def test_tensorflow_converter_alone(benchmark: BenchmarkFixture, network: Any) -> None:
    lite = require("tensorflow").lite

    def work() -> bytes:
        data: bytes = lite.TFLiteConverter.from_keras_model(network).convert()
        return data

    assert work()[4:8] == b"TFL3"
    benchmark.pedantic(work, rounds=_ROUNDS)


@pytest.mark.benchmark(group=_CONVERT)
@pytest.mark.parametrize("format_", ["float16", "int8"])
def test_convert(
    benchmark: BenchmarkFixture,
    network: Any,
    pictures: np.ndarray,
    format_: str,
    tmp_path: Path,
) -> None:
    def work() -> bytes:
        return convert(network, format_, pictures)

    path = tmp_path / "model.tflite"
    _write(path, work(), format_)
    expected = network(pictures.astype(np.float32)).numpy()
    with Classifier.open(path) as classifier:
        scores = np.array([classifier.classify(picture).scores for picture in pictures])
    np.testing.assert_allclose(scores, expected, atol=0.03)
    benchmark.pedantic(work, rounds=_ROUNDS)


@pytest.mark.benchmark(group="write an artifact, self-test included")
def test_write_artifact(
    benchmark: BenchmarkFixture, network: Any, pictures: np.ndarray, tmp_path: Path
) -> None:
    path, model = tmp_path / "model.tflite", convert(network, "int8", pictures)
    _write(path, model, "int8")
    with Classifier.open(path) as classifier:
        assert classifier.labels == _LABELS
    benchmark(_write, path, model, "int8")


def _write(path: Path, model: bytes, format_: str) -> None:
    how = Preprocessing(_SIDE, _SIDE)
    write_artifact(path, model, Description("bench", "", format_, _LABELS, how, {}))
