"""Answers that do not flicker: what several frames in a row say, instead of the last one alone.

Each kind is a frozen value with its parameters; ``start()`` gives the state for one stream of
frames. Nothing here looks at a clock: frames are counted.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.decision import Answer, best, rank

Scores = NDArray[np.float32]
Allowed = NDArray[np.bool_] | None

FORMS = "majority:N, exponential:WEIGHT or hysteresis:ENTER,LEAVE[,FRAMES]"


class Smoother(Protocol):
    """The state of one stream."""

    def update(self, scores: Scores, allowed: Allowed, k: int, threshold: float) -> Answer:
        """The answer after one more frame.

        Args:
            scores: ``(C,)`` of this frame; not kept unless copied.
            allowed: ``(C,)``, which labels may be an answer; None: all.
            k: how many to rank.
            threshold: score below which the answer is "unknown".
        """
        ...


class Smoothing(Protocol):
    """A way of smoothing, with its parameters."""

    def start(self) -> Smoother:
        """A state that has seen nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Unsmoothed:
    """Every frame speaks for itself."""

    def start(self) -> Smoother:
        """A state that has seen nothing."""
        return _Unsmoothed()


class _Unsmoothed:
    def update(self, scores: Scores, allowed: Allowed, k: int, threshold: float) -> Answer:
        return best(rank(scores, allowed, k), threshold)


@dataclass(frozen=True, slots=True)
class Majority:
    """The answer that most of the last frames gave, "unknown" counted as one.

    A tie stays with the answer before. The score is the label's mean over the frames; the ranking
    is that of the last frame.

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
            # Of several that are new and equal, the one seen last.
            self._answer = next(i for i, _ in reversed(self._votes) if counts[i] == most)
        if self._answer is None:
            return Answer(None, last.score, ranking)
        score = float(np.mean([scores[self._answer] for _, scores in self._votes]))
        return Answer(self._answer, score, ranking)


@dataclass(frozen=True, slots=True)
class Exponential:
    """Scores averaged with weights that fade: ``mean += weight * (scores - mean)``.

    Attributes:
        weight: of the newest frame, above 0, up to 1; 1 is no smoothing. About 2 / weight - 1
            frames count.
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
    """A label enters at a high score and leaves at a low one, each for some frames in a row.

    The threshold is not used: ``enter`` stands for it.

    Attributes:
        enter: score from which a label that is the best becomes the answer, 0..1.
        leave: score below which the answer ends, at most ``enter``.
        frames: in a row, for either; at least 1.
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
        self._rising: tuple[int | None, int] = (None, 0)  # who is about to enter, for how long
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
            # NaN is not there, and an answer that may no longer be given ends like a low score.
            self._falling = 0 if scores[self._answer] >= how.leave else self._falling + 1
            if self._falling >= how.frames:
                self._answer, self._falling = None, 0
        if self._answer is None:
            return Answer(None, first.score, ranking)
        return Answer(self._answer, float(scores[self._answer]), ranking)


def parse_smoothing(text: str) -> Smoothing:
    """Reads ``majority:5``, ``exponential:0.3`` or ``hysteresis:0.7,0.4,3``.

    Raises:
        ValueError: none of these, or a number that makes no sense.
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
    raise ValueError(f"{text!r} is no way to smooth; expected {FORMS}")
