"""The statistics of a run while it runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.loop.statistics import WINDOW, LiveStatistics
from edge_sdk.types import FrameRecord, HealthRecord


class _Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _record(latency_ms: float, age_ms: float | None = None, frame: int = 0) -> FrameRecord:
    return FrameRecord("T", frame, "cam", "a", 1.0, (), 0.0, 0.0, latency_ms, 0.0, age_ms, "m")


def _fill(live: LiveStatistics, clock: _Clock, times_s: Sequence[float]) -> None:
    for time_s in times_s:
        clock.now_s = time_s
        live.answer(_record(1.0))
        live.frame()


def test_at_the_start_there_is_nothing() -> None:
    now = LiveStatistics(_Clock()).now()
    assert (now.frames, now.unreadable, now.fps, now.latency_ms, now.last) == (
        0,
        0,
        0.0,
        None,
        None,
    )


def test_the_rate_is_that_of_the_last_seconds_and_sinks_when_nothing_comes() -> None:
    clock = _Clock()
    live = LiveStatistics(clock)
    _fill(live, clock, [i / 30 for i in range(300)])
    assert live.now().fps == pytest.approx(30, rel=0.01)
    rates = []
    for pause_s in (0.5, 1, 5, 9, 11):
        clock.now_s = 299 / 30 + pause_s
        rates.append(live.now().fps)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0


def test_a_rate_that_changed_shows_within_ten_seconds() -> None:
    clock = _Clock()
    live = LiveStatistics(clock)
    _fill(live, clock, [i / 30 for i in range(150)])
    _fill(live, clock, [5 + i / 5 for i in range(60)])
    assert live.now().fps == pytest.approx(5, rel=0.05)


@given(values=st.lists(st.floats(0, 1e4), min_size=1, max_size=WINDOW * 2))
def test_percentiles_are_nearest_ranks_of_the_last_answers(values: list[float]) -> None:
    live = LiveStatistics(_Clock())
    for value in values:
        live.answer(_record(value))
    found = live.now().latency_ms
    assert found is not None
    last = np.array(values[-WINDOW:])
    expected = [np.percentile(last, q, method="inverted_cdf") for q in (50, 90, 99)]
    assert list(found) == [*expected, last.max()]


def test_ages_are_of_the_frames_that_have_one() -> None:
    live = LiveStatistics(_Clock())
    live.answer(_record(1.0))
    assert live.now().age_ms is None
    live.answer(_record(1.0, 70.0))
    age = live.now().age_ms
    assert age is not None
    assert age.p50 == 70.0


def test_troubles_are_counted_and_the_last_one_is_kept() -> None:
    live = LiveStatistics(_Clock())
    live.trouble(HealthRecord("T", "cam", "stalled", "x"))
    live.trouble(HealthRecord("T", "cam", "unreadable", "y"), unreadable=True)
    now = live.now()
    assert (now.troubles, now.unreadable) == (2, 1)
    assert now.health is not None
    assert now.health.what == "unreadable"


def test_time_stands_still_after_the_end() -> None:
    clock = _Clock()
    live = LiveStatistics(clock)
    clock.now_s = 100
    live.begin()
    clock.now_s = 103
    live.end()
    clock.now_s = 200
    assert live.now().seconds == 3


def test_it_can_be_read_while_it_is_written() -> None:
    live, ended = LiveStatistics(), threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not ended.is_set():
            now = live.now()
            seen.append(now.frames)
            if now.last is not None:
                assert now.last.frame + 1 >= now.frames

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(5000):
        live.answer(_record(1.0, 2.0, i))
        live.frame()
    ended.set()
    reader.join()
    assert seen == sorted(seen)
    assert live.now().frames == 5000
