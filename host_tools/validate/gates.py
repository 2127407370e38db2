"""Verdicts: is a drop within its budget, beyond it, or not known well enough?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

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
