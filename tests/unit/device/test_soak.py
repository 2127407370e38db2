"""What samples say about growth: simulated ones, with leaks of a known size."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.soak import Leaking, met
from edge_sdk.classifier import Classifier
from edge_sdk.device.soak import (
    Noise,
    Sample,
    Slope,
    judge,
    soak,
    take_sample,
    theil_sen,
    verdict,
    worst,
)
from edge_sdk.testing import MemorySink

_BUDGETS = {"rss_bytes": 20 * 1024, "descriptors": 0.05, "threads": 0.05}


def _samples(
    minutes: float, *, leak_kb: float = 0.0, descriptors: float = 0.0, seed: int = 0
) -> list[Sample]:
    """A process as it is: buffers at the start, pages that come and go, and a leak per minute."""
    rng, samples, wander = np.random.default_rng(seed), [], 0.0
    for second in np.arange(0, minutes * 60, 2.0):
        wander = 0.8 * wander + rng.normal(0, 60)
        started = 5000 * (1 - math.exp(-second / 10))
        rss_kb = 80_000 + started + wander + leak_kb * second / 60
        samples.append(
            Sample(
                seconds=float(second),
                frames=int(second * 30),
                rss_bytes=int(rss_kb) // 4 * 4 * 1024,
                private_bytes=int(rss_kb / 2) * 1024,
                pss_bytes=int(rss_kb) * 1024,
                descriptors=12 + int(descriptors * second / 60) + int(rng.random() < 0.1),
                threads=5,
            )
        )
    return samples


def _verdicts(samples: list[Sample]) -> dict[str, str | None]:
    return {growth.name: growth.verdict for growth in judge(samples, _BUDGETS).growths}


@pytest.mark.parametrize("seed", range(5))
def test_fifty_kilobytes_a_minute_are_found_in_ten_minutes(seed: int) -> None:
    report = judge(_samples(10, leak_kb=50, seed=seed), _BUDGETS)
    assert report.verdict == "fail"
    (rss,) = [growth for growth in report.growths if growth.name == "rss_bytes"]
    assert rss.verdict == "fail"
    assert rss.per_minute.value / 1024 == pytest.approx(50, rel=0.25)
    assert rss.per_million is not None
    assert rss.per_million.value / 1024 == pytest.approx(50 / 1800 * 1e6, rel=0.25)


@pytest.mark.parametrize("seed", range(5))
def test_without_a_leak_half_an_hour_passes(seed: int) -> None:
    report = judge(_samples(30, seed=seed), _BUDGETS)
    assert report.verdict == "pass"


def test_a_short_run_is_inconclusive_rather_than_wrong() -> None:
    assert judge(_samples(0.3), _BUDGETS).verdict != "fail"
    assert judge(_samples(0.05), _BUDGETS).verdict == "inconclusive"
    assert judge([], _BUDGETS).verdict == "inconclusive"


def test_a_descriptor_a_minute_is_found_among_those_that_come_and_go() -> None:
    assert _verdicts(_samples(10, descriptors=1))["descriptors"] == "fail"
    assert _verdicts(_samples(10))["descriptors"] == "pass"


def test_a_report_is_json_without_infinities() -> None:
    for samples in (_samples(10), _samples(0.05)):
        content = json.loads(json.dumps(judge(samples, _BUDGETS).to_json(), allow_nan=False))
        assert content["type"] == "soak"
        assert [g["name"] for g in content["growth"]] == [
            *("rss_bytes", "private_bytes"),
            *("descriptors", "threads"),
        ]


@given(
    slope=st.floats(-100, 100),
    start=st.floats(-1e6, 1e6),
    n=st.integers(8, 300),
)
def test_a_straight_line_has_its_slope(slope: float, start: float, n: int) -> None:
    x = np.arange(n, dtype=np.float64)
    found = theil_sen(x, start + slope * x)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(slope, abs=1e-6)


@given(seed=st.integers(0, 1000), outliers=st.integers(0, 5))
def test_a_few_outliers_do_not_tilt_it(seed: int, outliers: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.arange(40, dtype=np.float64)
    y = 2 * x + rng.normal(0, 0.5, 40)
    y[rng.choice(40, outliers, replace=False)] += 1e6
    assert theil_sen(x, y).value == pytest.approx(2, abs=0.5)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, x, covered = np.random.default_rng(0), np.arange(40, dtype=np.float64), 0
    for _ in range(400):
        found = theil_sen(x, 0.3 * x + rng.normal(0, 5, 40))
        covered += found.low <= 0.3 <= found.high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize(
    "x",
    [range(8), (0, 0, 0, 1, 1, 2, 3, 4), (0, 0, 0, 0, 1, 1, 1, 1)],
    ids=["distinct", "some-ties", "two-groups"],
)
def test_the_interval_covers_what_its_exact_distribution_says(x: Sequence[float]) -> None:
    # Under a slope of 0 every order of eight errors is as likely, and so many slopes are negative as
    # it has inversions.
    at, orders = (
        np.array(x, np.float64),
        np.array(list(itertools.permutations(range(8))), np.float64),
    )
    first, second = np.triu_indices(8, 1)
    apart = at[second] > at[first]
    inversions = (orders[:, second] < orders[:, first])[:, apart].sum(1)
    below = above = 0
    for count in range(apart.sum() + 1):
        those = np.flatnonzero(inversions == count)
        asked = [theil_sen(at, orders[which]) for which in those[:: max(1, len(those) // 20)]]
        assert len({(found.high < 0, found.low > 0) for found in asked}) == 1
        below += len(those) * (asked[0].high < 0)
        above += len(those) * (asked[0].low > 0)
    assert below == above
    # As many as 2.5 % allow at each end: one rank more would be too many.
    steps = np.cumsum(np.bincount(inversions))
    assert below == max(step for step in steps if step <= len(orders) * 0.025)


# Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, table A.30: P(K >= k), and from it
# M = (n (n - 1) / 2 - (k - 2)) / 2 for the smallest k with a probability of at most 0.025.
@pytest.mark.parametrize(("n", "k"), [(8, 18), (9, 20), (10, 23)])
def test_the_ranks_are_those_of_the_tables(n: int, k: int) -> None:
    x = np.arange(n, dtype=np.float64)
    y = np.random.default_rng(n).normal(size=n)
    slopes = sorted((y[j] - y[i]) / (j - i) for i in range(n) for j in range(i + 1, n))
    rank = (n * (n - 1) // 2 - (k - 2)) // 2
    found = theil_sen(x, y)
    assert (found.low, found.high) == (slopes[rank - 1], slopes[-rank])


@given(
    points=st.lists(
        st.tuples(st.integers(0, 60), st.integers(-1000, 1000)), min_size=2, max_size=120
    )
)
def test_a_negated_series_has_the_negated_interval(points: list[tuple[int, int]]) -> None:
    x, y = np.array(sorted(points), np.float64).T
    found, negated = theil_sen(x, y), theil_sen(x, -y)
    assert negated == (-found.value, -found.high, -found.low)


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_a_handful_of_points_bounds_nothing(n: int) -> None:
    found = theil_sen(np.arange(n, dtype=np.float64), np.ones(n))
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_points_at_one_time_bound_nothing() -> None:
    assert theil_sen(np.zeros(20), np.arange(20.0)).high == math.inf


def test_a_verdict_compares_the_interval_with_the_budget() -> None:
    assert [verdict(Slope(2, 1, 3), b) for b in (3, 2, 0.5)] == ["pass", "inconclusive", "fail"]
    assert worst(["pass", "inconclusive", "pass"]) == "inconclusive"
    assert worst(["pass", "fail", "inconclusive"]) == "fail"
    assert worst([]) == "pass"


def test_a_sample_is_of_this_process() -> None:
    before = take_sample(1.0, 2)
    assert (before.seconds, before.frames) == (1.0, 2)
    assert 1e6 < before.rss_bytes < 1e11
    with Path("/dev/null").open("rb"):
        assert take_sample(0, 0).descriptors == before.descriptors + 1
    assert before.threads >= 1


def test_a_soak_samples_while_it_runs(int8_artifact: Path) -> None:
    sink, seen = MemorySink(), []
    with Classifier.open(int8_artifact) as classifier:
        samples = soak(Noise(64, 48), classifier, [sink], seconds=1.2, tick=seen.append)
    assert samples == seen
    assert 3 <= len(samples) <= 8
    assert samples[-1].frames > 0
    assert len(sink.records) >= samples[-1].frames


# At 30 frames a second, as in these samples, 1 MB per million frames is 1.8 kB a minute.
@pytest.mark.parametrize(
    ("leak_kb", "part", "is_met"),
    [(0, "frames", True), (10, "frames", False), (0, "leak", False), (50, "leak", True)],
)
def test_the_benchmark_finds_growth_and_only_growth(
    leak_kb: float, part: str, is_met: bool
) -> None:
    report = judge(
        _samples(120, leak_kb=leak_kb), {"rss_bytes": 20 * 1024, "private_bytes": 20 * 1024}
    )
    assert met(part, report) == is_met


def test_its_leak_is_of_the_size_it_says(
    int8_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = iter([0.0, 60.0, 120.0])
    monkeypatch.setattr("benchmarks.soak.time", SimpleNamespace(monotonic=lambda: next(now_s)))
    with Classifier.open(int8_artifact) as classifier, closing(Noise(64, 48)) as noise:
        leaking = Leaking(classifier)
        frame = noise.read()
        assert frame is not None
        held = []
        for _ in range(2):
            leaking.classify(frame)
            held.append(sum(map(len, leaking._kept)))
        assert len(set(map(id, leaking._kept))) == len(leaking._kept)
    assert held == pytest.approx([50 * 1024, 100 * 1024], rel=0.01)
