"""What a converted model loses against the float one on the same pictures, under a budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host_tools.validate.gates import Verdict, judge, worst
from host_tools.validate.statistics import drop_interval


@dataclass(frozen=True, slots=True)
class Outcome:
    """Drops in points.

    Attributes:
        drop_points: float accuracy less the other one's.
        drop_ci95: its 95 % interval.
        class_drop_points: of the class that loses most.
        verdict: of both budgets on the intervals, the worse one.
        holds: the drops themselves are within both budgets.
    """

    drop_points: float
    drop_ci95: tuple[float, float]
    class_drop_points: float
    verdict: Verdict
    holds: bool


def outcome(
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    truth: NDArray[np.int64],
    max_drop: float,
    max_class_drop: float | None,
) -> Outcome:
    """Compares two models picture by picture.

    Args:
        before, after: ``(N,)``, whether the float model and the other one are right.
        truth: ``(N,)`` label indices, N of at least 1.
        max_drop: budget in points, of all pictures.
        max_class_drop: of every class by itself; None: no such budget.
    """
    drop, interval = _drop(before, after)
    classes = [_drop(before[truth == i], after[truth == i]) for i in np.unique(truth)]
    most = max(points for points, _ in classes)
    verdicts = [judge(interval, max_drop)]
    if max_class_drop is not None:
        verdicts += [judge(one, max_class_drop) for _, one in classes]
    verdict = worst(verdicts)
    assert verdict is not None  # there is at least one
    holds = drop <= max_drop and (max_class_drop is None or most <= max_class_drop)
    return Outcome(drop, interval, most, verdict, holds)


def _drop(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, tuple[float, float]]:
    """Points, and their interval."""
    lost, won, n = int((before & ~after).sum()), int((~before & after).sum()), len(before)
    low, high = drop_interval(lost, won, n)
    return 100 * (lost - won) / n, (100 * low, 100 * high)
