"""A supervised source in a child process: a driver that hangs or crashes only costs frames.

``SupervisedSource`` is a state machine that ``read()`` advances; there is no thread. It has a child that
delivers, a child that is opening, or no child and a time for the next attempt.
"""

from __future__ import annotations

import logging
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal, Self

from edge_sdk.errors import (
    EdgeClsError,
    NoFrameYetError,
    SourceLostError,
    SourceNotFoundError,
    UnreadableImageError,
)
from edge_sdk.machine.load import shortage
from edge_sdk.retry import BackOff, Silence
from edge_sdk.sources.capture_process import (
    CaptureChild,
    Ended,
    Failed,
    KilledChildren,
    Opened,
    Remark,
)
from edge_sdk.sources.picture_health import DamagedFrames, PictureHealth
from edge_sdk.sources.specification import SourceKind, SourceSpec
from edge_sdk.systems import require_linux
from edge_sdk.types import Frame, Health, HealthKind

_log = logging.getLogger("edgecls.sources")

_ANSWER_S = 0.4  # the port requires an answer within 0.5 s
_FILE_STALL_S = 60.0  # a large picture may take long to decode, and files have no deadline
_CLOSE_S = 0.7
_KEPT = 100
_SIZED = ("auto", "picamera", "webcam")  # other kinds have one size
_HEALTHY = ("frozen", "resized")  # ended on purpose, and reopened at once
_AUTO: dict[str, SourceKind] = {"PiCamera": "picamera", "Webcam": "webcam"}


