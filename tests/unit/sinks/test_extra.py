"""A sink that fails does not end the loop: what it does not take is counted and reported."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import SinkSpecError, WriteError
from edge_sdk.ports import FrameSink, Sink, TellsHealth
from edge_sdk.retry import Clock
from edge_sdk.sinks.extra import as_extra
from edge_sdk.sinks.jsonl import open_json_lines
from edge_sdk.types import ErrorRecord, Frame, FrameRecord, Health, Ranked, Record

_FRAME = FrameRecord("T", 1, "cam", "a", 0.7, (Ranked("a", 0.7),), 1, 2, 3, 4, None, "m")
_PICTURE = Frame(np.zeros((4, 4, 3), np.uint8))


class _Sink:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.records: list[Record] = []
        self.seen = 0
        self.told: list[Health] = []

    def write(self, record: Record) -> None:
        if self.error is not None:
            raise self.error
        self.records.append(record)

    def see(self, frame: Frame, record: FrameRecord) -> None:
        if self.error is not None:
            raise self.error
        self.seen += 1

    def take_health(self) -> list[Health]:
        told, self.told = self.told, []
        return told

    def close(self) -> None:
        self.records.clear()


class _Time:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.clock = Clock(lambda: self.now_s, lambda _: None)


def _full() -> WriteError:
    error = WriteError("a record could not be written")
    error.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return error


_ERRORS: list[Callable[[], Exception]] = [_full, lambda: OSError(errno.EIO, "I/O"), RuntimeError]


@pytest.mark.parametrize("fault", _ERRORS)
def test_what_a_sink_does_not_take_is_counted_and_reported(fault: Callable[[], Exception]) -> None:
    time, sink = _Time(), _Sink()
    extra = as_extra("log", lambda: sink, time.clock)
    assert isinstance(extra, Sink)
    assert isinstance(extra, FrameSink)
    assert isinstance(extra, TellsHealth)
    extra.write(_FRAME)
    extra.see(_PICTURE, _FRAME)
    assert (len(sink.records), sink.seen, extra.take_health()) == (1, 1, [])
    sink.error = fault()
    for _ in range(1300):
        time.now_s += 1
        extra.write(_FRAME)
        extra.see(_PICTURE, _FRAME)
    told = extra.take_health()
    assert [health.what for health in told] == ["sink failed"] * 3  # after 0, 600 and 1200 s
    assert "600 records lost" in told[1].detail
    assert extra.lost == 1300
    sink.error = None
    extra.write(_FRAME)
    time.now_s += 9.9
    assert extra.take_health() == []
    time.now_s += 0.2
    (health,) = extra.take_health()
    assert health.what == "sink recovered"
    assert "99 more" in health.detail
    sink.told.append(Health("its own", "word"))
    assert [health.what for health in extra.take_health()] == ["its own"]


def test_a_sink_that_writes_nothing_has_not_recovered() -> None:
    time, sink = _Time(), _Sink()
    extra = as_extra("log", lambda: sink, time.clock)
    sink.error = _full()
    extra.write(_FRAME)
    assert len(extra.take_health()) == 1
    time.now_s += 100
    assert extra.take_health() == []


def test_a_full_disk_at_the_start_is_asked_again_once_a_second() -> None:
    time, sink = _Time(), _Sink()
    tries: list[float] = []

    def opened() -> Sink:
        tries.append(time.now_s)
        if time.now_s < 1010:
            raise _full()
        return sink

    extra = as_extra("log", opened, time.clock)
    (health,) = extra.take_health()
    assert health.what == "sink failed"
    assert "No space left" in health.detail
    for _ in range(400):
        time.now_s += 0.05
        extra.write(_FRAME)
    assert len(tries) == 11
    assert extra.lost + len(sink.records) == 400
    assert 190 <= len(sink.records) <= 202


def test_a_place_that_is_wrong_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="cannot be opened"):
        as_extra("log", lambda: open_json_lines(tmp_path / "no" / "folder"))

    def refused() -> Sink:
        raise SinkSpecError("no such place")

    with pytest.raises(SinkSpecError):
        as_extra("metrics", refused)


def test_a_log_whose_disk_fills_up_loses_whole_lines_only(tmp_path: Path) -> None:
    extra = as_extra("full", lambda: open_json_lines("/dev/full"))
    extra.write(ErrorRecord("a", "b"))
    (health,) = extra.take_health()
    assert health.detail.startswith("No space left on device; 1 records lost")
    extra.close()
