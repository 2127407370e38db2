"""Optional sinks: their failures are counted and reported, and the loop continues."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from edge_sdk.errors import SinkError
from edge_sdk.files import is_disk_trouble
from edge_sdk.ports import FrameSink, Sink, TellsHealth
from edge_sdk.retry import Clock
from edge_sdk.types import Frame, FrameRecord, Health, Record

_LOG = logging.getLogger("edgecls.sinks")
_REOPEN_S = 1.0
# Time without a failure after which the sink counts as recovered.
_WELL_S = 10.0
# A continuing failure is reported again at this interval.
_AGAIN_S = 600.0


def as_extra(name: str, open_sink: Callable[[], Sink], clock: Clock | None = None) -> Extra:
    """Opens a sink that may fail without ending the loop.

    A disk that is full or fails temporarily is not an error at the start either: opening is retried
    once a second.

    Args:
        name: of the sink in reports on its health.
        open_sink: opens it.
        clock: for tests.

    Raises:
        SinkError: it cannot be opened, and a retry cannot help.
    """
    clock = clock or Clock()
    try:
        sink = open_sink()
    except SinkError as error:
        if not is_disk_trouble(error):
            raise
        late = Extra(name, None, open_sink, clock)
        late.fails(error)
        return late
    return Extra(name, sink, open_sink, clock)


class Extra:
    """Passes records and frames on to a sink; records that it does not accept are counted.

    ``take_health`` returns the sink's own reports, and ``sink failed`` (again every ten minutes) and
    ``sink recovered``, both with the number of lost records.

    Args:
        name: see ``as_extra``.
        sink: None: it could not be opened yet.
        open_sink: see ``as_extra``.
        clock: measures pauses.

    Attributes:
        name: see above.
        lost: records that the sink did not take.
    """

    def __init__(
        self, name: str, sink: Sink | None, open_sink: Callable[[], Sink], clock: Clock
    ) -> None:
        self.name = name
        self.lost = 0
        self._sink = sink
        self._open_sink = open_sink
        self._clock = clock
        self._closed = False
        self._reported = 0  # lost records that are in a report
        self._reported_s = -float("inf")
        self._failed_s: float | None = None
        self._works = True  # since the last failure
        self._next_try_s = clock.now_s() + _REOPEN_S
        self._health: list[Health] = []

    def write(self, record: Record) -> None:
        """Hands a record over; never raises."""
        try:
            sink = self._opened()
            if sink is None:
                self.lost += 1
                return
            sink.write(record)
            self._works = True
        except Exception as error:  # noqa: BLE001  # an extra: reported, not the end
            self.lost += 1
            self.fails(error)

    def see(self, frame: Frame, record: FrameRecord) -> None:
        """Passes a frame to a sink that accepts frames; never raises."""
        if isinstance(self._sink, FrameSink):
            try:
                self._sink.see(frame, record)
            except Exception as error:  # noqa: BLE001
                self.fails(error)

    def _opened(self) -> Sink | None:
        now_s = self._clock.now_s()
        if self._sink is None and now_s >= self._next_try_s and not self._closed:
            self._next_try_s = now_s + _REOPEN_S
            self._sink = self._open_sink()
        return self._sink

    def fails(self, error: Exception) -> None:
        """Notes a failure, to be reported by ``take_health``."""
        now_s = self._clock.now_s()
        if self._failed_s is None and not isinstance(error, (SinkError, OSError)):
            _LOG.error("%s failed", self.name, exc_info=error)
        self._failed_s, self._works = now_s, False
        if now_s - self._reported_s >= _AGAIN_S:
            self._reported_s = now_s
            more, self._reported = self.lost - self._reported, self.lost
            self._health.append(
                Health("sink failed", f"{_reason(error)}; {more} records lost, retrying")
            )

    def take_health(self) -> Sequence[Health]:
        """What has happened since the last call; never raises."""
        now_s = self._clock.now_s()
        if self._failed_s is not None and self._works and now_s - self._failed_s >= _WELL_S:
            more, self._reported = self.lost - self._reported, self.lost
            self._failed_s, self._reported_s = None, -float("inf")
            self._health.append(
                Health("sink recovered", f"records are written again; {more} more were lost")
            )
        reports, self._health = self._health, []
        sink: object = self._sink
        if isinstance(sink, TellsHealth):
            try:
                reports.extend(sink.take_health())
            except Exception as error:  # noqa: BLE001
                self.fails(error)
        return reports

    def close(self) -> None:
        """Closes the sink.

        Raises:
            SinkError: as the sink does; the loop has ended by now.
        """
        self._closed = True
        if self._sink is not None:
            self._sink.close()


def _reason(error: BaseException) -> str:
    """The reason without a path: viewers of the web page read it, too."""
    while error.__cause__ is not None:
        error = error.__cause__
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
