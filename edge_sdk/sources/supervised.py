"""A source in a child process, watched: a driver that hangs or crashes costs frames, nothing else.

``SupervisedSource`` is a state machine that ``read()`` moves on; there is no thread. It has a child
that delivers, a child that is opening, or none and a time for the next attempt.
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
from edge_sdk.sources.capture_process import CaptureChild, Ended, Failed, Leaving, Opened, Remark
from edge_sdk.sources.picture_health import DamagedFrames, PictureHealth
from edge_sdk.sources.specification import SourceKind, SourceSpec
from edge_sdk.systems import require_linux
from edge_sdk.types import Frame, Health, HealthKind

_log = logging.getLogger("edgecls.sources")

_ANSWER_S = 0.4  # the port promises one within half a second
_FILE_STALL_S = 60.0  # a large picture may take long to decode; nobody has to be quick there
_CLOSE_S = 0.7
_KEPT = 100
_SIZED = ("auto", "picamera", "webcam")  # the others have one size
_HEALTHY = ("frozen", "resized")  # ended by us, and opened again at once
_AUTO: dict[str, SourceKind] = {"PiCamera": "picamera", "Webcam": "webcam"}


class SupervisedSource:
    """Captures in a child process, hands out its newest frame, and opens the source anew as needed.

    Files (``spec.live`` is false) are delivered whole and in order instead, one picture decoded
    ahead, and not opened again: there the child only keeps a decoder's crash out of this process.

    Args:
        spec: what to open.
        size: ``(width, height)`` of the model's input in pixels; a camera gives at least that.
        stall_s: without a frame for so long, a camera counts as hanging: its process is killed and
            started anew.
        give_up_s: seconds without a camera after which it is lost for good; None: never.
        frozen_s: seconds of the very same picture that make it frozen; None: it may stand still.
        changed_s: seconds that a picture must stand still before another one counts as changed;
            None: it may change.
        open_s: seconds that opening may take, and the first frame after it: a sensor starts, a
            stream waits for a whole picture (key frames are up to ten seconds apart).
        max_pixels: larger pictures and frames are refused; None: those of more than 64 megapixels.
        say: is told in a sentence what was found, where something was to be chosen.

    Attributes:
        name: what a person would call the source, without credentials.
        reopenings: how often it was opened anew and delivered again.

    Raises:
        UnsupportedSystemError: this is not Linux.
        SourceError: the first opening failed, with the class and words of ``open_source``; nothing
            is tried again.
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
        say: Callable[[str], None] = _log.info,
    ) -> None:
        require_linux(
            "a source in a process of its own",
            "Pictures and videos work here: edgecls run MODEL --source PATH; or run it on the device",
        )
        self.name = str(spec)
        self.reopenings = 0
        self._spec, self._size, self._say = spec, size, say
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
        self._leaving = Leaving()
        self._health: deque[Health] = deque(maxlen=_KEPT)
        self._unreadable: deque[UnreadableImageError] = deque()  # of files, each one is reported
        self._final: EdgeClsError | None = None  # what every read() raises from now on
        self._ended = self._opened_once = False
        self._last_word: EdgeClsError | Literal["ended"] | None = None  # of the child there is
        self._silence = Silence(open_s)
        self._down_s: float | None = None  # since when there is no camera
        self._why = ""  # as of the last failure
        self._retry_s = 0.0
        self._thawed = False  # opening it anew was tried for this frozen picture
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
        """Frames so far that nobody read because a newer one had come; always 0 for files."""
        child = self._child
        return self._dropped + (child.frames.dropped if child else 0)

    @property
    def damaged(self) -> int:
        """Frames of a camera so far that were damaged, and dropped; always 0 for files."""
        return self._damaged.count

    def take_health(self) -> Sequence[Health]:
        """What has happened since the last call, oldest first: the last 100 at most."""
        taken, self._health = self._health, deque(maxlen=_KEPT)
        return tuple(taken)

    def read(self) -> Frame | None:
        """The newest frame; None after the end of a file, or after ``close()`` in any thread.

        ``pixels`` are a view of shared memory that cannot be written to, as it is until the next
        ``read()``. ``index`` counts on over reopenings, dropped frames included.

        Raises:
            NoFrameYetError: none came within 0.4 s; the source may be about to be opened anew.
            UnreadableImageError: one picture of a folder or a video is bad; the next call goes on.
            SourceLostError: the source was away for ``give_up_s``, or a file's decoder crashed.
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
                    raise NoFrameYetError(f"{self.name}: no frame for {_ANSWER_S:g} s; ask again")
            return None

    def ask_for(self, size: tuple[int, int]) -> bool:
        """Sees to it that frames cover ``(width, height)`` pixels, see ``SizedSource``.

        Where the frames so far do not, a camera is opened again: a moment passes without frames.
        """
        with self._reading:
            asked, self._size = self._size, size
            if self._spec.kind not in _SIZED or self._given is None or self._closed:
                return False
            if _covers(self._given, size) or (asked is not None and _covers(asked, size)):
                return False  # there are enough pixels, or as many as the camera can give
            if self._child is not None:
                self._fail(
                    "resized", f"a model of {size[0]} x {size[1]} pixels needs larger pictures"
                )
            return True

    def close(self) -> None:
        """Ends the child and gives back everything; a ``read()`` in another thread returns None."""
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
        """Moves on by one event, waiting for it until then; the newest frame if there is one."""
        now_s = time.monotonic()
        child = self._child
        if child is None:
            self._step_without_child(now_s, until_s)
            return None
        if self._is_full:
            return None  # read() raises one of them first
        events = child.wait(min(until_s - now_s, self._silence.patience(now_s)))
        try:
            if events.spoke:
                was_open = self._opened_once
                self._listen(child)
                if not was_open and self._opened_once:
                    return None  # the constructor waits for no more
            frame = child.frames.take(self._first_index)  # the last may come before a last word
        except SourceLostError as error:
            self._fail("lost", str(error))
            return None
        began_s, now_s = now_s, time.monotonic()
        if frame is not None:
            return self._deliver(frame, now_s)
        self._silence.listened(now_s - began_s)
        if self._last_word == "ended":
            self._ended = True
        elif self._last_word is not None:
            self._fail("lost", str(self._last_word).rstrip("."), self._last_word)
        elif events.hung_up and (ending := child.ending()) is not None:
            self._fail("lost", ending)
        elif self._silence.too_long(now_s):
            self._fail("stalled", f"no frame for {self._silence.seconds(now_s):.1f} s")
        return None

    def _step_without_child(self, now_s: float, until_s: float) -> None:
        assert self._down_s is not None
        give_up_s = self._down_s + self._give_up_s
        if now_s >= give_up_s:
            self._final = SourceLostError(
                f"{self.name}: gone for {now_s - self._down_s:.0f} s (the last attempt: {self._why}); "
                "mend that, see edgecls doctor, and start again, or wait longer with another give_up_s "
                "(--give-up)"
            )
        elif now_s >= self._retry_s:
            self._start()
        else:
            self._idle.poll(1000 * max(0.0, min(until_s, self._retry_s, give_up_s) - now_s))

    def _start(self) -> None:
        self._silence = Silence(self._open_s)
        self._first_index, self._last_word = self._next_index, None
        try:
            self._leaving.check()
            self._child = CaptureChild(self._spec, self._size, self._wake, self._max_pixels)
        except OSError as error:
            why = f"the capture process cannot be started ({error.strerror or error}"
            lacking = shortage(error)
            why += f": {lacking.what}; {lacking.fix})" if lacking else ")"
            if self._down_s is not None and self._why != why:  # the camera is not to blame any more
                self._health.append(Health("lost", f"{why}; trying again"))
            self._fail("lost", why)

    def _listen(self, child: CaptureChild) -> None:
        for message in child.messages():
            match message:
                case Opened(name, kind):
                    self.name = name
                    if self._spec.kind == "auto":  # the same kind again, whatever is plugged in
                        self._spec = SourceSpec(_AUTO.get(kind, "auto"))
                    self._silence, self._opened_once = Silence(self._open_s), True
                case Remark(text) if not self._opened_once:
                    self._say(text)
                case UnreadableImageError() if not self._spec.live:
                    self._unreadable.append(message)
                case UnreadableImageError():
                    if health := self._damaged.see(message.reason, time.monotonic()):
                        self._health.append(health)
                case Failed(error):
                    self._last_word = error
                case Ended():
                    self._last_word = "ended"

    @property
    def _is_full(self) -> bool:
        """So many bad files are still to be reported that the child waits."""
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
                self._note(health)
            self._thawed = self._thawed and not self._pictures.moving
        return frame

    def _note(self, health: Health) -> None:
        if health.what != "frozen":
            self._health.append(health)
        elif self._thawed:
            self._health.append(Health("frozen", f"opened anew, and still {health.detail}"))
        else:
            self._thawed = True
            self._fail("frozen", health.detail)

    def _fail(self, what: HealthKind, why: str, error: EdgeClsError | None = None) -> None:
        """The child is of no use any more: ends it, and sees to the next, or to the end."""
        self._end_child(0.0)
        self._why = why
        _log.info("%s: %s: %s", self.name, what, why)
        now_s = time.monotonic()
        if not self._opened_once:
            self._final = error or SourceNotFoundError(
                f"{self.name}: could not be opened ({why}); see what was printed before, and try "
                "another source"
            )
        elif not self._spec.live:
            self._final = SourceLostError(f"{self.name}: {why}; leave this file out")
        else:
            self._retry_s = now_s + (0.0 if what in _HEALTHY else self._back_off.failed())
            if self._down_s is None:
                self._down_s = now_s
                self._health.append(Health(what, f"{why}; opening it anew"))
                if self._pictures is not None:
                    self._pictures.restart()

    def _end_child(self, grace_s: float) -> None:
        child, self._child = self._child, None
        if child is not None:
            self._dropped += child.frames.dropped
            child.close(grace_s)
            self._leaving.add(child)


def _covers(given: tuple[int, int], size: tuple[int, int]) -> bool:
    return given[0] >= size[0] and given[1] >= size[1]
