"""How far scores can be believed, and what a threshold does, each with an interval and a count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host_tools.evaluate.calibration import Bin, calibration
from host_tools.extras import require
from host_tools.scores.temperature import losses

_RESAMPLES = 500
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``n``, 0..1, with its exact 95 % interval (Clopper and Pearson 1934).

    ``value`` and ``ci95`` are None with ``n`` of 0.
    """

    value: float | None
    ci95: tuple[float, float] | None
    count: int
    n: int


@dataclass(frozen=True, slots=True)
class Mean:
    """A figure over ``n`` pictures with its 95 % interval."""

    value: float
    ci95: tuple[float, float]
    n: int


@dataclass(frozen=True, slots=True)
class Belief:
    """How well scores fit the truth.

    Attributes:
        nll: mean negative log-likelihood, in nats; the interval is normal.
        ece: expected calibration error, see ``evaluate.calibration``; the interval is of 500
            resamples (percentiles). Few pictures make it too high: chance alone is an error too.
        bins: of the reliability diagram.
    """

    nll: Mean
    ece: Mean
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a threshold does to known and unknown pictures.

    Attributes:
        accuracy: of all answers, threshold or not.
        coverage: known pictures that keep an answer.
        selective_accuracy: right ones of the answers that are kept.
        wrong_caught: wrong answers that become "unknown".
        false_accepts: unknown pictures that get an answer; None where there are none.
    """

    accuracy: Share
    coverage: Share
    selective_accuracy: Share
    wrong_caught: Share
    false_accepts: Share | None


def share(count: int, n: int) -> Share:
    """``count`` of ``n`` with its interval.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    if not n:
        return Share(None, None, 0, 0)
    interval = require("scipy.stats").binomtest(count, n).proportion_ci(0.95, "exact")
    return Share(count / n, (float(interval.low), float(interval.high)), count, n)


def believe(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> Belief:
    """How well ``(N, C)`` probabilities fit the ``(N,)`` label indices; N is at least 1."""
    n, loss = len(truth), losses(scores, truth)
    mean = float(loss.mean())
    half = _Z95 * float(loss.std(ddof=1)) / n**0.5 if n > 1 else float("inf")
    measured = calibration(scores, truth)
    assert measured.ece is not None  # there are pictures
    rng = np.random.default_rng(0)
    best = scores.max(axis=1, keepdims=True)
    # What calibration looks at, in two columns: the answer's score, and whether it is right.
    wrong = (scores.argmax(axis=1) != truth).astype(np.int64)
    pair = np.hstack([best, np.zeros_like(best)])
    resampled = [
        calibration(pair[rows], wrong[rows]).ece for rows in rng.integers(0, n, (_RESAMPLES, n))
    ]
    low, high = np.percentile(np.array(resampled, np.float64), [2.5, 97.5])
    return Belief(
        nll=Mean(mean, (max(0.0, mean - half), mean + half), n),
        ece=Mean(measured.ece, (float(low), float(high)), n),
        bins=measured.bins,
    )


def measure(
    best: NDArray[np.float32],
    right: NDArray[np.bool_],
    unknown: NDArray[np.float32],
    threshold: float,
) -> Figures:
    """What a threshold does.

    Args:
        best, right: ``(N,)`` best scores of known pictures, and whether the answers are right.
        unknown: ``(M,)`` best scores of unknown pictures; M may be 0.
        threshold: scores below it are "unknown".
    """
    limit = np.float32(threshold)
    kept = best >= limit
    n, wrong = len(best), ~right
    return Figures(
        accuracy=share(int(right.sum()), n),
        coverage=share(int(kept.sum()), n),
        selective_accuracy=share(int((kept & right).sum()), int(kept.sum())),
        wrong_caught=share(int((wrong & ~kept).sum()), int(wrong.sum())),
        false_accepts=share(int((unknown >= limit).sum()), len(unknown)) if len(unknown) else None,
    )
