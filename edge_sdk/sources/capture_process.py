"""The process that captures: as its parent sees it, and what runs in it.

It is started as a program of its own, never forked: ``CaptureChild`` is its other side. A driver may
hang or crash here; whoever classifies only misses frames. The child says what it has to say in lines
of JSON through a pipe, each written at once:

``{"opened": NAME, "kind": KIND}`` · ``{"say": TEXT}`` · ``{"unreadable": [NAME, REASON]}`` ·
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


class Remark(NamedTuple):
    """A sentence for a person."""

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
            return Remark(text)
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


LENGTH = struct.Struct("=I")
STOP = getattr(signal, "SIGUSR1", signal.SIGTERM)  # this module loads everywhere, and runs on Linux
_LIFELINE = 0
_TEXT_MAX = 3000
# A pipe that is not waited for takes up to 4096 bytes as one piece (PIPE_BUF on Linux); JSON needs
# up to six for a character.
_REMARK_MAX = 600

_log = logging.getLogger("edgecls.sources")


class _Stop(BaseException):
    """The parent asks for the end, wherever the child is just then."""


def main() -> NoReturn:
    """Captures until the source ends, is lost, or the parent asks for the end or ends itself."""
    with guarded():  # a driver's message may hold anything
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
    except BaseException:  # noqa: BLE001  # a bug: it is shown, and the parent sees the status
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # at once, past the threads of drivers that may hang


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(STOP, signal.SIG_IGN)
    raise _Stop


def _read_order() -> tuple[SourceSpec, tuple[int, int] | None, int | None]:
    (length,) = LENGTH.unpack(_read_exactly(LENGTH.size))
    order: tuple[SourceSpec, tuple[int, int] | None, int | None] = pickle.loads(  # noqa: S301  # our parent's
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
    """Has the kernel kill this process when the other end of the lifeline is closed.

    ``SIGIO`` ends a process that does not handle it, even one that hangs in a driver with Python's
    lock held. ``prctl(PR_SET_PDEATHSIG)`` would do so when the *thread* that started the child ends.
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
    """What the parent is told."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, *, wait: bool = False, **message: Any) -> None:
        """Writes one line; without ``wait`` it is lost where the parent has not read for long."""
        os.set_blocking(self._descriptor, wait)
        with contextlib.suppress(BlockingIOError):
            os.write(self._descriptor, json.dumps(message).encode() + b"\n")

    def say(self, text: str) -> None:
        """A sentence for a person."""
        self.send(say=text[:_REMARK_MAX])


def _limited_memory(max_pixels: int | None) -> contextlib.AbstractContextManager[None]:
    """Bounds what this process may take, whatever a driver or a stream has it decode.

    The size of a stream's frames is known when FFmpeg has decoded the first; this limit holds before.
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
        source = open_source(spec, size, max_pixels=max_pixels, say=messages.say)
        name = str(getattr(source, "name", spec))
        messages.send(wait=True, opened=name[:_TEXT_MAX], kind=type(source).__name__)
        _pump(source, writer, messages, lossless=not spec.live, parent=parent)
        messages.send(wait=True, ended=True)
    except MemoryError:
        reason = (
            "its frames take more memory than the capture process may have; choose a smaller size"
        )
        messages.send(wait=True, failed=["SourceLostError", f"{spec}: {reason}"])
        return 1
    except EdgeClsError as error:
        told = [str(argument)[: _TEXT_MAX // len(error.args)] for argument in error.args]
        messages.send(wait=True, failed=[type(error).__name__, *told])
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

    while os.getppid() == parent:  # the lifeline may have been copied by a fork of the parent
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
    except Exception as error:  # noqa: BLE001  # a foreign driver; the process ends anyway
        _log.warning("the source could not be closed: %s", error)


if __name__ == "__main__":
    main()
