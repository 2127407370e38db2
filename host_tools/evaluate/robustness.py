"""Accuracy on worse pictures, by kind and level of what was done to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host_tools.evaluate.corruptions import KINDS, LEVELS, Kind, corrupted
from host_tools.progress import progress

# Pictures: a few hundred tell the kinds apart (to about 3 points at 300); fewer where they would take
# longer than a minute, more where that is a small share of what the training took.
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
    """How a model bears worse pictures.

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
    """Measures accuracy on a stratified sample of pictures, each made worse in every way.

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

    Each class is ordered by fingerprint, which is as good as chance and the same in every run; the
    r-th of its n pictures stands at (r + 1/2) / n of the whole.

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
    asked = time.perf_counter() - made
    # Pictures are made worse at all levels at once, and answered one level at a time.
    spent = made - start + asked * (1 + len(KINDS) * (LEVELS - 1))
    return max(1e-9, spent / len(pixels))


def _all_corrupted(pixels: NDArray[np.uint8], kind: Kind) -> NDArray[np.uint8]:
    """``(LEVELS, n, H, W, C)`` of ``(n, H, W, C)``."""
    return np.stack([corrupted(picture, kind) for picture in pixels], axis=1)


def _right(predict: Predict, pixels: NDArray[np.uint8], truth: NDArray[np.int64]) -> int:
    return int((predict(pixels).argmax(axis=1) == truth).sum())


def _shown(starts: range) -> Iterator[int]:
    return progress(starts, "corrupted pictures", len(starts))
