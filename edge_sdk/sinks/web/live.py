"""The live view of a running loop: the newest picture with its answer, without a queue."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np

from edge_sdk.errors import FrameError
from edge_sdk.loop.statistics import LiveStatistics
from edge_sdk.types import EventRecord, Frame, FrameRecord, HealthRecord, Record, public_json
from edge_sdk.vision.preprocess import Preprocessing, preprocess

_LOG = logging.getLogger("edgecls.web")

# Smooth enough to aim a camera; a higher rate costs too much CPU time.
MAX_FPS = 10.0
MAX_VIEWERS = 8
# Fits a phone's and half a desktop's screen; 30 to 100 kB at this quality.
_MAX_SIDE_PX = 960
_QUALITY = 80
# Without viewers one picture a second is kept, unencoded, for the next viewer.
_KEEP_S = 1.0
# A viewer without a request for this long has left.
_VIEWER_TIMEOUT_S = 3.0
_CLOSE_S = 0.3
_MAX_REGIONS = 16
_REMEMBERED = 6


class View(NamedTuple):
    """The reply to a viewer: JSON, and a JPEG, empty if there is no newer one."""

    state: bytes
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class _Shown:
    """An encoded picture and its record."""

    number: int
    record: FrameRecord
    jpeg: bytes


class _Channel:
    """The pictures of one region, or of the whole frame: one slot for input and one for output."""

    def __init__(self) -> None:
        self.kept: tuple[Frame, FrameRecord] | None = None
        self.shown: _Shown | None = None
        self.next_s = 0.0
        self.wanted_s = float("-inf")


class Live:
    """Passes pictures and state from the loop to viewers.

    The loop copies at most ``MAX_FPS`` pictures a second while there are viewers, else one; a thread
    encodes the newest; viewers wait for it. The loop never waits for a viewer.

    Args:
        statistics: of the loop.
        about: further JSON fields for every viewer.
        clock: monotonic seconds, for tests.
    """

    def __init__(
        self,
        statistics: LiveStatistics,
        about: dict[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._statistics = statistics
        self._about = about
        self._clock = clock
        lock = threading.Lock()
        self._changed = threading.Condition(lock)  # for viewers
        self._work = threading.Condition(lock)  # for the thread that encodes
        self._channels: dict[str, _Channel] = {}
        self._viewers: dict[str, float] = {}
        # Separate, so that frequent events do not displace problems.
        self._events: deque[tuple[int, Record]] = deque(maxlen=_REMEMBERED)
        self._troubles: deque[tuple[int, Record]] = deque(maxlen=_REMEMBERED)
        self._noted = 0
        self._answered_s = clock()
        self._summary: tuple[float, dict[str, Any]] = (float("-inf"), {})
        self._number = 0
        self._closed = False
        self._thread = threading.Thread(target=self._encode, name="edgecls-web-jpeg", daemon=True)
        self._thread.start()

    # Called by the loop

    def note(self, record: Record) -> None:
        """Remembers events and problems."""
        if isinstance(record, FrameRecord):
            self._answered_s = self._clock()
        elif isinstance(record, EventRecord | HealthRecord):
            with self._changed:
                self._noted += 1
                log = self._events if isinstance(record, EventRecord) else self._troubles
                log.append((self._noted, record))

    def see(self, frame: Frame, record: FrameRecord) -> None:
        """Keeps a copy of the frame if there are viewers, else one a second."""
        now_s = self._clock()
        region = record.region or ""
        with self._changed:
            channel = self._channels.get(region)
            if channel is None:
                if len(self._channels) >= _MAX_REGIONS:
                    return
                channel = self._channels[region] = _Channel()
            wanted = now_s - channel.wanted_s < _VIEWER_TIMEOUT_S
            if now_s < channel.next_s and not (wanted and channel.next_s - now_s > 1 / MAX_FPS):
                return
            period_s = 1 / MAX_FPS if wanted else _KEEP_S
            late_s = now_s - channel.next_s  # subtracted, so that delays do not accumulate
            channel.next_s = now_s + period_s - (late_s if 0 <= late_s < period_s else 0.0)
        copy = replace(frame, pixels=frame.pixels.copy())  # outside the lock
        with self._changed:
            channel.kept = (copy, record)
            if wanted:
                self._work.notify()

    def close(self) -> None:
        """Ends all waits: the run has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._work.notify()
        self._thread.join(_CLOSE_S)

    # Called by viewers' threads

    def admit(self, viewer: str) -> bool:
        """Registers a viewer by its own random ID; False: ``MAX_VIEWERS`` is reached."""
        now_s = self._clock()
        with self._changed:
            for name, seen_s in list(self._viewers.items()):
                if now_s - seen_s > _VIEWER_TIMEOUT_S:
                    del self._viewers[name]
            if viewer not in self._viewers and len(self._viewers) >= MAX_VIEWERS:
                return False
            self._viewers[viewer] = now_s
            return True

    def wait(self, region: str, after: int, timeout_s: float) -> View:
        """Waits for a picture of a region with a number other than ``after``.

        Args:
            region: "" for the whole frame; an unknown one selects the first.
            after: the number of the picture that the viewer has; 0: none.
            timeout_s: time limit; the view then has no picture.
        """
        end_s = self._clock() + timeout_s
        with self._changed:
            while True:
                channel = self._channels.get(region) or next(iter(self._channels.values()), None)
                if channel is not None:
                    channel.wanted_s = self._clock()
                    if channel.kept is not None:
                        self._work.notify()
                shown = None if channel is None else channel.shown
                if self._closed or (shown is not None and shown.number != after):
                    break
                left_s = end_s - self._clock()
                if left_s <= 0:
                    break
                self._changed.wait(min(left_s, _VIEWER_TIMEOUT_S / 3))
        return self._view(shown, after)

    def _view(self, shown: _Shown | None, after: int) -> View:
        fresh = shown is not None and shown.number != after
        record = None if shown is None else shown.record
        state = {
            **self._about,
            "picture": 0 if shown is None else shown.number,
            "fresh": fresh,
            "answer": None if record is None else public_json(record),
            **self._now(),
        }
        jpeg = shown.jpeg if shown is not None and fresh else b""
        return View(json.dumps(state, allow_nan=False).encode(), jpeg)

    def _now(self) -> dict[str, Any]:
        """The state that is the same for all viewers; computed at most ten times a second."""
        now_s = self._clock()
        with self._changed:
            made_s, summary = self._summary
            if now_s - made_s < 1 / MAX_FPS and summary["ended"] == self._closed:
                return summary
            noted = sorted((*self._events, *self._troubles), key=lambda one: -one[0])
            regions, ended = list(self._channels), self._closed
        now = self._statistics.now()
        summary = {
            "regions": regions,
            "happened": [public_json(record) for _, record in noted],
            "ended": ended,
            "idle_s": round(now_s - self._answered_s, 1),
            "statistics": {
                "frames": now.frames,
                "fps": round(now.fps, 2),
                "seconds": round(now.seconds, 1),
                "dropped": now.dropped,
                "skipped": now.skipped,
                "unreadable": now.unreadable,
                "troubles": now.troubles,
                "latency_ms": None if now.latency_ms is None else now.latency_ms._asdict(),
                "age_ms": None if now.age_ms is None else now.age_ms._asdict(),
            },
        }
        with self._changed:
            self._summary = (now_s, summary)
        return summary

    # Called by the encoding thread

    def _encode(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not (wanted := self._wanted()):
                    self._work.wait()
                if self._closed:
                    return
                taken = [(channel, channel.kept) for channel in wanted]
                for channel in wanted:
                    channel.kept = None
            for channel, kept in taken:
                assert kept is not None  # by _wanted
                frame, record = kept
                try:
                    jpeg = encode(frame)
                except (FrameError, cv2.error):
                    continue  # the next frame may be valid
                except Exception:  # noqa: BLE001
                    _LOG.exception("a picture could not be encoded")  # a bug; the page continues
                    continue
                with self._changed:
                    self._number += 1
                    channel.shown = _Shown(self._number, record, jpeg)
                    self._changed.notify_all()

    def _wanted(self) -> Sequence[_Channel]:
        now_s = self._clock()
        return [
            channel
            for channel in self._channels.values()
            if channel.kept is not None and now_s - channel.wanted_s < _VIEWER_TIMEOUT_S
        ]


def encode(frame: Frame, max_side_px: int = _MAX_SIDE_PX) -> bytes:
    """A frame as JPEG, scaled down if a side is longer than ``max_side_px``.

    Raises:
        FrameError: the frame is not a picture.
    """
    if frame.pixels.ndim < 2 or not frame.pixels.size:
        raise FrameError(f"a frame cannot have pixels of shape {frame.pixels.shape}")
    height, width = frame.pixels.shape[:2]
    if frame.format == "i420":
        height = height * 2 // 3
    scale = min(1.0, max_side_px / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    channels = 1 if frame.format == "gray" else 3
    pixels = preprocess(frame, Preprocessing(*size, channels, "squash"))
    stored = np.ascontiguousarray(pixels[..., ::-1])  # OpenCV's encoder takes blue first
    _, data = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
