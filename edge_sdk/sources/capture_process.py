"""The capture process: the parent's side, and the child.

It is started as a separate program, never forked: ``CaptureChild`` is the parent's side. A driver may
hang or crash in it; the parent only misses frames. The child reports in lines of JSON through a pipe,
each written at once:

``{"opened": NAME, "kind": KIND}`` · ``{"note": TEXT}`` · ``{"unreadable": [NAME, REASON]}`` ·
``{"failed": [CLASS, ARGUMENT, ...]}`` · ``{"ended": true}``
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from edge_sdk import errors
from edge_sdk.errors import EdgeClsError, SourceLostError, UnreadableImageError
from edge_sdk.sources.shared_frames import Descriptors, FrameReader
from edge_sdk.sources.specification import SourceSpec
from edge_sdk.terminal import guarded

if TYPE_CHECKING:
    from edge_sdk.ports import FrameSource
    from edge_sdk.sources.specification import SourceSpec

_MODULE = "edge_sdk.sources.capture_process"
# No thread pools of numpy and OpenCV: the process only copies pictures, and leaves the cores to the
# classifier. Variables that the user has set are kept.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    "MALLOC_ARENA_MAX": "2",
}
_READ_BYTES = 65536
# Longer than any line of the child, whose texts are bounded; and the size of a read.
_LINE_BYTES_MAX, _READS_MAX = 65536, 16
_REAP_S = 0.2
# Without a limit, one more per attempt would use up all processes within days.
_LEAVING_MAX = 5


class Events(NamedTuple):
    """The result of a ``wait()``, besides frames.

    Attributes:
        readable: there are messages, or the child's end of the pipe was closed.
        closed: it was closed: no further messages will arrive.
    """

    readable: bool
    closed: bool


_NOTHING = Events(False, False)


class Opened(NamedTuple):
    """The source is open: its name and its class."""

    name: str
    kind: str


class Remark(NamedTuple):
    """A sentence for the user."""

    text: str


class Failed(NamedTuple):
    """The source has ended with an error; nothing follows."""

    error: EdgeClsError


class Ended(NamedTuple):
    """The source has no more frames; nothing follows."""


Message = Opened | Remark | UnreadableImageError | Failed | Ended


class CaptureChild:
    """One run of the child, from its start to its end.

    Args:
        spec: what it opens.
        size: of the model's input, as for ``open_source``.
        wake: an eventfd with which another thread ends a ``wait()``.
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
            ):  # it has ended already; the next wait() notices
                os.write(self._lifeline, LENGTH.pack(len(order)) + order)
            undo.pop_all()

    def _start(self, speak: int) -> subprocess.Popen[bytes]:
        passed = (*self._descriptors, speak)
        words = [*map(str, passed), str(os.getpid())]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE, *words],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=_errors(),  # keeps a driver's output out of the results
            pass_fds=passed,
            start_new_session=True,  # Ctrl-C in a terminal reaches only the parent
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
        """The process ID."""
        return self._process.pid

    def wait(self, seconds: float) -> Events:
        """Waits for a frame, a message, the end of the child, or the timeout."""
        for descriptor, what in self._events.poll(max(0.0, seconds) * 1000):
            if descriptor == self._listen:
                return Events(True, bool(what & select.POLLHUP))
        return _NOTHING

    def messages(self) -> Sequence[Message]:
        """The child's messages since the last call.

        Raises:
            SourceLostError: an invalid message: a driver has written into the pipe.
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
            raise _invalid_message(self._text)
        return [read_message(line) for line in lines]

    def ending(self) -> str | None:
        """How the process ended, as a sentence; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        if code >= 0:
            return f"the capture process ended with status {code}"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"the capture process was killed by {name} ({signal.strsignal(-code)})"
        return f"the capture process was killed by signal {-code}"

    def close(self, grace_s: float) -> None:
        """Requests the child to close its source, and kills it after ``grace_s``.

        A process that the kernel cannot end yet, because it is blocked in a driver, ends once the driver
        returns.
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
        """Whether the process has ended and was reaped."""
        return self._process.poll() is not None


class KilledChildren:
    """Killed children that are not reaped yet; a driver may block one for long, or for good."""

    def __init__(self) -> None:
        self._children: list[CaptureChild] = []

    def add(self, child: CaptureChild) -> None:
        """Adds a child, and reaps those that have ended."""
        # subprocess reaps those that are left at the end.
        self._children = [other for other in (*self._children, child) if not other.gone()]

    def check(self) -> None:
        """Checks that one more child may be started.

        Raises:
            OSError: too many are blocked.
        """
        self._children = [child for child in self._children if not child.gone()]
        if len(self._children) >= _LEAVING_MAX:
            raise BlockingIOError(
                f"{len(self._children)} killed ones are still blocked in their driver"
            )


def read_message(line: bytes) -> Message:
    """Parses one line of a child, see ``capture_process``; everything in it is checked.

    Raises:
        SourceLostError: it is no valid message.
    """
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):  # no UTF-8, no JSON
        raise _invalid_message(line) from None
    match content:
        case {"opened": str(name), "kind": str(kind)}:
            return Opened(name, kind)
        case {"note": str(text)}:
            return Remark(text)
        case {"unreadable": [str(name), str(reason)]}:
            return UnreadableImageError(name, reason)
        case {"failed": [str(name), *arguments]} if all(isinstance(a, str) for a in arguments):
            error = _rebuild_error(name, arguments)
            if error is not None:
                return Failed(error)
        case {"ended": True}:
            return Ended()
    raise _invalid_message(line)


def _rebuild_error(name: str, arguments: list[str]) -> EdgeClsError | None:
    """The error that ended a child, from its class name and its arguments."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, EdgeClsError)):
        return None
    try:
        return kind(*arguments)
    except TypeError:  # a wrong number of arguments
        return None


