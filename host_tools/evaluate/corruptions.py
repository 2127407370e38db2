"""Five ways in which the pictures of a real camera are worse than those of a data set.

Kinds and their five levels are in the spirit of ImageNet-C and CIFAR-10-C (Hendrycks and Dietterich
2019, "Benchmarking neural network robustness to common corruptions and perturbations"). Those have a
table for pictures of 224 pixels and another for 32; the one table here is between the two, so that
it suits inputs of either size, and its figures are not comparable with published ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LEVELS = 5

# Between sRGB pixels and linear light, about; a pixel of 255 stands for this many photoelectrons, as
# on a small sensor with its gain turned up.
_GAMMA = 2.2
_PHOTOELECTRONS = 1000.0

_Corrupt = Callable[
    [NDArray[np.uint8], tuple[float, ...], np.random.Generator], list[NDArray[np.uint8]]
]


@dataclass(frozen=True, slots=True)
class Kind:
    """A corruption.

    Attributes:
        name: one word or two.
        levels: its parameter at levels 1 to 5.
        unit: what the parameter is.
        corrupt: from ``(H, W, 1 or 3)`` uint8 pixels, the levels and chance to a picture per level.
    """

    name: str
    levels: tuple[float, float, float, float, float]
    unit: str
    corrupt: _Corrupt


def corrupted(pixels: NDArray[np.uint8], kind: Kind) -> NDArray[np.uint8]:
    """One picture, made worse at every level.

    Chance is drawn from the picture itself and the kind: the same picture gives the same result
    wherever it stands, and a higher level only turns up the same noise.

    Args:
        pixels: ``(H, W, 1 or 3)`` uint8, the model's input.
        kind: one of ``KINDS``.

    Returns:
        ``(LEVELS, H, W, 1 or 3)`` uint8, the mildest first.
    """
    content = zlib.crc32(pixels.tobytes())
    random = np.random.default_rng((content, zlib.crc32(kind.name.encode())))
    return np.stack(kind.corrupt(pixels, kind.levels, random)).reshape(-1, *pixels.shape)


def _noise(
    pixels: NDArray[np.uint8], deviations: tuple[float, ...], random: np.random.Generator
) -> list[NDArray[np.uint8]]:
    normal = random.standard_normal(pixels.shape, np.float32)
    return [_as_pixels(pixels + np.float32(255 * deviation) * normal) for deviation in deviations]


def _blur(
    pixels: NDArray[np.uint8], sigmas: tuple[float, ...], _: np.random.Generator
) -> list[NDArray[np.uint8]]:
    root = min(pixels.shape[:2]) ** 0.5
    return [np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma * root)) for sigma in sigmas]


def _low_light(
    pixels: NDArray[np.uint8], lights: tuple[float, ...], random: np.random.Generator
) -> list[NDArray[np.uint8]]:
    normal = random.standard_normal(pixels.shape, np.float32)
    white = np.float32(_PHOTOELECTRONS)
    electrons = white * (np.arange(256, dtype=np.float32) / 255) ** np.float32(_GAMMA)
    pictures = []
    for light in lights:
        # Light is counted in photoelectrons, whose number n varies by its root (shot noise).
        fewer = electrons * np.float32(light)
        counted = fewer[pixels] + np.sqrt(fewer)[pixels] * normal
        np.maximum(counted, 0, out=counted)
        pictures.append(_as_pixels(255 * (counted / white) ** np.float32(1 / _GAMMA)))
    return pictures


def _jpeg(
    pixels: NDArray[np.uint8], qualities: tuple[float, ...], _: np.random.Generator
) -> list[NDArray[np.uint8]]:
    # OpenCV takes BGR and gives it back; a single channel is gray either way.
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    pictures = []
    for quality in qualities:
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
        decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)
        pictures.append(decoded.reshape(pixels.shape)[..., ::-1])
    return pictures


def _contrast(
    pixels: NDArray[np.uint8], shares: tuple[float, ...], _: np.random.Generator
) -> list[NDArray[np.uint8]]:
    mean = np.array(cv2.mean(pixels)[: pixels.shape[2]])
    step = np.arange(256)[:, None] - mean
    tables = [_as_pixels(step * share + mean)[None] for share in shares]
    return [np.asarray(cv2.LUT(pixels, table), np.uint8) for table in tables]


def _as_pixels(values: NDArray[Any]) -> NDArray[np.uint8]:
    np.rint(values, out=values)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


# Noise: CIFAR-10-C has 0.04 to 0.10, ImageNet-C 0.08 to 0.38. Blur: they have 0.4 to 1 pixels at 32
# and 1 to 6 at 224, which a root between them follows: 0.4 to 1.4 and 1 to 3.7 here. JPEG: 80 to 40
# and 25 to 7. Contrast: 0.75 to 0.15 and 0.4 to 0.05. Low light is ours (they make pictures
# brighter, never darker): one stop to five.
KINDS: tuple[Kind, ...] = (
    Kind("noise", (0.04, 0.08, 0.12, 0.18, 0.26), "standard deviation, white is 1", _noise),
    Kind(
        "blur", (0.07, 0.1, 0.13, 0.18, 0.25), "sigma in pixels / root of the shorter side", _blur
    ),
    Kind("low light", (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32), "share of the light", _low_light),
    Kind("jpeg", (60, 40, 25, 15, 8), "quality of 100", _jpeg),
    Kind("contrast", (0.75, 0.5, 0.35, 0.2, 0.1), "share of the contrast", _contrast),
)
