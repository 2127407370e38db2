"""Decisions: from the scores of frames to a smoothed answer, its threshold, and events.

Each kind is a frozen value with its parameters; ``start()`` returns the state for one stream of
frames. Nothing here reads a clock: frames are counted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.types import EventKind, EventRecord, FrameRecord, Prediction, Ranked, top_k, utc_now


class Answer(NamedTuple):
    """The answer for one picture.

    Attributes:
        chosen: index of the label, None where the answer is "unknown".
        score: of that label, or of the best candidate if "unknown". 0..1.
        ranking: ``(index, score)`` of the candidates, best first.
    """

    chosen: int | None
    score: float
    ranking: tuple[tuple[int, float], ...]


def candidates(
    labels: Sequence[str], allow: Sequence[str] = (), deny: Sequence[str] = ()
) -> NDArray[np.bool_]:
    """A mask of the labels that may be answers, ``(C,)``: ``allow`` (empty: all) without ``deny``.

    Names that are no label are ignored, see ``unknown_labels``.
    """
    wanted, unwanted = set(allow), set(deny)
    return np.array([(not wanted or x in wanted) and x not in unwanted for x in labels], np.bool_)


def unknown_labels(labels: Sequence[str], names: Sequence[str]) -> str:
    """A sentence about the first of ``names`` that is no label; empty where all are."""
    for name in names:
        if name not in labels:
            import difflib  # imported here: only an error needs it

            near = difflib.get_close_matches(name, labels, 1)
            choose = f"did you mean {near[0]!r}?" if near else f"choose from {_some(labels)}"
            return f"the model has no label {name!r}; {choose}"
    return ""


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")


def rank(
    scores: NDArray[np.float32], allowed: NDArray[np.bool_] | None, k: int
) -> tuple[tuple[int, float], ...]:
    """``(index, score)`` of the k best candidates, best first; ties keep label order.

    Args:
        scores: ``(C,)``.
        allowed: ``(C,)``, labels that may be answers; None: all.
        k: at least 1.
    """
    if allowed is None:
        return tuple((i, float(scores[i])) for i in top_k(scores, k))
    where = np.flatnonzero(allowed)
    return tuple((int(where[i]), float(scores[where[i]])) for i in top_k(scores[where], k))


def best(ranking: tuple[tuple[int, float], ...], threshold: float) -> Answer:
    """The first of a ranking, or "unknown" if its score is below the threshold."""
    if not ranking:
        return Answer(None, 0.0, ranking)
    index, score = ranking[0]
    return Answer(index if score >= threshold else None, score, ranking)


Scores = NDArray[np.float32]
Allowed = NDArray[np.bool_] | None

FORMS = "majority:N, exponential:WEIGHT or hysteresis:ENTER,LEAVE[,FRAMES]"


class Smoother(Protocol):
    """The smoothing state of one stream."""

    def update(self, scores: Scores, allowed: Allowed, k: int, threshold: float) -> Answer:
        """The answer after one more frame.

        Args:
            scores: ``(C,)`` of this frame; not kept unless copied.
            allowed: ``(C,)``, labels that may be answers; None: all.
            k: how many to rank.
            threshold: score below which the answer is "unknown".
        """
        ...


class Smoothing(Protocol):
    """A kind of smoothing, with its parameters."""

    def start(self) -> Smoother:
        """A state that has seen nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Unsmoothed:
    """No smoothing: each answer depends on one frame alone."""

    def start(self) -> Smoother:
        """A state that has seen nothing."""
        return _Unsmoothed()


class _Unsmoothed:
    def update(self, scores: Scores, allowed: Allowed, k: int, threshold: float) -> Answer:
        return best(rank(scores, allowed, k), threshold)


@dataclass(frozen=True, slots=True)
class Majority:
    """The most frequent answer of the last frames; "unknown" counts as an answer.

    A tie keeps the previous answer. The score is the label's mean over the frames; the ranking is
    that of the last frame.

    Attributes:
        frames: how many of the last frames vote, at least 1.
    """

    frames: int = 5

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"a majority needs at least 1 frame, got {self.frames}")

    def start(self) -> Smoother:
        """A state that has seen nothing."""
        return _Majority(self.frames)


class _Majority:
    def __init__(self, frames: int) -> None:
        self._votes: deque[tuple[int | None, Scores]] = deque(maxlen=frames)
        self._answer: int | None = None

    def update(self, scores: Scores, allowed: Allowed, k: int, threshold: float) -> Answer:
        ranking = rank(scores, allowed, k)
        last = best(ranking, threshold)
        self._votes.append((last.chosen, scores.copy()))
        counts = Counter(index for index, _ in self._votes)
        most = max(counts.values())
        if counts[self._answer] < most:
            # Among several new answers with equal counts, the most recent one.
            self._answer = next(i for i, _ in reversed(self._votes) if counts[i] == most)
        if self._answer is None:
            return Answer(None, last.score, ranking)
        score = float(np.mean([scores[self._answer] for _, scores in self._votes]))
        return Answer(self._answer, score, ranking)


@dataclass(frozen=True, slots=True)
class Exponential:
    """Exponential moving average of the scores: ``mean += weight * (scores - mean)``.

    Attributes:
        weight: of the newest frame, above 0, up to 1; 1 is no smoothing. The average covers about
            2 / weight - 1 frames.
    """

    weight: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(f"a weight is above 0 and up to 1, got {self.weight}")

    def start(self) -> Smoother:
        """A state that has seen nothing."""
        return _Exponential(self.weight)


