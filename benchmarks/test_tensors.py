"""Between pixels and the model's tensor, and between its answer and probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from edge_sdk.loop.decisions import top_k
from edge_sdk.types import Quantization, TensorSpec
from edge_sdk.vision.tensors import SYMMETRIC, Encoder, decode, softmax, temper

_SIDE = 224
_CLASSES = 1000
_ENCODERS = "encode 224x224x3"
_ANSWERS = "an answer of 1000 classes"
# The grid that int8 models answer on.
_GRID = Quantization(1 / 256, -128)


@pytest.mark.benchmark(group=_ENCODERS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
def test_encoder(benchmark: BenchmarkFixture, dtype: str) -> None:
    zero_points = {"uint8": 127, "int8": -1}
    scale = Quantization(2 / 255, zero_points[dtype]) if dtype in zero_points else None
    encode = Encoder(TensorSpec("input", (1, _SIDE, _SIDE, 3), dtype, scale), SYMMETRIC)
    pixels = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
    wide = pixels.astype(np.float64)[np.newaxis]
    expected = {"uint8": wide, "int8": wide - 128, "float32": wide / 127.5 - 1}[dtype]
    assert encode(pixels).dtype == dtype
    np.testing.assert_allclose(encode(pixels), expected, atol=1e-6)
    assert np.shares_memory(encode(pixels), pixels) == (dtype == "uint8")
    benchmark(encode, pixels)


@pytest.mark.benchmark(group=_ENCODERS)
def test_numpy_normalization(benchmark: BenchmarkFixture) -> None:
    # The usual code for a float model: the row to compare "float32" with.
    pixels = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)

    def normalize() -> np.ndarray:
        return (pixels[np.newaxis].astype(np.float32) - 127.5) / 127.5

    assert normalize().dtype == np.float32
    benchmark(normalize)


@pytest.mark.benchmark(group=_ANSWERS)
def test_decode_int8(benchmark: BenchmarkFixture) -> None:
    stored = np.random.default_rng(0).integers(-128, 128, (1, _CLASSES), np.int8)
    np.testing.assert_allclose(
        decode(stored, _GRID, logits=False), (stored[0].astype(float) + 128) / 256
    )
    benchmark(decode, stored, _GRID, logits=False)


@pytest.mark.benchmark(group=_ANSWERS)
def test_decode_logits(benchmark: BenchmarkFixture) -> None:
    logits = np.random.default_rng(0).normal(size=(1, _CLASSES)).astype(np.float32)
    powers = np.exp(logits[0].astype(np.float64))
    np.testing.assert_allclose(decode(logits, None, logits=True), powers / powers.sum(), rtol=1e-5)
    benchmark(decode, logits, None, logits=True)


@pytest.mark.benchmark(group=_ANSWERS)
def test_temper(benchmark: BenchmarkFixture) -> None:
    logits = np.random.default_rng(0).normal(size=_CLASSES).astype(np.float32)
    np.testing.assert_allclose(temper(softmax(logits), 2.0), softmax(logits / 2), rtol=1e-4)
    benchmark(temper, softmax(logits), 2.0)


@pytest.mark.benchmark(group=_ANSWERS)
def test_top_5(benchmark: BenchmarkFixture) -> None:
    scores = np.random.default_rng(0).permutation(_CLASSES).astype(np.float32)
    assert [scores[i] for i in top_k(scores, 5)] == [999, 998, 997, 996, 995]
    benchmark(top_k, scores, 5)
