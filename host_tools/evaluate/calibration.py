"""How far a model's scores can be believed: of the answers given with 80 %, are 80 % right?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Guo et al. 2017, "On calibration of modern neural networks", and most work since.
BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers whose score lies in ``low`` < score <= ``high``.

    Attributes:
        low, high: 0..1.
        n: how many.
        confidence: their mean score, None without any.
        accuracy: the share of them that is right, None without any.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Figures of calibration; all of them None, and no bins, without pictures.

    Attributes:
        ece: expected calibration error, 0..1: the mean distance of confidence and accuracy over the
            bins, each counting as many times as it has answers (Guo et al. 2017, equation 3).
        mce: maximum calibration error, 0..1: the largest such distance of any bin that has answers.
        brier: mean squared distance of the scores from the truth, summed over the classes, so 0..2
            (Brier 1950); with two classes it is twice the score that is often meant.
        bins: of equal width, the lowest first.
    """

    ece: float | None
    mce: float | None
    brier: float | None
    bins: tuple[Bin, ...]


def calibration(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> Calibration:
    """Measures the highest score of each picture against whether it was right.

    Args:
        scores: ``(N, classes)`` probabilities.
        truth: ``(N,)`` label indices.
    """
    if not len(truth):
        return Calibration(None, None, None, ())
    # Quantised scores may add up to a little more than 1.
    confidence = np.clip(scores.max(axis=1).astype(np.float64), 0, 1)
    right = scores.argmax(axis=1) == truth
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    sums = np.bincount(place, confidence, BINS)
    hits = np.bincount(place, right, BINS)
    used = counts > 0
    gaps = np.abs(hits - sums)[used] / counts[used]
    wanted = np.zeros(scores.shape)
    wanted[np.arange(len(truth)), truth] = 1
    return Calibration(
        ece=float((gaps * counts[used]).sum() / len(truth)),
        mce=float(gaps.max()),
        brier=float(((scores - wanted) ** 2).sum(axis=1).mean()),
        bins=tuple(
            Bin(
                float(edges[i]),
                float(edges[i + 1]),
                int(counts[i]),
                float(sums[i] / counts[i]) if used[i] else None,
                float(hits[i] / counts[i]) if used[i] else None,
            )
            for i in range(BINS)
        ),
    )
