"""Does it grow? The slope of a series with its interval, robust against steps and outliers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["pass", "inconclusive", "fail"]

# Memory is a staircase with plateaus: neighbouring samples say nearly the same, and would make the
# interval look better than it is. Medians of so many stretches of time are taken instead.
_STRETCHES = 40
_ERROR = 0.05
_FEWEST = 8


class Slope(NamedTuple):
    """A slope and its 95 % interval, in units of y per unit of x."""

    value: float
    low: float
    high: float


def theil_sen(x: NDArray[np.float64], y: NDArray[np.float64]) -> Slope:
    """The median of the slopes of all pairs of points, with Sen's interval.

    After P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968).
    The ranks of the interval's ends are exact (Hollander, Wolfe and Chicken, Nonparametric
    Statistical Methods, section 9.3): at least 95 % for errors that may come in any order, more where
    values of y are equal. More than 40 points are first made 40 medians of stretches of equal length.

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
    rank = _rank(tuple(np.unique(x, return_counts=True)[1].tolist()))
    if rank == 0:
        return Slope(value, -math.inf, math.inf)
    return Slope(value, float(slopes[rank - 1]), float(slopes[-rank]))


@lru_cache(maxsize=8)
def _rank(ties: tuple[int, ...]) -> int:
    """Which of the sorted slopes, counted from either end and from 1, bounds the interval; 0: none.

    Under the true slope all orders of the errors are equally likely, and so many slopes lie below it
    as an order has inversions. The orders with k inversions are counted by the coefficients of the
    Gaussian multinomial, the product of (1 - q^i) over all points divided by the same of each tie.

    Args:
        ties: how many points there are at each x.
    """
    points = sum(ties)
    pairs = (points**2 - sum(tie**2 for tie in ties)) // 2
    orders = [1] + [0] * pairs
    for i in range(1, points + 1):  # times 1 - q^i
        for k in range(pairs, i - 1, -1):
            orders[k] -= orders[k - i]
    for tie in ties:
        for i in range(1, tie + 1):  # divided by 1 - q^i
            for k in range(i, pairs + 1):
                orders[k] += orders[k - i]
    allowed = sum(orders) * _ERROR / 2
    rank = below = 0
    while rank < len(orders) and (below := below + orders[rank]) <= allowed:
        rank += 1
    return rank


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
