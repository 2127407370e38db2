"""Verdicts: the whole interval decides, and the worst verdict counts."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.validate.statistics import Verdict, judge, worst


@pytest.mark.parametrize(
    ("interval", "budget", "verdict"),
    [
        pytest.param((-1.0, 1.0), 2.0, "pass", id="all of it within"),
        pytest.param((-1.0, 2.0), 2.0, "pass", id="upper end on the budget"),
        pytest.param((-1.0, 2.001), 2.0, "inconclusive", id="upper end just beyond"),
        pytest.param((2.0, 3.0), 2.0, "inconclusive", id="lower end on the budget"),
        pytest.param((2.001, 3.0), 2.0, "fail", id="lower end just beyond"),
        pytest.param((5.0, 9.0), 2.0, "fail", id="all of it beyond"),
        pytest.param((-9.0, -5.0), 0.0, "pass", id="better than the reference"),
        pytest.param((-1.0, 1.0), 0.0, "inconclusive", id="nothing may be lost"),
    ],
)
def test_the_whole_interval_decides(
    interval: tuple[float, float], budget: float, verdict: Verdict
) -> None:
    assert judge(interval, budget) == verdict


_POINTS = st.floats(-100, 100)


@given(_POINTS, _POINTS, _POINTS, _POINTS)
def test_a_larger_budget_never_makes_a_verdict_worse(
    a: float, b: float, one: float, other: float
) -> None:
    interval = (min(a, b), max(a, b))
    order = ("fail", "inconclusive", "pass")
    strict, generous = (judge(interval, budget) for budget in sorted((one, other)))
    assert order.index(strict) <= order.index(generous)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((), None),
        (("pass",), "pass"),
        (("inconclusive",), "inconclusive"),
        (("fail",), "fail"),
        (("pass", "pass"), "pass"),
        (("pass", "inconclusive"), "inconclusive"),
        (("pass", "fail"), "fail"),
        (("inconclusive", "fail"), "fail"),
        (("pass", "inconclusive", "fail"), "fail"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else None,
)
def test_fail_beats_inconclusive_beats_pass_in_any_order(
    verdicts: tuple[Verdict, ...], expected: Verdict | None
) -> None:
    for order in permutations(verdicts):
        assert worst(order) == expected
    assert worst(iter(verdicts)) == expected
