"""Thresholds that keep a promise: at 95 % confidence, whatever the distribution of the scores.

A threshold is chosen on some pictures for others of the same kind. A promise holds where at least
95 % of the draws of the first give a threshold that keeps it on the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from host_tools.extras import require

CONFIDENCE = 0.95

Kind = Literal["coverage", "false_accept", "accuracy"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a threshold is wanted for.

    Attributes:
        kind: ``coverage``: at least this share of known pictures keeps an answer. ``false_accept``:
            at most this share of unknown ones gets one. ``accuracy``: at least this share of the
            answers is right.
        wanted: the share, within 0..1 and neither.
    """

    kind: Kind
    wanted: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """A threshold: scores below it are "unknown". It is a float32 number exactly."""

    value: float


@dataclass(frozen=True, slots=True)
class TooFew:
    """No threshold can be promised.

    Attributes:
        n: pictures there were.
        needed: the least number that could do, were they to go well; None where there are as many,
            and it is the scores that do not allow it.
    """

    n: int
    needed: int | None


def coverage_threshold(scores: NDArray[np.float32], wanted: float) -> Chosen | TooFew:
    """The highest threshold that at least ``wanted`` of known pictures reach.

    A distribution-free tolerance limit (Wilks 1941): the share of new pictures below the k-th lowest
    of n scores is at most Beta(k, n - k + 1) distributed; k is the largest whose 95 % point is within
    1 - ``wanted``.

    Args:
        scores: ``(N,)`` best scores of known pictures.
        wanted: share, 0..1.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    k = _order(len(scores), 1 - wanted)
    if k == 0:
        return TooFew(len(scores), _least(1 - wanted))
    return Chosen(float(np.sort(scores)[k - 1]))


def false_accept_threshold(scores: NDArray[np.float32], at_most: float) -> Chosen | TooFew:
    """The lowest threshold that at most ``at_most`` of unknown pictures reach.

    The same limit from the other end: the next float32 above the k-th highest score.

    Args:
        scores: ``(N,)`` best scores of unknown pictures.
        at_most: share, 0..1.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    k = _order(len(scores), at_most)
    if k == 0:
        return TooFew(len(scores), _least(at_most))
    kth = np.sort(scores)[len(scores) - k]
    return Chosen(float(np.nextafter(kth, np.float32(2))))


def accuracy_threshold(
    scores: NDArray[np.float32], right: NDArray[np.bool_], wanted: float
) -> Chosen | TooFew:
    """The lowest threshold found above which at least ``wanted`` of the answers are right.

    Selection with guaranteed risk (Geifman and El-Yaniv 2017, algorithm 1): bisection over the scores,
    each step an exact binomial bound; the confidence is shared out among all steps (Bonferroni).

    Args:
        scores: ``(N,)`` best scores of known pictures.
        right: ``(N,)`` whether each answer is right.
        wanted: share, 0..1.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    n = len(scores)
    steps = max(1, math.ceil(math.log2(max(n, 2)))) + 1  # and one for no threshold at all
    delta = (1 - CONFIDENCE) / steps
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    # Wrong answers among the highest scores, from each place on.
    wrong_from = np.append(np.cumsum(~right[order][::-1])[::-1], 0)

    def keeps(threshold: float) -> bool:
        first = int(np.searchsorted(ordered, np.float32(threshold), side="left"))
        return _upper_bound(int(wrong_from[first]), n - first, delta) <= 1 - wanted

    if n and keeps(0.0):
        return Chosen(0.0)
    best: float | None = None
    low, high = 0, n  # the place whose score is the threshold
    for _ in range(steps - 1):
        middle = (low + high) // 2
        if middle < n and keeps(float(ordered[middle])):
            best, high = float(ordered[middle]), middle
        else:
            low = middle + 1
        if low >= high:
            break
    if best is None:
        least = math.ceil(math.log(delta) / math.log(wanted))
        return TooFew(n, least if n < least else None)
    return Chosen(best)


def choose(
    goal: Goal,
    known: NDArray[np.float32],
    right: NDArray[np.bool_],
    unknown: NDArray[np.float32],
) -> Chosen | TooFew:
    """The threshold for a goal, see the functions for each.

    Args:
        goal: what for.
        known, right: ``(N,)`` best scores of known pictures, and whether the answers are right.
        unknown: ``(M,)`` best scores of unknown pictures; M may be 0 where the goal is another.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    match goal.kind:
        case "coverage":
            return coverage_threshold(known, goal.wanted)
        case "false_accept":
            return false_accept_threshold(unknown, goal.wanted)
        case "accuracy":
            return accuracy_threshold(known, right, goal.wanted)


def _order(n: int, share: float) -> int:
    """The largest k for which Beta(k, n - k + 1) lies within ``share`` with 95 % probability."""
    # P(Beta(k, n - k + 1) <= share) = P(Binomial(n, share) >= k), which falls as k grows.
    binomial = require("scipy.stats").binom
    k = int(binomial.ppf(1 - CONFIDENCE, n, share))
    # The quantile is where rounding decides; the probabilities are not.
    while k > 0 and binomial.sf(k - 1, n, share) < CONFIDENCE:
        k -= 1
    return k


def _least(share: float) -> int:
    """The least n for which ``_order`` is 1: 1 - (1 - share)^n reaches 95 %."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-share))


def _upper_bound(events: int, n: int, delta: float) -> float:
    """One-sided Clopper-Pearson bound of a probability, wrong in ``delta`` of all cases at most."""
    if events >= n:
        return 1.0
    return float(require("scipy.stats").beta.ppf(1 - delta, events + 1, n - events))
