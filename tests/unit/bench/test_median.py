"""The interval of the median: its ranks, what it covers, and what drift does to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.bench.median import (
    LEAST,
    half_width_percent,
    interval_of_median,
    interval_over_blocks,
    medians_of_blocks,
)
from edge_sdk.bench.results import Distribution

_NO_BLOCKS = np.array([], np.int64)


@pytest.mark.parametrize("n", [6, 7, 20, 99, 100, 1001])
def test_ranks_are_those_of_the_exact_binomial(n: int) -> None:
    interval = interval_of_median(np.arange(1.0, n + 1))
    assert interval is not None
    k = int(interval[0])
    assert interval[1] == n + 1 - k
    below = [sum(math.comb(n, i) for i in range(rank)) for rank in (k, k + 1)]
    assert 2 * below[0] <= 0.05 * 2**n < 2 * below[1]


def test_too_few_values_give_no_interval() -> None:
    assert interval_of_median(np.arange(float(LEAST - 1))) is None
    assert interval_of_median(np.arange(float(LEAST))) == (0.0, LEAST - 1.0)
    assert half_width_percent(np.ones(3), _NO_BLOCKS) == math.inf
    assert half_width_percent(np.array([]), _NO_BLOCKS) == math.inf
    assert Distribution.of(()) is None


def test_it_covers_the_median_of_a_skewed_distribution() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        interval = interval_of_median(rng.exponential(1.0, 25))
        assert interval is not None
        hits += interval[0] <= math.log(2) <= interval[1]
    assert 0.95 <= hits / 2000 <= 0.975


@given(st.lists(st.floats(0.001, 1e6), min_size=LEAST, max_size=200))
def test_it_holds_the_median(values: list[float]) -> None:
    interval = interval_of_median(np.array(values))
    assert interval is not None
    assert interval[0] <= np.median(values) <= interval[1]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(0, 1000))
def test_blocks_never_make_it_narrower(sizes: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(size=sum(sizes))
    block = np.repeat(np.arange(len(sizes)), sizes)
    assert len(medians_of_blocks(values, block)) == len(sizes)
    alone, wider = interval_of_median(values), interval_over_blocks(values, block)
    if alone is None:
        assert wider is None
    else:
        assert wider is not None
        assert wider[0] <= alone[0]
        assert alone[1] <= wider[1]


def test_drift_between_blocks_shows() -> None:
    level = np.repeat([1.0, 1.0, 1.0, 1.0, 1.2, 1.2, 1.2, 1.2], 200)
    values = level + np.random.default_rng(0).normal(0, 0.001, len(level))
    values[:200] += 0.1  # one block that is no typical one
    block = np.repeat(np.arange(8), 200)
    told = interval_over_blocks(values, block)
    assert told is not None
    assert told[0] < 1.01
    assert told[1] > 1.19


def test_a_distribution_is_what_numpy_says() -> None:
    values = tuple(np.random.default_rng(1).lognormal(size=101).tolist())
    told = Distribution.of(values)
    assert told is not None
    assert told.n == 101
    assert (told.p50, told.p90, told.p99) == tuple(np.percentile(values, (50, 90, 99)))
    assert told.min <= told.p50 <= told.p95 <= told.max
    assert told.std == pytest.approx(np.std(values, ddof=1))
