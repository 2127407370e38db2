"""Captures libjpeg's warnings about a JPEG while OpenCV decodes it.

libjpeg continues in a damaged file: it fills the rest with gray or decodes misplaced blocks, and writes
one line to C's standard error stream, for the first warning of each picture only. OpenCV passes on
neither the line nor the count. Here the C library's variable ``stderr`` points to a buffer in memory
while a picture is decoded. File descriptor 2 is unchanged, so Python's own messages, other processes
and crash reports are not affected; output of other C code is written to descriptor 2 afterwards. The
redirection takes about two microseconds.

The texts are those of libjpeg 6b and libjpeg-turbo (``jerror.h``). This needs the GNU C library: without
it, or with an OpenCV that warns in another way, ``warnings_are_captured()`` is False.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import re
import threading
from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np

_log = logging.getLogger("edgecls.pictures")

_T = TypeVar("_T")

# jerror.h: other warnings (an unknown JFIF revision, a bad ICC profile, garbage between segments of the
# header) do not affect the pixels.
_DAMAGE = (
    b"Corrupt JPEG data: premature end of data segment",
    b"Corrupt JPEG data: bad Huffman code",
    b"Corrupt JPEG data: bad arithmetic code",
    b"Corrupt JPEG data: found marker",
    b"Premature end of JPEG",
    b"Inconsistent progression sequence",
)
_EXTRANEOUS = re.compile(rb"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x([0-9a-f]+)")
_LINE = re.compile(
    rb"(?:Corrupt JPEG data: [^\n]*|Premature end of JPEG[^\n]*|Inconsistent progression sequence"
    rb"[^\n]*|Invalid SOS parameters for sequential JPEG|Warning: unknown JFIF revision number[^\n]*"
    rb"|Unknown Adobe color transform code[^\n]*)\n"
)
_END = 0xD9
# Cheap cameras pad frames: "1 extraneous bytes before marker 0xd9" for each one.
_PADDING_MAX = 16


def decode_with_warning(decode: Callable[[], _T]) -> tuple[_T, str]:
    """Runs an OpenCV decoder and returns its result with libjpeg's warning.

    Several threads may decode at the same time. A warning during that time cannot be assigned to one
    picture: each of them is then decoded once more, alone.

    Args:
        decode: decodes one JPEG; it may be called twice.

    Returns:
        The result of ``decode``, and the line of the warning; empty if there was none or if
        ``warnings_are_captured()`` is False.
    """
    capture = _stderr_capture()
    return (decode(), "") if capture is None else capture.run(decode)


def damage(warning: str, data: bytes | None = None) -> str:
    """The damage to the pixels that a libjpeg warning reports.

    Args:
        warning: a line from ``decode_with_warning``.
        data: the file, to distinguish padding before its end mark from picture data that was not
            decoded; None: a camera's frame, of which the decoder has read every block, and whose
            padding may have any value.

    Returns:
        The damage in libjpeg's words; empty if the pixels are intact.
    """
    line = warning.encode()
    if line.startswith(_DAMAGE):
        return warning.removeprefix("Corrupt JPEG data: ")
    if (match := _EXTRANEOUS.match(line)) is None:
        return ""
    count, marker = int(match[1]), int(match[2], 16)
    if 0xE0 <= marker <= 0xFE:  # APPn and COM: between segments of the header
        return ""
    if marker == _END and (count <= _PADDING_MAX if data is None else _is_padding(data, count)):
        return ""
    return warning.removeprefix("Corrupt JPEG data: ")


def _is_padding(data: bytes, count: int) -> bool:
    end = data.rfind(b"\xff\xd9")
    return len(set(data[max(0, end - count) : end]) - {0x00, 0xFF}) == 0


def warnings_are_captured() -> bool:
    """Whether this system can detect damage inside a JPEG."""
    return _stderr_capture() is not None


class _StderrCapture:
    """C's ``stderr``, which points to a buffer in memory while pictures are decoded."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # AttributeError: another C library
        self._stderr = ctypes.c_void_p.in_dll(library, "stderr")
        library.open_memstream.restype = ctypes.c_void_p
        self._flush, self._rewind = library.fflush, library.rewind
        self._flush.argtypes = self._rewind.argtypes = (ctypes.c_void_p,)
        self._text, self._size = ctypes.c_void_p(), ctypes.c_size_t()
        self._memory = library.open_memstream(ctypes.byref(self._text), ctypes.byref(self._size))
        if not self._memory:
            raise OSError("no memory for a stream")
        self._original = self._stderr.value
        self._changed = threading.Condition()
        self._decoders = self._entries = self._queued = 0
        self._alone = False
        os.register_at_fork(after_in_child=self._reset_after_fork)

    def run(self, decode: Callable[[], _T]) -> tuple[_T, str]:
        result, text, alone = self._attempt(decode, alone=False)
        if text and not alone:
            result, text, _ = self._attempt(decode, alone=True)
        warning = _LINE.search(text)
        return result, warning[0].decode("ascii", "replace").strip() if warning else ""

    def _attempt(self, decode: Callable[[], _T], *, alone: bool) -> tuple[_T, bytes, bool]:
        """The result, the output during decoding, and whether no other picture was being decoded."""
        with self._changed:
            self._queued += alone
            self._changed.wait_for(lambda: not (self._decoders if alone else self._busy()))
            self._queued -= alone
            self._alone = alone
            if not self._decoders:
                self._original = self._stderr.value
                self._stderr.value = self._memory
            self._decoders += 1
            self._entries += 1
            first, entries, start = self._decoders == 1, self._entries, self._printed()
        try:
            result = decode()
        finally:
            with self._changed:
                text = self._since(start)
                only = first and entries == self._entries
                self._decoders -= 1
                if not self._decoders:
                    self._restore()
                self._alone = False
                self._changed.notify_all()
        return result, text, only

    def _busy(self) -> bool:
        # Exclusive decoding has priority, or it could wait for ever for other threads.
        return self._alone or self._queued > 0

    def _printed(self) -> int:
        self._flush(self._memory)
        return self._size.value

    def _since(self, start: int) -> bytes:
        length = self._printed() - start
        text = self._text.value
        return ctypes.string_at(text + start, length) if text and length > 0 else b""

    def _reset_after_fork(self) -> None:
        # A lock may have been held during the fork: the child creates a new capture.
        self._stderr.value = self._original
        _stderr_capture.cache_clear()

    def _restore(self) -> None:
        self._stderr.value = self._original
        if others := _LINE.sub(b"", self._since(0)):
            with contextlib.suppress(OSError):  # descriptor 2 is closed
                os.write(2, others)
        self._rewind(self._memory)


@functools.cache
def _stderr_capture() -> _StderrCapture | None:
    """The capture, if it catches the warning of OpenCV's libjpeg about a truncated picture; else None."""
    try:
        capture = _StderrCapture()
    # No such function or variable; TypeError: Windows has no library without a name.
    except (AttributeError, OSError, TypeError, ValueError):
        capture = None
    if capture is not None:
        noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
        whole = cv2.imencode(".jpg", noise)[1]
        half = np.concatenate([whole[: whole.size // 2], np.array([0xFF, 0xD9], np.uint8)])
        _, warning = capture.run(lambda: cv2.imdecode(half, cv2.IMREAD_COLOR))
        if damage(warning):
            return capture
    _log.warning(
        "damage inside JPEG files cannot be detected on this system: OpenCV's decoder does not report "
        "it here; JPEGs that are cut off are still refused"
    )
    return None