class SupervisedSource:
    """Captures in a child process, returns its newest frame, and reopens the source as needed.

    Of files (``spec.live`` is false) every frame is delivered in order, one decoded ahead, and they are
    not reopened: there the child only isolates this process from a decoder's crash.

    Args:
        spec: the source.
        size: ``(width, height)`` of the model's input in pixels; frames are at least that large.
        stall_s: seconds without a frame after which a camera counts as stalled: its process is
            killed and restarted.
        give_up_s: seconds without a camera after which it is lost for good; None: never.
        frozen_s: seconds of identical frames after which the camera counts as frozen; None: no check.
        changed_s: seconds that a picture must be still before another one counts as changed;
            None: no check.
        open_s: timeout in seconds for opening, and for the first frame after it: a sensor starts, a
            stream waits for a key frame (up to ten seconds apart).
        max_pixels: limit on the pixels of pictures and frames; None: 64 megapixels.
        note: called with a sentence about the choice of a camera, if there was one.

    Attributes:
        name: the source's name for users, without credentials.
        reopenings: how often it was reopened and delivered frames again.

    Raises:
        UnsupportedSystemError: this is not Linux.
        SourceError: the first opening failed, with the class and message of ``open_source``; there
            is no retry.
    """

    def __init__(
        self,
        spec: SourceSpec,
        *,
        size: tuple[int, int] | None = None,
        stall_s: float = 2.5,
        give_up_s: float | None = 60.0,
        frozen_s: float | None = 5.0,
        changed_s: float | None = 20.0,
        open_s: float = 15.0,
        max_pixels: int | None = None,
        note: Callable[[str], None] = _log.info,
    ) -> None:
        require_linux(
            "a source in a child process",
            "Pictures and videos work here: edgecls run MODEL --source PATH; or run it on the device",
        )
        self.name = str(spec)
        self.reopenings = 0
        self._spec, self._size, self._note = spec, size, note
        self._max_pixels = max_pixels
        self._stall_s = stall_s if spec.live else max(stall_s, _FILE_STALL_S)
        self._open_s = open_s
        self._give_up_s = math.inf if give_up_s is None else give_up_s
        self._pictures = PictureHealth(frozen_s, changed_s) if spec.live else None
        self._damaged = DamagedFrames()
        self._back_off = BackOff()
        self._reading = threading.RLock()
        self._closed = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._idle = select.poll()
        self._idle.register(self._wake, select.POLLIN)
        self._child: CaptureChild | None = None
        self._killed = KilledChildren()
        self._health: deque[Health] = deque(maxlen=_KEPT)
        self._unreadable: deque[UnreadableImageError] = deque()  # of files: each one is raised
        self._final: EdgeClsError | None = None  # raised by every later read()
        self._ended = self._opened_once = False
        self._final_message: EdgeClsError | Literal["ended"] | None = None  # of the current child
        self._silence = Silence(open_s)
        self._down_s: float | None = None  # when the camera was lost
        self._why = ""  # reason of the last failure
        self._retry_s = 0.0
        self._reopened_frozen = False  # it was reopened for this frozen picture
        self._first_index = self._next_index = 0
        self._dropped = 0
        self._given: tuple[int, int] | None = None  # width and height of the newest frame
        try:
            self._open_first()
        except BaseException:
            self.close()
            raise

    @property
    def dropped(self) -> int:
        """Frames so far that a newer one replaced before they were read; always 0 for files."""
        child = self._child
        return self._dropped + (child.frames.dropped if child else 0)

    @property
    def damaged(self) -> int:
        """Damaged frames of a camera dropped so far; always 0 for files."""
        return self._damaged.count

    def take_health(self) -> Sequence[Health]:
        """The health records since the last call, oldest first: the last 100 at most."""
        taken, self._health = self._health, deque(maxlen=_KEPT)
        return tuple(taken)

    def read(self) -> Frame | None:
        """The newest frame; None after the end of a file, or after ``close()`` in any thread.

        ``pixels`` is a read-only view of shared memory, unchanged until the next ``read()``. ``index``
        continues over reopenings, dropped frames included.

        Raises:
            NoFrameYetError: none arrived within 0.4 s; the source may be about to be reopened.
            UnreadableImageError: one picture of a folder or a video is bad; the next call continues.
            SourceLostError: the source was missing for ``give_up_s``, or a file's decoder crashed.
        """
        with self._reading:
            until_s = time.monotonic() + _ANSWER_S
            while not self._closed:
                if self._final is not None:
                    raise self._final
                frame = None if self._ended else self._step(until_s)
                if frame is not None:
                    return frame
                if self._unreadable:
                    raise self._unreadable.popleft()
                if self._ended:
                    break
                if self._final is None and time.monotonic() >= until_s:
                    raise NoFrameYetError(
                        f"{self.name}: no frame for {_ANSWER_S:g} s; call read() again"
                    )
            return None

    def ask_for(self, size: tuple[int, int]) -> bool:
        """Requests frames that cover ``(width, height)`` pixels, see ``SizedSource``.

        If the current frames do not, a camera is reopened, with a short gap between frames.
        """
        with self._reading:
            asked, self._size = self._size, size
            if self._spec.kind not in _SIZED or self._given is None or self._closed:
                return False
            if _covers(self._given, size) or (asked is not None and _covers(asked, size)):
                return False  # enough pixels already, or as many as the camera has
            if self._child is not None:
                self._fail(
                    "resized", f"a model of {size[0]} x {size[1]} pixels needs larger frames"
                )
            return True

    def close(self) -> None:
        """Ends the child and releases all resources; a ``read()`` in another thread returns None."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._wake, 1)
        with self._reading:
            self._end_child(_CLOSE_S)
            os.close(self._wake)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open_first(self) -> None:
        self._start()
        while not (self._opened_once or self._final):
            self._step(time.monotonic() + _ANSWER_S)
        if self._final:
            raise self._final

    def _step(self, until_s: float) -> Frame | None:
        """Waits for one event until then and handles it; returns the newest frame, if any."""
        now_s = time.monotonic()
        child = self._child
        if child is None:
            self._step_without_child(now_s, until_s)
            return None
        if self._is_full:
            return None  # read() raises one of them first
        events = child.wait(min(until_s - now_s, self._silence.patience(now_s)))
        try:
            if events.readable:
                was_open = self._opened_once
                self._listen(child)
                if not was_open and self._opened_once:
                    return None  # the constructor waits only for this
            frame = child.frames.take(
                self._first_index
            )  # the last frame may precede a final message
        except SourceLostError as error:
            self._fail("lost", str(error))
            return None
        began_s, now_s = now_s, time.monotonic()
        if frame is not None:
            return self._deliver(frame, now_s)
        self._silence.listened(now_s - began_s)
        if self._final_message == "ended":
            self._ended = True
        elif self._final_message is not None:
            self._fail("lost", str(self._final_message).rstrip("."), self._final_message)
        elif events.closed and (ending := child.ending()) is not None:
            self._fail("lost", ending)
        elif self._silence.too_long(now_s):
            self._fail("stalled", f"no frame for {self._silence.seconds(now_s):.1f} s")
        return None

    def _step_without_child(self, now_s: float, until_s: float) -> None:
        assert self._down_s is not None
        give_up_s = self._down_s + self._give_up_s
        if now_s >= give_up_s:
            self._final = SourceLostError(
                f"{self.name}: missing for {now_s - self._down_s:.0f} s (last attempt: {self._why}); "
                "fix that, see edgecls doctor, and start again, or wait longer with another give_up_s "
                "(--give-up)"
            )
        elif now_s >= self._retry_s:
            self._start()
        else:
            self._idle.poll(1000 * max(0.0, min(until_s, self._retry_s, give_up_s) - now_s))

    def _start(self) -> None:
        self._silence = Silence(self._open_s)
        self._first_index, self._final_message = self._next_index, None
        try:
            self._killed.check()
            self._child = CaptureChild(self._spec, self._size, self._wake, self._max_pixels)
        except OSError as error:
            why = f"the capture process cannot be started ({error.strerror or error}"
            lacking = shortage(error)
            why += f": {lacking.what}; {lacking.fix})" if lacking else ")"
            if self._down_s is not None and self._why != why:  # the camera is no longer the cause
                self._health.append(Health("lost", f"{why}; retrying"))
            self._fail("lost", why)

    def _listen(self, child: CaptureChild) -> None:
        for message in child.messages():
            match message:
                case Opened(name, kind):
                    self.name = name
                    if (
                        self._spec.kind == "auto"
                    ):  # reopen the same kind, whatever is plugged in by then
                        self._spec = SourceSpec(_AUTO.get(kind, "auto"))
                    self._silence, self._opened_once = Silence(self._open_s), True
                case Remark(text) if not self._opened_once:
                    self._note(text)
                case UnreadableImageError() if not self._spec.live:
                    self._unreadable.append(message)
                case UnreadableImageError():
                    if health := self._damaged.see(message.reason, time.monotonic()):
                        self._health.append(health)
                case Failed(error):
                    self._final_message = error
                case Ended():
                    self._final_message = "ended"

    @property
    def _is_full(self) -> bool:
        """Whether so many unreadable files are pending that the child must wait."""
        return not self._spec.live and len(self._unreadable) >= _KEPT

    def _deliver(self, frame: Frame, now_s: float) -> Frame:
        self._silence = Silence(self._stall_s)
        self._next_index = frame.index + 1
        self._given = frame.size
        self._back_off.works(now_s)
        if self._down_s is not None:
            self.reopenings += 1
            away_s, self._down_s = now_s - self._down_s, None
            self._health.append(Health("reopened", f"frames again after {away_s:.1f} s"))
        if self._pictures is not None:
            for health in self._pictures.see(frame, now_s):
                self._add_health(health)
            self._reopened_frozen = self._reopened_frozen and not self._pictures.moving
        return frame

    def _add_health(self, health: Health) -> None:
        if health.what != "frozen":
            self._health.append(health)
        elif self._reopened_frozen:
            self._health.append(Health("frozen", f"reopened, and still {health.detail}"))
        else:
            self._reopened_frozen = True
            self._fail("frozen", health.detail)

    def _fail(self, what: HealthKind, why: str, error: EdgeClsError | None = None) -> None:
        """Ends a failed child, and schedules the next attempt or the final error."""
        self._end_child(0.0)
        self._why = why
        _log.info("%s: %s: %s", self.name, what, why)
        now_s = time.monotonic()
        if not self._opened_once:
            self._final = error or SourceNotFoundError(
                f"{self.name}: could not be opened ({why}); see the messages above, try another source"
            )
        elif not self._spec.live:
            self._final = SourceLostError(f"{self.name}: {why}; leave this file out")
        else:
            self._retry_s = now_s + (0.0 if what in _HEALTHY else self._back_off.failed())
            if self._down_s is None:
                self._down_s = now_s
                self._health.append(Health(what, f"{why}; reopening"))
                if self._pictures is not None:
                    self._pictures.restart()

    def _end_child(self, grace_s: float) -> None:
        child, self._child = self._child, None
        if child is not None:
            self._dropped += child.frames.dropped
            child.close(grace_s)
            self._killed.add(child)


def _covers(given: tuple[int, int], size: tuple[int, int]) -> bool:
    return given[0] >= size[0] and given[1] >= size[1]
