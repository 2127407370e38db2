"""Pixels to stored input tensors, and stored output tensors to probabilities: pure arithmetic.

There are only 256 pixel values, so normalisation and quantisation together are one table per
channel: exact, fast, and testable in full.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.types import Quantization, Tensor, TensorSpec


@dataclass(frozen=True, slots=True)
class Normalization:
    """``real = (pixel - mean) / std`` per channel (one value serves all), as in TFLite Metadata."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


RAW = Normalization((0.0,), (1.0,))  # 0..255
UNIT = Normalization((0.0,), (255.0,))  # 0..1
SYMMETRIC = Normalization((127.5,), (127.5,))  # -1..1

# Allowed temperatures. Trained networks need 0.5 to 5 (Guo et al. 2017, table S2); far outside that
# range all answers are certain, or none is.
TEMPERATURES = (0.01, 100.0)
NO_TEMPERATURE = 1.0


class Encoder:
    """Converts input pixels to a model's stored input tensor.

    Args:
        spec: the model's input, of dtype uint8, int8 or float32.
        normalization: from pixels to the real numbers the model was trained on.
    """

    def __init__(self, spec: TensorSpec, normalization: Normalization) -> None:
        self._dtype = np.dtype(spec.dtype)
        table = encoding_table(spec, normalization)
        self._identity = self._dtype == np.uint8 and bool((table == np.arange(256)[:, None]).all())
        # OpenCV looks up 8-bit patterns; int8 values are written as their bit patterns.
        bits = table.view(np.uint8) if self._dtype == np.int8 else table
        self._table = np.ascontiguousarray(bits).reshape(1, 256, -1)

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """``(H, W, C)`` uint8 pixels to the ``(1, H, W, C)`` tensor; may share their memory."""
        if self._identity:
            return pixels[np.newaxis]
        stored: Tensor = cv2.LUT(pixels, self._table).view(self._dtype)
        return stored.reshape(1, *pixels.shape)


def encoding_table(spec: TensorSpec, normalization: Normalization) -> Tensor:
    """The stored value of each pixel value, ``(256, 1)`` or ``(256, C)``, of the spec's dtype.

    A float input stores ``(pixel - mean) / std``, an integer one
    ``round(real / scale) + zero_point`` clipped to its range (TFLite's quantisation scheme). If that
    is within one count of the plain pixel (or pixel - 128 for int8), the plain value is used: it is
    how such models are usually tested, and it costs nothing.
    """
    pixels = np.arange(256, dtype=np.float64)[:, np.newaxis]
    real = (pixels - np.array(normalization.mean)) / np.array(normalization.std)
    table: Tensor
    if spec.quantization is None:
        table = real.astype(spec.dtype)
        return table
    scale, zero_point = spec.quantization
    limits = np.iinfo(spec.dtype)
    stored = np.clip(np.round(real / scale) + zero_point, limits.min, limits.max)
    plain = pixels + limits.min
    if np.abs(stored - plain).max() <= 1:
        stored = plain
    table = stored.astype(spec.dtype)
    return table


def implied_normalization(quantization: Quantization, dtype: str) -> Normalization | None:
    """The normalization implied by a quantised input's range, None if it is none of the usual ones.

    The stored integers cover ``real(min)`` to ``real(max)``; within 2 % of 0..255, 0..1 or -1..1 that
    range is assumed (converters that average ranges are off by up to 1.3 %).
    """
    limits = np.iinfo(dtype)
    scale, zero_point = quantization
    low, high = scale * (limits.min - zero_point), scale * (limits.max - zero_point)
    for known in (RAW, UNIT, SYMMETRIC):
        low_end = (0.0 - known.mean[0]) / known.std[0]
        high_end = (255.0 - known.mean[0]) / known.std[0]
        slack = 0.02 * (high_end - low_end)
        if abs(low - low_end) <= slack and abs(high - high_end) <= slack:
            return known
    return None


def decode(
    stored: Tensor, quantization: Quantization | None, *, logits: bool
) -> NDArray[np.float32]:
    """Probabilities ``(C,)`` float32 from a stored output tensor of C elements.

    Args:
        stored: the output, any shape of C elements.
        quantization: its scale and zero point, None for float.
        logits: the model ends before its softmax, which is applied here.
    """
    scores = stored.reshape(-1).astype(np.float32)
    if quantization is not None:
        scores -= quantization.zero_point
        scores *= quantization.scale
    return softmax(scores) if logits else scores


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis, shifted by its maximum so that it cannot overflow."""
    with np.errstate(
        over="ignore"
    ):  # logits as far apart as the float range: -inf, whose exponential is 0
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(axis=-1, keepdims=True)
    return result


def temper(scores: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Scores with the logits divided by a temperature (Guo et al. 2017).

    ``softmax(log p / T)``: the logits are log p up to a constant, which the softmax cancels.
    Above 1 answers become less certain, below 1 more. The order of a picture's scores stays, except
    that scores close to float32's resolution may become equal. A score of 0 stays 0.

    Args:
        scores: ``(C,)`` or ``(N, C)`` float32 probabilities.
        temperature: within ``TEMPERATURES``. At 1 ``scores`` itself is returned, unchanged.

    Returns:
        float32 probabilities of the same shape; NaN where scores are all 0, negative or NaN.
    """
    if temperature == NO_TEMPERATURE:
        return scores
    with np.errstate(divide="ignore", invalid="ignore"):  # log 0 = -inf, whose exponential is 0
        logits = np.log(scores)
        logits /= np.float32(temperature)
        return softmax(logits)
