"""Comparing two benchmarks: regressions of a known size are found, others are not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edge_sdk.bench.compare import (
    BLOCKS_LEAST,
    change_interval,
    compare,
    judge,
    refusals,
    resampled_medians,
)
from edge_sdk.bench.results import PictureSet, Samples
from edge_sdk.errors import BaselineError
from tests.unit.bench.made_benchmarks import benchmark, machine, model, samples, session

_TRIALS = 200
_KEY = ("digits_int8", "cpu", 1)


def _flagged(factor: float) -> int:
    """In how many trials ``--max-regress 10`` fails, noise drawn anew for each session."""
    count = 0
    for trial in range(_TRIALS):
        old = model(session((trial, 0), 4.0))
        new = model(session((trial, 1), 4.0 * factor))
        count += judge(change_interval(old, new, trial), 10.0) == "fail"
    return count


def test_an_engine_a_fifth_slower_is_flagged() -> None:
    assert _flagged(1.2) >= 0.95 * _TRIALS


def test_an_equal_engine_is_not() -> None:
    assert _flagged(1.0) <= 0.02 * _TRIALS


def test_two_sessions_of_equal_figures_may_differ_by_what_sessions_differ_by() -> None:
    # Each session has a level of its own, normal with a deviation of SESSION_SHARE, which no number
    # of samples within it shows.
    steady = model(samples(np.full((20, 5), 4.0)))
    interval = change_interval(steady, steady, 0)
    assert interval is not None
    reach = 1.96 * math.sqrt(2) * 0.01
    expected = (100 * math.expm1(-reach), 100 * math.expm1(reach))
    assert interval == pytest.approx(expected, rel=0.1)


def test_a_bare_ratio_would_flag_what_the_test_does_not() -> None:
    """Two sessions of one noisy engine: the second's level happens to be 12 % higher."""
    chance = np.random.default_rng(0)
    old = samples(4 * np.exp(chance.normal(0, 0.15, (20, 1))) * np.ones((20, 5)))
    level = 4 * np.exp(chance.normal(0, 0.15, (20, 1)))
    new = samples(level / np.median(level) * np.median(old.inference_ms) * 1.12 * np.ones((20, 5)))
    done = compare(
        benchmark(model(old)), benchmark(model(new)), names=("a", "b"), max_regress_percent=10
    )
    assert done.changes[0].percent > 10
    assert done.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((10.1, 30.0), "fail"),
        ((-3.0, 9.9), "pass"),
        ((5.0, 12.0), "inconclusive"),
        (None, "inconclusive"),
    ],
)
def test_verdicts(interval: tuple[float, float] | None, verdict: str) -> None:
    assert judge(interval, 10.0) == verdict


def test_too_few_blocks_claim_nothing() -> None:
    few = model(samples(np.full((BLOCKS_LEAST - 1, 10), 4.0)))
    assert change_interval(few, few, 0) is None


def test_stretches_of_blocks_keep_drift() -> None:
    """A slow wave makes medians more uncertain than the same levels in any order."""
    wave = np.sin(np.linspace(0, 2 * np.pi, 36, endpoint=False))
    spread = []
    for levels in (wave, np.random.default_rng(1).permutation(wave)):
        values = np.repeat(4 + levels, 20)
        block = np.repeat(np.arange(36), 20)
        medians = resampled_medians(values, block, 500, np.random.default_rng(0))
        spread.append(medians.std())
    assert spread[0] > 1.3 * spread[1]


def test_resampled_medians_are_medians_of_whole_blocks() -> None:
    """With two blocks there are three draws: both, or one of them twice."""
    values = np.array([1.0, 2.0, 3.0, 10.0, 20.0, 30.0])
    medians = resampled_medians(values, np.repeat([4, 7], 3), 300, np.random.default_rng(0))
    assert set(medians.tolist()) == {2.0, 3.0, 20.0}


def test_resampled_medians_of_one_value_are_that_value() -> None:
    medians = resampled_medians(
        np.full(100, 3.5), np.repeat(np.arange(10), 10), 50, np.random.default_rng(0)
    )
    assert medians.tolist() == [3.5] * 50


def test_a_comparison_says_what_else_changed() -> None:
    old = model(session((1,), 4.0))
    new = replace(
        model(session((2,), 4.0)),
        sha256="1" * 64,
        runtime="ai-edge-litert 2.3.0",
        xnnpack=False,
        pictures=PictureSet("data", "photos", 16, (640, 480)),
    )
    done = compare(benchmark(old), benchmark(new), names=("old.json", "now"))
    (change,) = done.changes
    assert len(change.notes) == 4
    assert change.ci95 is not None
    assert change.ci95[0] < change.percent < change.ci95[1]
    assert change.verdict is done.verdict is None
    content = done.to_json()
    assert content["type"] == "benchmark_comparison"
    assert content["models"][0]["change_percent"] == change.percent


def test_only_what_both_have_is_compared_and_the_worst_verdict_counts() -> None:
    timed = session((1,), 4.0)
    fast, slow = session((2,), 4.0), session((3,), 6.0)
    before = benchmark(model(timed), model(timed, "b"), model(timed, "gone"))
    after = benchmark(model(fast), model(slow, "b"), model(fast, "new"))
    done = compare(before, after, names=("a", "b"), max_regress_percent=10)
    assert [change.verdict for change in done.changes] == ["pass", "fail"]
    assert done.verdict == "fail"
    assert done.only_before == ("gone (cpu, 1 thread)",)
    assert done.only_after == ("new (cpu, 1 thread)",)


def test_nothing_in_common_is_an_error_that_names_both() -> None:
    timed = session((1,), 4.0)
    with pytest.raises(BaselineError, match=r"other \(cpu, 1 thread\).*digits_int8"):
        compare(benchmark(model(timed, "other")), benchmark(model(timed)), names=("a", "b"))
    with pytest.raises(BaselineError, match="no timed model in common"):
        compare(benchmark(model(Samples())), benchmark(model(timed)), names=("a", "b"))


def test_a_baseline_that_does_not_fit_is_refused_with_every_reason() -> None:
    timed = model(session((1,), 4.0))
    fits = benchmark(timed)
    assert refusals(fits, machine(), [_KEY]) == ()
    assert "another machine: cpu" in refusals(fits, machine("Cortex-A76"), [_KEY])[0]
    assert "other models" in refusals(fits, machine(), [("b", "cpu", 1)])[0]
    assert "other models" in refusals(fits, machine(), [_KEY, ("digits_int8", "cpu", 2)])[0]
    assert "interrupted" in refusals(replace(fits, complete=False), machine(), [_KEY])[0]
    invalid = replace(fits, valid=False, invalid_reasons=("overloaded: by others",))
    assert "overloaded" in refusals(invalid, machine(), [_KEY])[0]
