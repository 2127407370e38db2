"""The child that captures: opens a source from its specification and writes into shared memory.

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
import sys
import traceback
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from edge_sdk.terminal import guarded

if TYPE_CHECKING:
    from edge_sdk.ports import FrameSource
    from edge_sdk.sources.specification import SourceSpec

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
    from edge_sdk.machine.quota import limited_memory, usable_memory_bytes
    from edge_sdk.machine.system import System
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
