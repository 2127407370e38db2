"""Does it grow? The slope of a series with its interval, robust against steps and outliers."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["pass", "inconclusive", "fail"]

# Memory is a staircase with plateaus: neighbouring samples say nearly the same, and would make the
# interval look better than it is. Medians of so many stretches of time are taken instead.
_STRETCHES = 40
_Z95 = 1.959964
_FEWEST = 8


class Slope(NamedTuple):
    """A slope and its 95 % interval, in units of y per unit of x."""

    value: float
    low: float
    high: float


def theil_sen(x: NDArray[np.float64], y: NDArray[np.float64]) -> Slope:
    """The median of the slopes of all pairs of points, with Sen's interval.

    After P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968).
    More than 40 points are first made 40 medians of stretches of equal length.

    Args:
        x: ``(N,)``, rising.
        y: ``(N,)``.

    Returns:
        The slope; with fewer than 8 points its interval is without bounds.
    """
    x, y = _stretches(x, y)
    n = len(x)
    if n < 2:
        return Slope(0.0, -math.inf, math.inf)
    first, second = np.triu_indices(n, 1)
    apart = x[second] > x[first]
    slopes = np.sort((y[second] - y[first])[apart] / (x[second] - x[first])[apart])
    if len(slopes) == 0:
        return Slope(0.0, -math.inf, math.inf)
    value = float(np.median(slopes))
    if n < _FEWEST:
        return Slope(value, -math.inf, math.inf)
    reach = _Z95 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)  # Kendall's S has this deviation
    low = max(0, math.floor((len(slopes) - reach) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + reach) / 2))
    return Slope(value, float(slopes[low]), float(slopes[high]))


def _stretches(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(x) <= _STRETCHES:
        return x, y
    parts = np.array_split(np.arange(len(x)), _STRETCHES)
    medians = [(float(np.median(x[part])), float(np.median(y[part]))) for part in parts]
    xs, ys = zip(*medians, strict=True)
    return np.array(xs), np.array(ys)


def verdict(slope: Slope, budget: float) -> Verdict:
    """Whether a slope is certainly within a budget, certainly beyond it, or neither."""
    if slope.high <= budget:
        return "pass"
    return "fail" if slope.low > budget else "inconclusive"


def worst(verdicts: list[Verdict]) -> Verdict:
    """Fail beats inconclusive beats pass."""
    order: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")
    return next((v for v in order if v in verdicts), "pass")
