"""Progress on standard error: a bar on a terminal, a line at intervals in a log."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TextIO, TypeVar

from edge_sdk.terminal import own, printable

T = TypeVar("T")

# Between two lines of a log. Shorter work logs nothing.
EVERY_S = 30.0


class Meter:
    """Shows the amount done, the rate, and the time left.

    Args:
        what: is being done.
        total: how much there is to do; None where that is not known.
        unit: ``"B"`` for bytes, which are shown as megabytes; empty for things that are counted.
        stream: to write to; None for standard error.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        unit: str = "",
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.done = 0
        self._what, self._total, self._unit = printable(what), total, unit
        self._stream = own(stream or sys.stderr or io.StringIO())  # none where it was closed
        self._clock = clock
        self._began = self._logged_at = clock()
        self._bar: Any = None
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self._what,
                total=total,
                unit=unit,
                unit_scale=unit == "B",
                leave=False,
                file=self._stream,
            )

    def advance(self, by: int = 1) -> None:
        """Adds ``by`` to the amount done."""
        self.done += by
        if self._bar is not None:
            self._bar.update(by)
            return
        now = self._clock()
        if now - self._logged_at >= EVERY_S:
            self._logged_at = now
            self._line(self._standing(now - self._began))

    def close(self) -> None:
        """Removes the bar; a log that has lines about the work gets a last one."""
        if self._bar is not None:
            self._bar.close()
        elif self._logged_at > self._began:
            took = _duration(self._clock() - self._began)
            self._line(f"{self._amount(self.done)}{self._of_total()} in {took}")

    def _standing(self, elapsed_s: float) -> str:
        rate = self.done / elapsed_s
        text = f"{self._amount(self.done)}{self._of_total()}, {self._rate(rate)}"
        if self._total is not None and rate > 0:
            text += f", about {_duration(max(0, self._total - self.done) / rate)} left"
        return text

    def _of_total(self) -> str:
        return "" if self._total is None else f" of {self._amount(self._total)}"

    def _amount(self, count: float) -> str:
        return f"{count / 1e6:,.1f} MB" if self._unit == "B" else f"{count:,.0f}"

    def _rate(self, per_s: float) -> str:
        if self._unit == "B":
            return f"{self._amount(per_s)}/s"
        if per_s >= 1 or not per_s:
            return f"{per_s:,.0f}/s"
        return f"{_duration(1 / per_s)} each"

    def _line(self, text: str) -> None:
        _write(self._stream, f"{self._what}: {text}\n")


def progress(items: Iterable[T], what: str, total: int) -> Generator[T, None, None]:
    """Passes ``items`` through and shows the progress and the time left."""
    meter = Meter(what, total)
    try:
        for item in items:
            try:
                yield item
            finally:  # also where the consumer stops: it has processed this one
                meter.advance()
    finally:
        meter.close()


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Shows activity where the progress is unknown, as in a third-party converter.

    On a terminal a line that counts the seconds and then disappears; in a log a line every
    ``EVERY_S`` seconds. Both also while ``extras.muted`` discards standard error.
    """
    with _kept_stream() as stream:
        ended = threading.Event()
        words = (printable(what), stream, ended)
        thread = threading.Thread(target=_count, args=words, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextlib.contextmanager
def _kept_stream() -> Iterator[TextIO]:
    """Standard error as it is now, even if its descriptor is redirected meanwhile."""
    now = own(sys.stderr or io.StringIO())
    try:
        copy = os.dup(now.fileno())
    except (OSError, ValueError):  # a stream in memory
        yield now
        return
    with os.fdopen(copy, "w", encoding=now.encoding, errors="replace") as kept:
        yield kept


def _count(what: str, stream: TextIO, ended: threading.Event) -> None:
    terminal, began = stream.isatty(), time.monotonic()
    ending = ""
    while not ended.wait(1.0 if terminal else EVERY_S):
        text = f"{what}: {_duration(time.monotonic() - began)} so far"
        _write(stream, f"\r{text}\x1b[K" if terminal else f"{text}\n")
        ending = "\r\x1b[K" if terminal else ""
    if ending:
        _write(stream, ending)


def _write(stream: TextIO, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nothing reads the log any more
        stream.write(text)
        stream.flush()


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
