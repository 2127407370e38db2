"""The statistics of paired answers: the interval of a drop, and the verdict. Pure arithmetic.

Two classifiers saw the same n pictures. Only the discordant ones differ: ``lost`` that the
reference had right and the artifact has wrong, ``won`` the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

# The 97.5 % point of the standard normal distribution: two-sided 95 %.
_Z95 = 1.959963984540054
# Yates's: half of one picture.
CORRECTION = 0.5


def drop_interval(
    lost: float, won: float, n: float, z: float = _Z95, correction: float = CORRECTION
) -> tuple[float, float]:
    """The score interval of a paired difference of proportions (Tango 1998), corrected.

    Chosen because it keeps its coverage where a drop is small and discordant pairs are few, zero
    included, which is where a good conversion is (Fagerland, Lydersen and Laake 2014 compare it).
    Between one and ten discordant pairs it would cover as little as 93 %; a continuity correction
    lifts it above 95 % (``benchmarks/interval_coverage.py`` shows both). Without any discordant
    pair it needs none, and gets none.

    Args:
        lost, won: discordant pictures; need not be whole, for planning.
        n: all pictures, at least 1.
        z: normal quantile of the two-sided level; 95 % by default.
        correction: pictures by which the observed difference is brought nearer to the supposed one;
            0 gives Tango's own interval.

    Returns:
        Lower and upper end of the drop, as a share of the pictures (-1..1).

    Raises:
        ValueError: the counts are impossible.
    """
    _check(lost, won, n)
    nearer = correction if lost + won else 0.0

    def statistic(drop: float) -> float:
        # The share of `won` that is most likely if the true drop were this one.
        a = 2 * n
        b = -lost - won + (2 * n - lost + won) * drop
        c = -won * drop * (1 - drop)
        share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * share + drop * (1 - drop))
        distance = lost - won - n * drop
        distance = math.copysign(max(0.0, abs(distance) - nearer), distance)
        if variance <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(variance)

    observed = (lost - won) / n
    # The statistic falls as the drop grows.
    return (
        _solve(lambda d: statistic(d) - z, -1.0, observed),
        _solve(lambda d: statistic(d) + z, observed, 1.0),
    )


def mcnemar_p(lost: int, won: int) -> float:
    """The exact two-sided p-value of McNemar's test: could ``lost`` and ``won`` be equally likely?

    Binomial with probability 1/2 over the discordant pictures; 1 where there are none.
    """
    _check(lost, won, lost + won or 1)
    total, few = lost + won, min(lost, won)
    if total == 0:
        return 1.0
    log_half = total * math.log(0.5)
    tail = math.fsum(
        math.exp(
            math.lgamma(total + 1) - math.lgamma(i + 1) - math.lgamma(total - i + 1) + log_half
        )
        for i in range(few + 1)
    )
    return min(1.0, 2 * tail)


def images_needed(lost: int, won: int, n: int, budget: float) -> int | None:
    """About how many pictures would settle whether a drop is within a budget.

    The smallest number whose interval lies on one side of the budget, should the share of lost and
    won pictures stay as it was measured.

    Args:
        lost, won, n: counts so far.
        budget: as a share of the pictures (0..1).

    Returns:
        A number rounded up to two digits; None where more than a thousand million would not do, as
        when drop and budget are equal.
    """

    def settled(pictures: float) -> bool:
        scale = pictures / n
        low, high = drop_interval(lost * scale, won * scale, pictures)
        return high <= budget or low > budget

    low, high = 1.0, 1e9
    if not settled(high):
        return None
    while high > low * 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if settled(middle) else (middle, high)
    needed = math.ceil(high)
    step = int(10 ** max(0, len(str(needed)) - 2))
    return math.ceil(needed / step) * step


def _solve(function: Callable[[float], float], low: float, high: float) -> float:
    # Bisection: 60 halvings of an interval of 2 reach the precision of a float.
    for _ in range(60):
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _check(lost: float, won: float, n: float) -> None:
    if lost < 0 or won < 0 or n < 1 or lost + won > n:
        raise ValueError(f"{lost} lost and {won} won of {n} pictures is impossible")


Verdict = Literal["pass", "fail", "inconclusive"]


def judge(interval: tuple[float, float], budget: float) -> Verdict:
    """*pass* where the whole interval is within the budget, *fail* where all of it is beyond.

    Args:
        interval: of the drop, in points.
        budget: the most that may be lost, in points.
    """
    if interval[1] <= budget:
        return "pass"
    return "fail" if interval[0] > budget else "inconclusive"


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """Fail beats inconclusive beats pass; None where there is no verdict."""
    found = set(verdicts)
    order: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")
    return next((verdict for verdict in order if verdict in found), None)
