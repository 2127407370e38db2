"""Closing several sinks: all at once, and none waits for ever."""

from __future__ import annotations

import threading
import time

import pytest

from edge_sdk.errors import SinkError
from edge_sdk.loop.run import close_together
from edge_sdk.testing import MemorySink


class _Closing(MemorySink):
    def __init__(self, wait: threading.Event | None = None, error: Exception | None = None) -> None:
        super().__init__()
        self._wait, self._error = wait, error

    def close(self) -> None:
        if self._wait is not None:
            self._wait.wait(60)
        super().close()
        if self._error is not None:
            raise self._error


def test_all_are_closed_and_the_first_failure_is_told() -> None:
    sinks = [_Closing(), _Closing(error=SinkError("full")), _Closing()]
    with pytest.raises(SinkError, match="full"):
        close_together(sinks)
    assert all(sink.closed for sink in sinks)


def test_without_a_thread_left_each_is_closed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # as under a limit of tasks

    monkeypatch.setattr(threading.Thread, "start", refused)
    sinks = [_Closing(), _Closing(error=SinkError("full")), _Closing()]
    with pytest.raises(SinkError, match="full"):
        close_together(sinks)
    assert all(sink.closed for sink in sinks)


def test_one_that_hangs_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    for_ever = threading.Event()
    sinks = [_Closing(for_ever), _Closing()]
    began = time.monotonic()
    close_together(sinks, patience_s=0.2)
    assert time.monotonic() - began < 20
    assert sinks[1].closed
    assert not sinks[0].closed
    assert "_Closing does not close" in caplog.text
    for_ever.set()
