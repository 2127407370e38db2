"""Statistics of a run, readable from any thread while it runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edge_sdk.types import FrameRecord, HealthRecord

# How many of the last answers give the rate and the percentiles: 17 s at 30 per second.
WINDOW = 512
# The rate covers the last seconds alone, so that it shows a camera that stopped.
_RATE_S = 10.0


class Percentiles(NamedTuple):
    """Nearest-rank percentiles, in milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """The statistics of a run, so far or at its end.

    Attributes:
        frames: frames classified.
        unreadable: frames that were no picture.
        seconds: since the run began.
        dropped: frames that a live source replaced by newer ones before they were read.
        skipped: frames that were read but not classified: ``every`` and the motion gate.
        fps: frames classified per second over the last ten seconds.
        latency_ms: from the frame read to the answer, over the last answers; None without any.
        age_ms: from exposure to the answer; None if no frame had a timestamp.
        troubles: health records so far.
        last: the last answer.
        health: the last health record.
    """

    frames: int
    unreadable: int
    seconds: float
    dropped: int = 0
    skipped: int = 0
    fps: float = 0.0
    latency_ms: Percentiles | None = None
    age_ms: Percentiles | None = None
    troubles: int = 0
    last: FrameRecord | None = None
    health: HealthRecord | None = None


class LiveStatistics:
    """Collects the statistics of ``run`` for other threads.

        live = LiveStatistics()
        threading.Thread(target=run, args=(...), kwargs={"statistics": live}).start()
        print(live.now().fps)

    Args:
        clock: monotonic seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began_s = clock()
        self._ended_s: float | None = None
        self._frames = self._unreadable = self._skipped = self._dropped = self._troubles = 0
        self._steps = 0
        self._done_s: deque[float] = deque(maxlen=WINDOW)
        self._latency_ms: deque[float] = deque(maxlen=WINDOW)
        self._age_ms: deque[float] = deque(maxlen=WINDOW)
        self._last: FrameRecord | None = None
        self._health: HealthRecord | None = None

    @property
    def steps(self) -> int:
        """Iterations of the loop so far, those without a new frame included: a sign of progress."""
        return self._steps

    @property
    def frames(self) -> int:
        """Frames classified so far."""
        return self._frames

    @property
    def dropped(self) -> int:
        """Frames that a live source replaced by newer ones before they were read."""
        return self._dropped

    def begin(self) -> None:
        """Starts the clock of the run."""
        with self._lock:
            self._began_s, self._ended_s = self._clock(), None

    def end(self) -> None:
        """Stops the clock of the run."""
        with self._lock:
            self._ended_s = self._clock()

    def step(self, dropped: int = 0) -> None:
        """Counts an iteration of the loop; ``dropped`` is the source's count."""
        self._steps += 1
        self._dropped = dropped

    def skip(self) -> None:
        """Counts a frame that was read but not classified."""
        with self._lock:
            self._skipped += 1

    def answer(self, record: FrameRecord) -> None:
        """Adds an answer."""
        with self._lock:
            self._latency_ms.append(
                record.preprocess_ms + record.inference_ms + record.postprocess_ms
            )
            if record.age_ms is not None:
                self._age_ms.append(record.age_ms)
            self._last = record

    def frame(self) -> None:
        """Counts a classified frame, with one answer or, with regions, several."""
        with self._lock:
            self._frames += 1
            self._done_s.append(self._clock())

    def trouble(self, record: HealthRecord, *, unreadable: bool = False) -> None:
        """Adds a health record; ``unreadable``: about a frame that was no picture."""
        with self._lock:
            self._troubles += 1
            self._unreadable += unreadable
            self._health = record

    def now(self) -> RunStatistics:
        """The statistics so far."""
        with self._lock:
            now_s = self._clock() if self._ended_s is None else self._ended_s
            return RunStatistics(
                frames=self._frames,
                unreadable=self._unreadable,
                seconds=now_s - self._began_s,
                dropped=self._dropped,
                skipped=self._skipped,
                fps=_rate(self._done_s, now_s),
                latency_ms=_percentiles(self._latency_ms),
                age_ms=_percentiles(self._age_ms),
                troubles=self._troubles,
                last=self._last,
                health=self._health,
            )


def _rate(done_s: Sequence[float], now_s: float) -> float:
    recent = [t for t in done_s if now_s - t <= _RATE_S]
    if len(recent) < 2:
        return 0.0
    # Up to now rather than to the last answer: the rate falls while none arrives.
    last_s = max(recent[-1], now_s - (recent[-1] - recent[0]) / (len(recent) - 1))
    span_s = last_s - recent[0]
    return (len(recent) - 1) / span_s if span_s > 0 else 0.0


def _percentiles(values: Sequence[float]) -> Percentiles | None:
    if not values:
        return None
    ordered = sorted(values)

    def rank(percent: int) -> float:
        return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

    return Percentiles(rank(50), rank(90), rank(99), ordered[-1])
