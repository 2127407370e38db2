"""Accuracy on corrupted pictures, by kind and level of the corruption.

Kinds and their five levels are in the spirit of ImageNet-C and CIFAR-10-C (Hendrycks and Dietterich
2019, "Benchmarking neural network robustness to common corruptions and perturbations"). Those have a
table for pictures of 224 pixels and another for 32; the one table here is between the two, so that
it suits inputs of either size, and its figures are not comparable with published ones.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from host_tools.progress import progress

LEVELS = 5

# Between sRGB pixels and linear light, about; a pixel of 255 equals this many photoelectrons, as
# on a small sensor at a high gain.
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
    """One picture, corrupted at every level.

    The random seed is computed from the picture and the kind: the same picture gives the same result
    at any position, and a higher level only amplifies the same noise.

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
    # OpenCV takes and returns BGR; a single channel is gray in either order.
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


# Pictures: a few hundred separate the kinds (to about 3 points at 300); fewer where they would take
# longer than a minute, more where that is a small share of the training time.
FEWEST, ENOUGH, MOST = 100, 300, 1000
_LONGEST_S = 60.0
_SHARE = 0.1

_BATCH = 64

# From ``(n, H, W, C)`` uint8 model input pixels to ``(n, classes)`` scores.
Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
# From ``(n,)`` indices to ``(n, H, W, C)`` uint8 model input pixels.
PixelsOf = Callable[[NDArray[np.int64]], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class KindAccuracy:
    """Accuracy, 0..1, at the levels 1 to 5 of one kind of corruption."""

    kind: str
    accuracy: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Robustness:
    """Accuracy on corrupted pictures.

    Attributes:
        n: pictures used, each once clean and once for every kind and level.
        clean: accuracy on them as they are, 0..1.
        mean: the same over all kinds and levels.
        relative: ``mean / clean``; None where nothing is right on clean pictures.
        kinds: in the order of ``KINDS``.
    """

    n: int
    clean: float
    mean: float
    relative: float | None
    kinds: tuple[KindAccuracy, ...]


def robustness(
    predict: Predict,
    pixels_of: PixelsOf,
    truth: NDArray[np.int64],
    digests: Sequence[str],
    *,
    trained_s: float,
) -> Robustness | None:
    """Measures accuracy on a stratified sample of pictures, under every kind and level.

    At least ``FEWEST`` pictures, or all; ``ENOUGH`` where a minute suffices for them; up to ``MOST``
    where that takes no more than a minute or a tenth of the training's time, whichever is shorter.

    Args:
        predict: the model.
        pixels_of: its input pixels.
        truth: ``(N,)`` label indices.
        digests: N fingerprints of the pictures; they alone decide which are drawn, so the order of
            the pictures does not matter.
        trained_s: seconds that the training took.

    Returns:
        None without pictures.
    """
    if not len(truth):
        return None
    chosen = sample(truth, digests, MOST)
    if len(chosen) > FEWEST:
        each = _seconds_each(predict, pixels_of(chosen[:_BATCH]))
        chosen = chosen[: _affordable(each, trained_s)]
    clean = 0
    right = np.zeros((len(KINDS), LEVELS), np.int64)
    for start in _shown(range(0, len(chosen), _BATCH)):
        part = chosen[start : start + _BATCH]
        pixels, wanted = pixels_of(part), truth[part]
        clean += _right(predict, pixels, wanted)
        for place, kind in enumerate(KINDS):
            for level, worse in enumerate(_all_corrupted(pixels, kind)):
                right[place, level] += _right(predict, worse, wanted)
    accuracy = right / len(chosen)
    return Robustness(
        n=len(chosen),
        clean=clean / len(chosen),
        mean=float(accuracy.mean()),
        relative=float(accuracy.mean() * len(chosen) / clean) if clean else None,
        kinds=tuple(
            KindAccuracy(kind.name, tuple(row))
            for kind, row in zip(KINDS, accuracy.tolist(), strict=True)
        ),
    )


def sample(truth: NDArray[np.int64], digests: Sequence[str], most: int) -> NDArray[np.int64]:
    """Pictures drawn so that any first part of them holds the classes in their proportions.

    Each class is ordered by fingerprint, which is pseudo-random and the same in every run; the
    r-th of its n pictures is at position (r + 1/2) / n of the whole.

    Returns:
        ``(min(N, most),)`` int64 indices.
    """
    order = np.lexsort((truth, np.array(digests)))  # the last key is the first
    by_class = order[np.argsort(truth[order], kind="stable")]
    counts = np.bincount(truth)
    rank = np.arange(len(truth)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = np.empty(len(truth))
    place[by_class] = (rank + 0.5) / np.repeat(counts, counts)
    return order[np.argsort(place[order], kind="stable")][:most].astype(np.int64)


def _affordable(each_s: float, trained_s: float) -> int:
    """How many pictures to use, at so many seconds each."""
    enough = min(ENOUGH, int(_LONGEST_S / each_s))
    more = min(MOST, int(min(_LONGEST_S, _SHARE * trained_s) / each_s))
    return max(FEWEST, enough, more)


def _seconds_each(predict: Predict, pixels: NDArray[np.uint8]) -> float:
    """What one picture will cost, from one batch under every kind."""
    predict(pixels)  # the first call builds the graph
    start = time.perf_counter()
    for kind in KINDS:
        predict(_all_corrupted(pixels, kind)[-1])
    made = time.perf_counter()
    predict(pixels)
    predicted_s = time.perf_counter() - made
    # Pictures are corrupted at all levels at once, and classified one level at a time.
    spent = made - start + predicted_s * (1 + len(KINDS) * (LEVELS - 1))
    return max(1e-9, spent / len(pixels))


def _all_corrupted(pixels: NDArray[np.uint8], kind: Kind) -> NDArray[np.uint8]:
    """``(LEVELS, n, H, W, C)`` of ``(n, H, W, C)``."""
    return np.stack([corrupted(picture, kind) for picture in pixels], axis=1)


def _right(predict: Predict, pixels: NDArray[np.uint8], truth: NDArray[np.int64]) -> int:
    return int((predict(pixels).argmax(axis=1) == truth).sum())


def _shown(starts: range) -> Iterator[int]:
    return progress(starts, "corrupted pictures", len(starts))
