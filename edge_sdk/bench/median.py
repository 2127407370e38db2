"""Distribution-free confidence intervals of a median."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CONFIDENCE = 0.95
# Fewer values than these cannot bound their median at 95 %: 1 - 2 / 2**5 is less.
LEAST = 6


def interval_of_median(
    values: Floats, confidence: float = _CONFIDENCE
) -> tuple[float, float] | None:
    """A distribution-free interval of the median, from order statistics.

    With n independent values the number below the true median is binomial (n, 1/2), so that the k-th
    smallest and the k-th largest enclose it with probability ``1 - 2 P(B < k)``; k is the largest
    that still gives the confidence (David and Nagaraja, Order Statistics, 3rd edition, 7.1).
    Timings of neighbouring runs are correlated, so the interval over blocks is wider.

    Args:
        values: ``(n,)``, in any order.
        confidence: 0..1.

    Returns:
        low and high, in the unit of ``values``; None with too few values.
    """
    rank = _rank(len(values), confidence)
    if rank == 0:
        return None
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[-rank])


def medians_of_blocks(values: Floats, block: NDArray[np.int64]) -> Floats:
    """The median of each block, ``(blocks,)``, in the order of their numbers.

    Args:
        values, block: ``(n,)`` each; the blocks are contiguous.
    """
    starts = np.flatnonzero(np.diff(block)) + 1
    return np.array([np.median(part) for part in np.split(values, starts) if len(part)])


def interval_over_blocks(values: Floats, block: NDArray[np.int64]) -> tuple[float, float] | None:
    """The smallest interval that contains that of all values and that of the blocks' medians.

    Runs within a block are correlated, so the first alone is too narrow if the machine drifts.

    Args:
        values: ``(n,)``.
        block: ``(n,)``, or empty without blocks.
    """
    interval = interval_of_median(values)
    if interval is None or not len(block):
        return interval
    between = interval_of_median(medians_of_blocks(values, block)) or interval
    return min(interval[0], between[0]), max(interval[1], between[1])


def half_width_percent(values: Floats, block: NDArray[np.int64]) -> float:
    """Half width of that interval in percent of the median; infinite if too few values or median <= 0."""
    interval = interval_over_blocks(values, block)
    middle = float(np.median(values)) if len(values) else 0.0
    if interval is None or middle <= 0:
        return math.inf
    return 50 * (interval[1] - interval[0]) / middle


@lru_cache(maxsize=4096)
def _rank(n: int, confidence: float) -> int:
    """The largest k with ``2 P(B < k) <= 1 - confidence``, B binomial (n, 1/2); 0: there is none."""
    if n < 1:
        return 0
    allowed = (1 - confidence) / 2
    # Probabilities beyond 12 standard deviations below the mean are negligible.
    below, k = 0.0, max(0, int(n / 2 - 6 * math.sqrt(n)))
    # The log of the binomial coefficient: exact integers of 10,000 digits would be slow.
    while k < n // 2:
        below += math.exp(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        )
        if below > allowed:
            break
        k += 1
    return k
