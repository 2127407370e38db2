"""What came and what went, instead of what is seen at every frame."""

from __future__ import annotations

from typing import Literal, NamedTuple

Change = Literal["appeared", "left"]


class Event(NamedTuple):
    """A label came or went.

    Attributes:
        what: which of both.
        label: of what.
        score: when it appeared; when it left, the highest it had.
        seconds: how long it had been there; 0 when it appeared.
    """

    what: Change
    label: str
    score: float
    seconds: float


class Presence:
    """Keeps in mind which label is there, and since when.

    "Unknown" is nobody: nothing appears when it comes.
    """

    def __init__(self) -> None:
        self._label: str | None = None
        self._since_s = 0.0
        self._highest = 0.0
        self._seen_s = 0.0

    def update(self, label: str | None, score: float, now_s: float) -> tuple[Event, ...]:
        """What has changed by one more answer; who leaves comes before who appears.

        Args:
            label: the answer, None for "unknown".
            score: of it, 0..1.
            now_s: monotonic time in seconds, from any zero; never earlier than the call before.
        """
        self._seen_s = now_s
        if label == self._label:
            self._highest = max(self._highest, score)
            return ()
        events = []
        if self._label is not None:
            events.append(Event("left", self._label, self._highest, now_s - self._since_s))
        if label is not None:
            events.append(Event("appeared", label, score, 0.0))
        self._label, self._since_s, self._highest = label, now_s, score
        return tuple(events)

    def end(self) -> tuple[Event, ...]:
        """Who was there leaves, at the time of the last answer: nobody is looking any more."""
        return self.update(None, 0.0, self._seen_s)
