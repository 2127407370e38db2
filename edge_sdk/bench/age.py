"""How old a decision is: from the sensor's time to the answer, the camera's own queue included."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

from edge_sdk.bench.parts import Age
from edge_sdk.classifier import Classifier
from edge_sdk.errors import FrameError, NoFrameYetError, UnreadableImageError
from edge_sdk.ports import FrameSource, LiveSource
from edge_sdk.types import Frame

# What waits in a camera's queue when it is opened is older than what comes later.
_SETTLE_FRAMES = 5
_NO_TIMES = "this camera gives no timestamps, so ages are not known"


def measure_age(
    source: FrameSource,
    classifier: Classifier,
    *,
    camera: str,
    seconds: float,
    between: Callable[[], object] = lambda: None,
) -> Age:
    """Classifies a camera's frames as ``edgecls run`` does, and tells how old each answer was.

    A duplicate has the timestamp of the frame before; where there are no timestamps, its pixels.

    Args:
        source: an open camera; stays open.
        classifier: what classifies; stays open.
        camera: what to call the source in the report.
        seconds: how long, after the first few frames, which do not count.
        between: called after every frame.

    Raises:
        SourceError: the camera is lost.
        EngineError: an inference failed.
    """
    tally = _Tally(source)
    until_s, began_s = float("inf"), 0.0
    seen = 0
    asked_s = time.monotonic()
    while time.monotonic() < until_s:
        began_ns = time.monotonic_ns()
        try:
            frame = source.read()
            if frame is None:
                break
            captured_ns = time.monotonic_ns()
            classifier.classify(frame)
            answered_ns = time.monotonic_ns()
        except NoFrameYetError:
            if seen < _SETTLE_FRAMES and time.monotonic() - asked_s > seconds:
                break
            continue
        except (UnreadableImageError, FrameError):
            tally.unreadable += 1
            continue
        seen += 1
        if seen <= _SETTLE_FRAMES:
            tally.begin(frame)
            began_s = time.monotonic()
            until_s = began_s + seconds if seen == _SETTLE_FRAMES else until_s
        else:
            tally.add(frame, (captured_ns - began_ns) / 1e6, answered_ns)
        between()
    return tally.result(camera, time.monotonic() - began_s if seen else 0.0)


class _Tally:
    """Counts; drops are counted from ``begin`` on."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._dropped_before = self._dropped()
        self._age_ms: list[float] = []
        self._capture_ms: list[float] = []
        self._last: tuple[int, int | None] | None = None
        self._duplicates = 0
        self.unreadable = 0

    def begin(self, frame: Frame) -> None:
        self._dropped_before = self._dropped()
        self._last = _mark(frame)

    def add(self, frame: Frame, capture_ms: float, answered_ns: int) -> None:
        mark = _mark(frame)
        self._duplicates += mark == self._last
        self._last = mark
        self._capture_ms.append(capture_ms)
        if frame.timestamp_ns is not None:
            self._age_ms.append((answered_ns - frame.timestamp_ns) / 1e6)

    def result(self, camera: str, seconds: float) -> Age:
        frames = len(self._capture_ms)
        return Age(
            camera=camera,
            frames=frames,
            seconds=seconds,
            dropped=self._dropped() - self._dropped_before,
            duplicates=self._duplicates,
            unreadable=self.unreadable,
            age_ms=tuple(self._age_ms),
            capture_ms=tuple(self._capture_ms),
            note=_NO_TIMES if frames and not self._age_ms else "",
        )

    def _dropped(self) -> int:
        return self._source.dropped if isinstance(self._source, LiveSource) else 0


def _mark(frame: Frame) -> tuple[int, int | None]:
    """Two frames with the same mark are the same."""
    if frame.timestamp_ns is not None:
        return 0, frame.timestamp_ns
    return zlib.crc32(frame.pixels.tobytes()), None
