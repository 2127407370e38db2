"""Pixels to stored values and stored values to probabilities, against the plain formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_sdk.types import Quantization, TensorSpec
from edge_sdk.vision.tensors import (
    RAW,
    SYMMETRIC,
    UNIT,
    Encoder,
    Normalization,
    decode,
    encoding_table,
    implied_normalization,
    softmax,
)

pytestmark = pytest.mark.computes

_RANGES = {"uint8": (0, 255), "int8": (-128, 127)}
_MEANS = st.floats(-255, 255)
_STDS = st.floats(0.1, 300)


def _spec(dtype: str, quantization: Quantization | None = None, channels: int = 3) -> TensorSpec:
    return TensorSpec("image", (1, 4, 5, channels), dtype, quantization)


def _pixels(channels: int = 3) -> Any:
    """Every value there is, in a shape of its own."""
    return np.arange(256 * channels).reshape(16, 16, channels).astype(np.uint8)


def _quantized(pixel: int, how: Quantization, dtype: str, mean: float, std: float) -> int:
    low, high = _RANGES[dtype]
    return min(high, max(low, round((pixel - mean) / std / how.scale) + how.zero_point))


@settings(deadline=None)
@given(
    dtype=st.sampled_from(["uint8", "int8"]),
    scale=st.floats(1e-4, 20),
    zero_point=st.integers(0, 255),
    mean=_MEANS,
    std=_STDS,
)
def test_an_integer_table_is_the_formula_for_every_pixel(
    dtype: str, scale: float, zero_point: int, mean: float, std: float
) -> None:
    low, _ = _RANGES[dtype]
    how = Quantization(scale, zero_point + low)
    expected = [_quantized(pixel, how, dtype, mean, std) for pixel in range(256)]
    if all(abs(value - (pixel + low)) <= 1 for pixel, value in enumerate(expected)):
        expected = [pixel + low for pixel in range(256)]
    table = encoding_table(_spec(dtype, how), Normalization((mean,), (std,)))
    assert table.dtype == dtype
    assert table.shape == (256, 1)
    assert table[:, 0].tolist() == expected


@settings(deadline=None)
@given(mean=_MEANS, std=_STDS)
def test_a_float_table_is_the_formula_for_every_pixel(mean: float, std: float) -> None:
    table = encoding_table(_spec("float32"), Normalization((mean,), (std,)))
    assert table.dtype == np.float32
    assert table[:, 0].tolist() == [float(np.float32((p - mean) / std)) for p in range(256)]


def test_each_channel_has_its_own_table() -> None:
    how = Normalization((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))
    quantization = Quantization(0.0187, -14)
    table = encoding_table(_spec("int8", quantization), how)
    assert table.shape == (256, 3)
    for channel, (mean, std) in enumerate(zip(how.mean, how.std, strict=True)):
        expected = [_quantized(pixel, quantization, "int8", mean, std) for pixel in range(256)]
        assert table[:, channel].tolist() == expected


_PLAIN = {
    "uint8-raw": ("uint8", Quantization(1.0, 0), RAW),
    "uint8-unit": ("uint8", Quantization(1 / 255, 0), UNIT),
    "uint8-symmetric": ("uint8", Quantization(1 / 127.5, 127), SYMMETRIC),
    "uint8-symmetric-128": ("uint8", Quantization(1 / 128, 128), SYMMETRIC),
    "uint8-a-hair-wide": ("uint8", Quantization(1.003, 0), RAW),
    "int8-raw": ("int8", Quantization(1.0, -128), RAW),
    "int8-unit": ("int8", Quantization(1 / 255, -128), UNIT),
    "int8-symmetric": ("int8", Quantization(1 / 127.5, -1), SYMMETRIC),
    "int8-symmetric-0": ("int8", Quantization(1 / 128, 0), SYMMETRIC),
}


@pytest.mark.parametrize(("dtype", "quantization", "how"), _PLAIN.values(), ids=_PLAIN)
def test_within_one_count_of_the_pixel_the_pixel_itself_is_stored(
    dtype: str, quantization: Quantization, how: Normalization
) -> None:
    stored = encoding_table(_spec(dtype, quantization), how)[:, 0]
    assert stored.tolist() == [pixel + _RANGES[dtype][0] for pixel in range(256)]


def test_two_counts_away_the_formula_holds() -> None:
    stored = encoding_table(_spec("uint8", Quantization(1.008, 0)), RAW)[:, 0]
    assert stored[255] == 253


_ENCODINGS = {
    "identity": (_spec("uint8", Quantization(1.0, 0)), RAW),
    "uint8": (_spec("uint8", Quantization(0.02, 120)), SYMMETRIC),
    "int8": (_spec("int8", Quantization(1 / 255, -128)), UNIT),
    "int8-per-channel": (
        _spec("int8", Quantization(0.02, 3)),
        Normalization((120.0, 110.0, 100.0), (60.0, 50.0, 40.0)),
    ),
    "float32": (_spec("float32"), SYMMETRIC),
    "float32-per-channel": (
        _spec("float32"),
        Normalization((120.0, 110.0, 100.0), (60.0, 50.0, 40.0)),
    ),
    "gray-uint8": (_spec("uint8", Quantization(0.02, 120), 1), SYMMETRIC),
    "gray-int8": (_spec("int8", Quantization(1 / 255, -128), 1), UNIT),
    "gray-float32": (_spec("float32", None, 1), UNIT),
}


@pytest.mark.parametrize(("spec", "how"), _ENCODINGS.values(), ids=_ENCODINGS)
def test_an_encoder_looks_every_pixel_up_in_the_table(spec: TensorSpec, how: Normalization) -> None:
    pixels = _pixels(spec.shape[3])
    tensor = Encoder(spec, how)(pixels)
    table = np.broadcast_to(encoding_table(spec, how), (256, spec.shape[3]))
    assert tensor.dtype == spec.dtype
    np.testing.assert_array_equal(tensor[0], table[pixels, np.arange(spec.shape[3])])


def test_where_pixels_are_stored_plainly_none_is_copied() -> None:
    pixels = _pixels()
    assert np.shares_memory(Encoder(*_ENCODINGS["identity"])(pixels), pixels)


_IMPLIED = {
    "uint8-raw": (1.0, 0, "uint8", RAW),
    "uint8-unit": (1 / 255, 0, "uint8", UNIT),
    "uint8-unit-256": (1 / 256, 0, "uint8", UNIT),
    "uint8-symmetric": (1 / 127.5, 127, "uint8", SYMMETRIC),
    "uint8-symmetric-128": (1 / 128, 128, "uint8", SYMMETRIC),
    "int8-raw": (1.0, -128, "int8", RAW),
    "int8-unit": (1 / 255, -128, "int8", UNIT),
    "int8-symmetric": (1 / 127.5, -1, "int8", SYMMETRIC),
    "int8-symmetric-0": (1 / 128, 0, "int8", SYMMETRIC),
    "uint8-1.3-percent-wide": (1.013, 0, "uint8", RAW),
    "int8-1.3-percent-wide": (1.013 / 127.5, 0, "int8", SYMMETRIC),
    "20-to-199": (179 / 255, -28, "uint8", None),
    "uint8-5-percent-wide": (1.05, 0, "uint8", None),
    "uint8-5-percent-narrow": (0.95 / 255, 0, "uint8", None),
    "half-symmetric": (0.5 / 127.5, 127, "uint8", None),
    "imagenet": (0.0187, 114, "uint8", None),
}


@pytest.mark.parametrize(
    ("scale", "zero_point", "dtype", "expected"), _IMPLIED.values(), ids=_IMPLIED
)
def test_a_known_range_of_pixels_is_recognised_by_scale_and_zero_point(
    scale: float, zero_point: int, dtype: str, expected: Normalization | None
) -> None:
    assert implied_normalization(Quantization(scale, zero_point), dtype) == expected


@pytest.mark.parametrize(
    ("dtype", "how"),
    [
        ("uint8", Quantization(1 / 256, 0)),
        ("int8", Quantization(1 / 256, -128)),
        ("int16", Quantization(1 / 32768, 0)),
    ],
)
def test_integer_scores_are_scaled_back(dtype: str, how: Quantization) -> None:
    limits = np.iinfo(dtype)
    stored = np.array([[limits.min, 0, 1, limits.max]], dtype)
    before = stored.copy()
    scores = decode(stored, how, logits=False)
    assert scores.dtype == np.float32
    expected = [how.scale * (int(value) - how.zero_point) for value in stored[0]]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    np.testing.assert_array_equal(stored, before)


def test_float_scores_are_copied_as_they_are() -> None:
    stored = np.array([[[[0.25, 0.75]]]], np.float32)
    scores = decode(stored, None, logits=False)
    assert scores.tolist() == [0.25, 0.75]
    assert not np.shares_memory(scores, stored)


def test_logits_become_probabilities_after_they_are_scaled_back() -> None:
    how = Quantization(0.1, 3)
    scores = decode(np.array([[13, 3, 23]], np.int8), how, logits=True)
    powers = np.exp([1.0, 0.0, 2.0])
    np.testing.assert_allclose(scores, powers / powers.sum(), rtol=1e-6)


@given(logits=hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-90, 90, width=32)))
def test_softmax_is_what_double_precision_says(logits: Any) -> None:
    powers = np.exp(logits.astype(np.float64))
    result = softmax(logits)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, powers / powers.sum(), rtol=1e-5, atol=1e-30)


_LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([1e38, 0.0], [1, 0]),
        ([-1e38, -1e38], [0.5, 0.5]),
        ([5000.0, 5000.0, -5000.0], [0.5, 0.5, 0]),
        ([_LARGEST, _LARGEST], [0.5, 0.5]),
        ([_LARGEST, -_LARGEST], [1, 0]),
    ],
    ids=["huge", "hugely-negative", "thousands", "largest", "the-whole-range"],
)
def test_softmax_does_not_overflow(logits: list[float], expected: list[float]) -> None:
    assert softmax(np.array(logits, np.float32)).tolist() == expected