def _invalid_message(line: bytes) -> SourceLostError:
    return SourceLostError(
        f"the capture process sent {line[:40]!r}, which is no valid message: its driver has written "
        "into the pipe; update the camera's driver"
    )


def _errors() -> int:
    try:
        os.fstat(2)
    except OSError:  # a service without a standard error
        return subprocess.DEVNULL
    return 2


LENGTH = struct.Struct("=I")
STOP = getattr(signal, "SIGUSR1", signal.SIGTERM)  # Windows imports this module too
_LIFELINE = 0
_TEXT_MAX = 3000
# A non-blocking write to a pipe is atomic up to 4096 bytes (PIPE_BUF on Linux); JSON needs up to six
# bytes for a character.
_REMARK_MAX = 600

_log = logging.getLogger("edgecls.sources")


class _Stop(BaseException):
    """The parent requests the end; raised wherever the child is."""


def main() -> NoReturn:
    """Captures until the source ends or is lost, or the parent requests the end or ends."""
    with guarded():  # a driver's message may contain control characters
        _main()


def _main() -> NoReturn:
    for ours_to_ignore in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ours_to_ignore, signal.SIG_IGN)  # the parent decides
    signal.signal(STOP, _stop)
    code = 1
    try:
        faulthandler.enable()
        *numbers, messages, parent = (int(word) for word in sys.argv[1:])
        for descriptor in (*numbers, messages):
            os.set_inheritable(descriptor, False)
        spec, size, max_pixels = _read_order()
        _die_with_parent()
        with _limited_memory(max_pixels):
            code = _capture(spec, size, max_pixels, numbers, _Messages(messages), parent)
    except _Stop:
        code = 0
    except BaseException:  # noqa: BLE001  # a bug: the traceback is printed, and the parent gets the status
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # at once: threads of drivers may hang


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(STOP, signal.SIG_IGN)
    raise _Stop


def _read_order() -> tuple[SourceSpec, tuple[int, int] | None, int | None]:
    (length,) = LENGTH.unpack(_read_exactly(LENGTH.size))
    order: tuple[SourceSpec, tuple[int, int] | None, int | None] = pickle.loads(  # noqa: S301  # from our parent
        _read_exactly(length)
    )
    return order


