"""From one classified frame to its records: the answer, and what has come or gone by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from edge_sdk.decision import candidates, unknown_labels
from edge_sdk.events import Event, Presence
from edge_sdk.loop.decisions import Smoothing, Unsmoothed
from edge_sdk.records import EventRecord, FrameRecord, utc_now
from edge_sdk.types import Prediction, Ranked


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is made of scores.

    Attributes:
        allow: labels that may be an answer; empty: all. What a smaller list leaves out is as if the
            model did not know it: scores stay what they are.
        deny: labels that may not.
        smoothing: over how many frames an answer is formed.
        events: write an ``EventRecord`` whenever an answer appears or leaves.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    smoothing: Smoothing = field(default_factory=Unsmoothed)
    events: bool = False

    def check(self, labels: tuple[str, ...]) -> None:
        """Makes sure that the lists fit a model.

        Raises:
            ValueError: a name is none of ``labels``, or nothing is left to answer with.
        """
        trouble = unknown_labels(labels, (*self.allow, *self.deny))
        if trouble:
            raise ValueError(trouble)
        if not candidates(labels, self.allow, self.deny).any():
            raise ValueError("no label is left to answer with; allow more or deny fewer")


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame as it was classified.

    Attributes:
        frame, source: its index and name.
        region: the part of it, None for all.
        capture_ms: how long reading it took.
        age_ms: since the sensor saw it; None if unknown.
        model: path of the model.
        now_s: monotonic seconds.
    """

    frame: int
    source: str
    region: str | None
    capture_ms: float
    age_ms: float | None
    model: str
    now_s: float


class Stream:
    """The answers of one camera, or of one region of it, frame after frame.

    Args:
        labels: the model's. Another model with other labels gets a stream of its own.
        decisions: what is made of its scores.
        top_k: how many labels a record ranks.
    """

    def __init__(self, labels: tuple[str, ...], decisions: Decisions, top_k: int) -> None:
        self.labels = labels
        self._decisions, self._top_k = decisions, top_k
        self._source = ""
        self._region: str | None = None
        allowed = candidates(labels, decisions.allow, decisions.deny)
        self._allowed = None if allowed.all() else allowed
        self._smoother = decisions.smoothing.start()
        self._presence = Presence() if decisions.events else None

    def records(
        self, prediction: Prediction, threshold: float, seen: Seen
    ) -> tuple[FrameRecord, tuple[EventRecord, ...]]:
        """The record of one frame, and those of what has changed by it."""
        answer = self._smoother.update(prediction.scores, self._allowed, self._top_k, threshold)
        label = None if answer.chosen is None else self.labels[answer.chosen]
        record = FrameRecord(
            ts=utc_now(),
            frame=seen.frame,
            source=seen.source,
            label=label,
            score=answer.score,
            topk=tuple(Ranked(self.labels[i], score) for i, score in answer.ranking),
            capture_ms=seen.capture_ms,
            preprocess_ms=prediction.timing.preprocess_ms,
            inference_ms=prediction.timing.inference_ms,
            postprocess_ms=prediction.timing.postprocess_ms,
            age_ms=seen.age_ms,
            model=seen.model,
            region=seen.region,
        )
        if self._presence is None:
            return record, ()
        self._source, self._region = seen.source, seen.region
        return record, self._records(self._presence.update(label, answer.score, seen.now_s))

    def end(self) -> tuple[EventRecord, ...]:
        """Nobody looks any more: smoothing begins anew, and what was there has left."""
        self._smoother = self._decisions.smoothing.start()
        return () if self._presence is None else self._records(self._presence.end())

    def _records(self, events: Iterable[Event]) -> tuple[EventRecord, ...]:
        now = utc_now()
        return tuple(
            EventRecord(now, self._source, *event, region=self._region) for event in events
        )
