"""A capture process as its parent sees it: started, listened to, killed, never waited for long."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from edge_sdk import errors
from edge_sdk.errors import EdgeClsError, SourceLostError, UnreadableImageError
from edge_sdk.sources.capture_process import LENGTH, STOP
from edge_sdk.sources.shared_frames import Descriptors, FrameReader
from edge_sdk.sources.specification import SourceSpec

_MODULE = "edge_sdk.sources.capture_process"
# Smaller, and quiet beside the classifier: numpy's and OpenCV's pools of threads have nothing to do
# in a process that copies pictures. What the user has set stays.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    "MALLOC_ARENA_MAX": "2",
}
_READ_BYTES = 65536
# Longer than any line that the child writes, its texts being bounded; and what is read at a time.
_LINE_BYTES_MAX, _READS_MAX = 65536, 16
_REAP_S = 0.2
# One more for every attempt would fill the machine within days.
_LEAVING_MAX = 5


class Events(NamedTuple):
    """What a ``wait()`` has brought, besides frames.

    Attributes:
        spoke: there are messages, or the other side of their pipe was closed.
        hung_up: it was closed: no message will follow those that are there.
    """

    spoke: bool
    hung_up: bool


_NOTHING = Events(False, False)


class Opened(NamedTuple):
    """The source is open: its name, and the class of it."""

    name: str
    kind: str


class Said(NamedTuple):
    """A sentence for a person."""

    text: str


class Failed(NamedTuple):
    """The source has ended with an error; nothing follows."""

    error: EdgeClsError


class Ended(NamedTuple):
    """The source has no more frames; nothing follows."""


Message = Opened | Said | UnreadableImageError | Failed | Ended


class CaptureChild:
    """One run of the child, from its start to its end.

    Args:
        spec: what it opens.
        size: of the model's input, as for ``open_source``.
        wake: an eventfd that ends a ``wait()`` when another thread raises it.
        max_pixels: as for ``open_source``.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self,
        spec: SourceSpec,
        size: tuple[int, int] | None,
        wake: int,
        max_pixels: int | None = None,
    ) -> None:
        self.started_s = time.monotonic()
        with contextlib.ExitStack() as undo:
            self._descriptors = Descriptors.new()
            undo.callback(self._descriptors.close)
            self._listen, speak = os.pipe()
            undo.callback(os.close, self._listen)
            self._text = b""
            try:
                self._process = self._start(speak)
            finally:
                os.close(speak)
            undo.callback(self._kill)
            self._events = select.poll()
            self._events.register(self._descriptors.published, select.POLLIN)
            self._events.register(self._listen, select.POLLIN)
            self._events.register(wake, select.POLLIN)
            os.set_blocking(self._listen, False)
            self.frames = FrameReader(self._descriptors)
            order = pickle.dumps((spec, size, max_pixels))
            with contextlib.suppress(
                BrokenPipeError
            ):  # it is dead already, which is found out soon
                os.write(self._lifeline, LENGTH.pack(len(order)) + order)
            undo.pop_all()

    def _start(self, speak: int) -> subprocess.Popen[bytes]:
        passed = (*self._descriptors, speak)
        words = [*map(str, passed), str(os.getpid())]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE, *words],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=_errors(),  # what a driver prints does not belong between the results
            pass_fds=passed,
            start_new_session=True,  # Ctrl-C in a terminal is for the parent
            env={
                **_ENVIRONMENT,
                **os.environ,
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            },
        )

    @property
    def _lifeline(self) -> int:
        assert self._process.stdin is not None
        return self._process.stdin.fileno()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def wait(self, seconds: float) -> Events:
        """Sleeps until there is a frame or a message, or the child has ended, or the time is over."""
        for descriptor, what in self._events.poll(max(0.0, seconds) * 1000):
            if descriptor == self._listen:
                return Events(True, bool(what & select.POLLHUP))
        return _NOTHING

    def messages(self) -> Sequence[Message]:
        """What the child has said since the last call.

        Raises:
            SourceLostError: something that the child does not say: a driver has written into its pipe.
        """
        for _ in range(_READS_MAX):
            try:
                piece = os.read(self._listen, _READ_BYTES)
            except BlockingIOError:
                break
            if not piece:
                break
            self._text += piece
        *lines, self._text = self._text.split(b"\n")
        if len(self._text) > _LINE_BYTES_MAX:
            raise _rubbish(self._text)
        return [read_message(line) for line in lines]

    def ending(self) -> str | None:
        """How the process ended, in words; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        if code >= 0:
            return f"the capture process ended with status {code}"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"the capture process died of {name} ({signal.strsignal(-code)})"
        return f"the capture process died of signal {-code}"

    def close(self, grace_s: float) -> None:
        """Asks the child to close its source, kills it where it has not within ``grace_s``.

        A process that the kernel cannot end yet, since its driver does not let go, is left to end
        when it does.
        """
        if grace_s > 0:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(STOP)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        self._kill()
        os.close(self._listen)
        self._descriptors.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_S)
        assert self._process.stdin is not None
        self._process.stdin.close()

    def gone(self) -> bool:
        """The process has ended and been collected."""
        return self._process.poll() is not None


class Leaving:
    """Children that were killed; a driver may hold on to one for long, or for good."""

    def __init__(self) -> None:
        self._children: list[CaptureChild] = []

    def add(self, child: CaptureChild) -> None:
        """Sees to it that a child is collected, and those before it."""
        # What is left at the end is looked after by subprocess.
        self._children = [other for other in (*self._children, child) if not other.gone()]

    def check(self) -> None:
        """Makes sure that there is room for one more.

        Raises:
            OSError: too many are held.
        """
        self._children = [child for child in self._children if not child.gone()]
        if len(self._children) >= _LEAVING_MAX:
            raise BlockingIOError(
                f"{len(self._children)} killed before it are still held by their driver"
            )


def read_message(line: bytes) -> Message:
    """One line that a child wrote, see ``capture_process``; nothing in it is taken on trust.

    Raises:
        SourceLostError: it is none.
    """
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):  # no UTF-8, no JSON
        raise _rubbish(line) from None
    match content:
        case {"opened": str(name), "kind": str(kind)}:
            return Opened(name, kind)
        case {"say": str(text)}:
            return Said(text)
        case {"unreadable": [str(name), str(reason)]}:
            return UnreadableImageError(name, reason)
        case {"failed": [str(name), *arguments]} if all(isinstance(a, str) for a in arguments):
            error = _rebuild_error(name, arguments)
            if error is not None:
                return Failed(error)
        case {"ended": True}:
            return Ended()
    raise _rubbish(line)


def _rebuild_error(name: str, arguments: list[str]) -> EdgeClsError | None:
    """The error that ended a child, from its class's name and its arguments."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, EdgeClsError)):
        return None
    try:
        return kind(*arguments)
    except TypeError:  # not as many as it takes
        return None


def _rubbish(line: bytes) -> SourceLostError:
    return SourceLostError(
        f"the capture process said {line[:40]!r}, which is no message of it: its driver has written "
        "where it should not; update the camera's driver"
    )


def _errors() -> int:
    try:
        os.fstat(2)
    except OSError:  # a service without a standard error
        return subprocess.DEVNULL
    return 2