class _Exponential:
    def __init__(self, weight: float) -> None:
        self._weight = np.float32(weight)
        self._mean: Scores | None = None

    def update(self, scores: Scores, allowed: Allowed, k: int, threshold: float) -> Answer:
        if self._mean is None:
            self._mean = scores.copy()
        else:
            self._mean += self._weight * (scores - self._mean)
        return best(rank(self._mean, allowed, k), threshold)


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """A label enters at a high score and leaves at a low one, each for a number of frames in a row.

    The threshold is not used; ``enter`` takes its place.

    Attributes:
        enter: lowest score at which the best label becomes the answer, 0..1.
        leave: score below which the answer ends, at most ``enter``.
        frames: frames in a row, for both; at least 1.
    """

    enter: float = 0.7
    leave: float = 0.4
    frames: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.leave <= self.enter <= 1:
            raise ValueError(
                f"enter and leave are scores with 0 <= leave <= enter <= 1, got {self.enter}, "
                f"{self.leave}"
            )
        if self.frames < 1:
            raise ValueError(f"hysteresis needs at least 1 frame, got {self.frames}")

    def start(self) -> Smoother:
        """A state that has seen nothing."""
        return _Hysteresis(self)


class _Hysteresis:
    def __init__(self, how: Hysteresis) -> None:
        self._how = how
        self._answer: int | None = None
        self._rising: tuple[int | None, int] = (None, 0)  # a label about to enter, frames in a row
        self._falling = 0

    def update(self, scores: Scores, allowed: Allowed, k: int, threshold: float) -> Answer:  # noqa: ARG002
        how, ranking = self._how, rank(scores, allowed, k)
        first = best(ranking, how.enter)
        if first.chosen is None or first.chosen == self._answer:
            self._rising = (None, 0)
        else:
            label, frames = self._rising
            self._rising = (first.chosen, frames + 1 if label == first.chosen else 1)
        if self._rising[1] >= how.frames:
            self._answer, self._rising, self._falling = self._rising[0], (None, 0), 0
        elif self._answer is not None:
            # NaN counts as a low score, and so does an answer that is no longer allowed.
            self._falling = 0 if scores[self._answer] >= how.leave else self._falling + 1
            if self._falling >= how.frames:
                self._answer, self._falling = None, 0
        if self._answer is None:
            return Answer(None, first.score, ranking)
        return Answer(self._answer, float(scores[self._answer]), ranking)


def parse_smoothing(text: str) -> Smoothing:
    """Reads ``majority:5``, ``exponential:0.3`` or ``hysteresis:0.7,0.4,3``.

    Raises:
        ValueError: none of these, or a number out of range.
    """
    kind, _, rest = text.partition(":")
    words = rest.split(",") if rest else []
    try:
        if kind == "majority" and len(words) <= 1:
            return Majority(*map(int, words))
        if kind == "exponential" and len(words) <= 1:
            return Exponential(*map(float, words))
        if kind == "hysteresis" and len(words) in (0, 2, 3):
            frames = {"frames": int(words[2])} if len(words) == 3 else {}
            scores = dict(zip(("enter", "leave"), map(float, words[:2]), strict=False))
            return Hysteresis(**scores, **frames)  # type: ignore[arg-type]  # floats are floats
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; expected {FORMS}") from error
    raise ValueError(f"{text!r} is no kind of smoothing; expected {FORMS}")


class Event(NamedTuple):
    """A label appeared or left.

    Attributes:
        what: which of the two.
        label: the label.
        score: at its appearance; when it left, the highest since then.
        seconds: how long it was present; 0 when it appeared.
    """

    what: EventKind
    label: str
    score: float
    seconds: float


class Presence:
    """Tracks which label is present, and since when.

    "Unknown" is no label: it causes no event of its own.
    """

    def __init__(self) -> None:
        self._label: str | None = None
        self._since_s = 0.0
        self._highest = 0.0
        self._seen_s = 0.0

    def update(self, label: str | None, score: float, now_s: float) -> tuple[Event, ...]:
        """The events of one more answer; a label that leaves comes before one that appears.

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
        """The present label leaves, at the time of the last answer: the stream has ended."""
        return self.update(None, 0.0, self._seen_s)


@dataclass(frozen=True, slots=True)
class Decisions:
    """How scores become answers.

    Attributes:
        allow: labels that may be answers; empty: all. Other labels are ignored; the scores are not
            changed.
        deny: labels that may not be answers.
        smoothing: how answers are smoothed over frames.
        events: write an ``EventRecord`` whenever an answer appears or leaves.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    smoothing: Smoothing = field(default_factory=Unsmoothed)
    events: bool = False

    def check(self, labels: tuple[str, ...]) -> None:
        """Checks that the lists fit a model.

        Raises:
            ValueError: a name is not in ``labels``, or no label is left.
        """
        trouble = unknown_labels(labels, (*self.allow, *self.deny))
        if trouble:
            raise ValueError(trouble)
        if not candidates(labels, self.allow, self.deny).any():
            raise ValueError("no label is left to answer with; allow more or deny fewer")


@dataclass(frozen=True, slots=True)
class Seen:
    """Metadata of a classified frame.

    Attributes:
        frame, source: its index and name.
        region: the classified part, None for the whole frame.
        capture_ms: how long ``read()`` took.
        age_ms: time since exposure; None if unknown.
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


class DecisionStream:
    """The answers of one camera, or of one region of it, frame after frame.

    Args:
        labels: the model's. A model with other labels needs a new stream.
        decisions: how scores become answers.
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
        """The record of one frame, and the records of its events."""
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
        """Ends the stream: smoothing starts over, and the present label leaves."""
        self._smoother = self._decisions.smoothing.start()
        return () if self._presence is None else self._records(self._presence.end())

    def _records(self, events: Iterable[Event]) -> tuple[EventRecord, ...]:
        now = utc_now()
        return tuple(
            EventRecord(now, self._source, *event, region=self._region) for event in events
        )