def _read_exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(_LIFELINE, size - len(data))
        if not piece:
            raise _Stop
        data += piece
    return data


def _die_with_parent() -> None:
    """Makes the kernel kill this process when the other end of the lifeline is closed.

    ``SIGIO`` ends a process that does not handle it, even one that hangs in a driver and holds the GIL.
    ``prctl(PR_SET_PDEATHSIG)`` would do so when the *thread* that started the child ends.
    """
    import fcntl

    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(_LIFELINE, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(_LIFELINE, fcntl.F_GETFL)
    fcntl.fcntl(_LIFELINE, fcntl.F_SETFL, flags | os.O_ASYNC)
    already = select.poll()
    already.register(_LIFELINE, select.POLLIN)
    if already.poll(0):
        raise _Stop


class _Messages:
    """Messages to the parent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, *, wait: bool = False, **message: Any) -> None:
        """Writes one line; without ``wait`` it is dropped if the pipe is full."""
        os.set_blocking(self._descriptor, wait)
        with contextlib.suppress(BlockingIOError):
            os.write(self._descriptor, json.dumps(message).encode() + b"\n")

    def note(self, text: str) -> None:
        """Sends a sentence for the user."""
        self.send(note=text[:_REMARK_MAX])


def _limited_memory(max_pixels: int | None) -> contextlib.AbstractContextManager[None]:
    """Limits the memory of this process, whatever a driver or a stream delivers.

    The size of a stream's frames is known once FFmpeg has decoded the first; this limit holds before.
    """
    from edge_sdk.machine.board import System
    from edge_sdk.machine.load import limited_memory, usable_memory_bytes
    from edge_sdk.vision.limits import MAX_PIXELS, capture_bytes

    system = System()
    most = capture_bytes(max_pixels or MAX_PIXELS, usable_memory_bytes(system))
    return limited_memory(system, most)


def _capture(
    spec: SourceSpec,
    size: tuple[int, int] | None,
    max_pixels: int | None,
    numbers: list[int],
    messages: _Messages,
    parent: int,
) -> int:
    from edge_sdk.errors import EdgeClsError
    from edge_sdk.sources.shared_frames import Descriptors, FrameWriter
    from edge_sdk.sources.specification import open_source

    writer = FrameWriter(Descriptors(*numbers))
    source: FrameSource | None = None
    try:
        source = open_source(spec, size, max_pixels=max_pixels, note=messages.note)
        name = str(getattr(source, "name", spec))
        messages.send(wait=True, opened=name[:_TEXT_MAX], kind=type(source).__name__)
        _pump(source, writer, messages, lossless=not spec.live, parent=parent)
        messages.send(wait=True, ended=True)
    except MemoryError:
        reason = "its frames exceed the memory limit of the capture process; choose a smaller size"
        messages.send(wait=True, failed=["SourceLostError", f"{spec}: {reason}"])
        return 1
    except EdgeClsError as error:
        texts = [str(argument)[: _TEXT_MAX // len(error.args)] for argument in error.args]
        messages.send(wait=True, failed=[type(error).__name__, *texts])
        return 1
    finally:
        signal.signal(STOP, signal.SIG_IGN)
        if source is not None:
            _close(source)
    return 0


def _pump(
    source: FrameSource, writer: Any, messages: _Messages, *, lossless: bool, parent: int
) -> None:
    from edge_sdk.errors import NoFrameYetError, UnreadableImageError

    while os.getppid() == parent:  # a fork of the parent may hold the lifeline open
        try:
            frame = source.read()
        except NoFrameYetError:
            continue
        except UnreadableImageError as error:
            texts = [error.name[-_REMARK_MAX // 2 :], error.reason[: _REMARK_MAX // 2]]
            messages.send(wait=lossless, unreadable=texts)
            continue
        if frame is None:
            return
        if lossless:
            writer.wait_until_taken()
        writer.write(frame)


def _close(source: FrameSource) -> None:
    try:
        source.close()
    except Exception as error:  # noqa: BLE001  # any driver's error; the process ends anyway
        _log.warning("the source could not be closed: %s", error)


if __name__ == "__main__":
    main()
