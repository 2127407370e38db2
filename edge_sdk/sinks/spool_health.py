"""How a spool fares: its figures, and what of them an operator should hear of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.types import Health

_LOOK_S = 1.0
# A broker that restarts is back within seconds: nobody needs to be woken.
_STUCK_S = 5.0
# What goes on is told again so often, with how much it came to.
_AGAIN_S = 600.0


@dataclass(frozen=True, slots=True)
class SpoolStatistics:
    """How a spool fares; counts are since this process opened it.

    Attributes:
        depth: records waiting.
        used_bytes: of the database that hold something.
        delivered: records that were acknowledged.
        dropped: records that made room for newer ones.
        refused: records that the receiver will never take.
        unwritten: records that the disk did not take: full, gone, or too slow for too long.
        trouble: why nothing is delivered at the moment; "" where all is well.
        set_aside: where a damaged database was put, None where there was none.
        damaged: records that the disk damaged, and that were not delivered: those with a wrong
            checksum, and those that could still be counted in a database that was put aside.
        blocked: why the spool cannot be opened at the moment; "" where it is open.
        unanswered_s: seconds since the beginning of the first attempt to deliver something after the
            last that succeeded; 0 where there was none.
    """

    depth: int
    used_bytes: int
    delivered: int
    dropped: int
    refused: int
    unwritten: int
    trouble: str
    set_aside: Path | None
    damaged: int = 0
    blocked: str = ""
    unanswered_s: float = 0.0

    @property
    def standstill(self) -> str:
        """``trouble``, or that the receiver has not answered for 5 s; "" while records are delivered."""
        if not self.trouble and self.unanswered_s >= _STUCK_S:
            return f"no answer for {self.unanswered_s:.0f} s"
        return self.trouble


class SpoolHealth:
    """Turns the figures of a spool into what has happened to it; asked as often as one likes.

    What it says is shown to viewers of the web page as well, and names no folder of this machine.

    Args:
        name: of the spool's file.
        clock: monotonic seconds, for tests.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._look_s = float("-inf")
        self._since_s: float | None = None  # when the trouble began
        self._told_stuck = False
        self._set_aside: Path | None = None
        self._told_blocked = False
        self._losses = {
            "spool full": _Loss("{} of the oldest records made room for newer ones"),
            "records refused": _Loss(
                "{} records will never be taken by the receiver, and are gone"
            ),
            "records lost": _Loss("{} records were not taken by the disk, which is full or hangs"),
            "records damaged": _Loss("{} records were damaged on the disk, and are not delivered"),
        }

    def look(self, ask: Callable[[], SpoolStatistics]) -> list[Health]:
        """What is news; ``ask`` is called once a second at most."""
        now_s = self._clock()
        if now_s - self._look_s < _LOOK_S:
            return []
        self._look_s = now_s
        now = ask()
        told = []
        if now.set_aside is not None and now.set_aside != self._set_aside:
            self._set_aside = now.set_aside
            aside = f"{self._name} was put aside as {now.set_aside.name}, and a new one begun"
            told.append(Health("spool damaged", aside))
        told += self._opening(now)
        told += self._delivery(now, now_s)
        counts = (now.dropped, now.refused, now.unwritten, now.damaged)
        for (what, loss), count in zip(self._losses.items(), counts, strict=True):
            text = loss.news(count, now_s)
            if text:
                told.append(Health(what, text))
        return told

    def _opening(self, now: SpoolStatistics) -> list[Health]:
        if bool(now.blocked) == self._told_blocked:
            return []
        self._told_blocked = bool(now.blocked)
        if now.blocked:
            return [
                Health(
                    "spool unavailable",
                    f"{now.blocked}; up to 1,000 records wait in memory, free some space and it goes on",
                )
            ]
        return [Health("spool available", f"{self._name} is open; {now.depth} records wait")]

    def _delivery(self, now: SpoolStatistics, now_s: float) -> list[Health]:
        trouble = now.standstill
        if not trouble:
            since_s, self._since_s = self._since_s, None
            if self._told_stuck and since_s is not None:
                self._told_stuck = False
                away = f"after {now_s - since_s:.0f} s; {now.depth} records wait"
                return [Health("delivery resumed", away)]
            return []
        if self._since_s is None:
            self._since_s = now_s - now.unanswered_s
        if self._told_stuck or now_s - self._since_s < _STUCK_S:
            return []
        self._told_stuck = True
        return [Health("delivery stuck", f"{trouble}; {now.depth} records wait")]


class _Loss:
    """A count that should not grow."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._told = 0
        self._told_s = float("-inf")

    def news(self, count: int, now_s: float) -> str:
        if count == self._told or now_s - self._told_s < _AGAIN_S:
            return ""
        more, self._told, self._told_s = count - self._told, count, now_s
        return self._text.format(more)
