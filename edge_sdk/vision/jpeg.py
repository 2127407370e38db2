"""What libjpeg says about a JPEG while OpenCV decodes it.

libjpeg goes on where a file is damaged: it fills the rest with gray, or goes on out of step, and
writes one line about it to C's standard error stream, the first warning of each picture only. OpenCV
passes neither the line nor the count on. Here the C library's variable ``stderr`` points to a buffer
in memory while a picture is decoded. File descriptor 2 stays as it is, so Python's own messages,
other processes and crash reports are not concerned; what other C code prints meanwhile is written to
descriptor 2 afterwards. Pointing there and back takes about two microseconds.

The texts are those of libjpeg 6b and libjpeg-turbo (``jerror.h``). They need the GNU C library:
where it is missing, or where an OpenCV warns in another way, ``warnings_are_heard()`` is False.
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

# jerror.h: whatever is not named here (an unknown JFIF revision, a bad ICC profile, garbage between
# segments of the head) leaves the pixels as they were meant.
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
# Cheap cameras pad a frame: "1 extraneous bytes before marker 0xd9" for every one of them.
_PADDING_MAX = 16


def decode_heard(decode: Callable[[], _T]) -> tuple[_T, str]:
    """Runs a decoder of OpenCV and gives its result with libjpeg's warning.

    Pictures may be decoded in several threads at a time. Where a warning came while several were, it
    cannot be seen which one it is about: then each of them is decoded once more, alone.

    Args:
        decode: decodes one JPEG; it may be called twice.

    Returns:
        What ``decode`` returns, and the line of the warning; empty where there was none, and where
        ``warnings_are_heard()`` is False.
    """
    ear = _ear()
    return (decode(), "") if ear is None else ear.listen(decode)


def damage(warning: str, data: bytes | None = None) -> str:
    """What a warning of libjpeg says about the pixels.

    Args:
        warning: a line from ``decode_heard``.
        data: the file, to tell padding before its end mark from a part of the picture that was
            decoded out of step; None: a frame of a camera, of which the decoder has seen every block,
            and whose padding may have any value.

    Returns:
        The damage in libjpeg's words; empty where the pixels are as they were meant.
    """
    line = warning.encode()
    if line.startswith(_DAMAGE):
        return warning.removeprefix("Corrupt JPEG data: ")
    if (match := _EXTRANEOUS.match(line)) is None:
        return ""
    count, marker = int(match[1]), int(match[2], 16)
    if 0xE0 <= marker <= 0xFE:  # APPn and COM: between segments of the head
        return ""
    if marker == _END and (count <= _PADDING_MAX if data is None else _is_padding(data, count)):
        return ""
    return warning.removeprefix("Corrupt JPEG data: ")


def _is_padding(data: bytes, count: int) -> bool:
    end = data.rfind(b"\xff\xd9")
    return len(set(data[max(0, end - count) : end]) - {0x00, 0xFF}) == 0


def warnings_are_heard() -> bool:
    """Whether damage inside a JPEG is seen on this system."""
    return _ear() is not None


class _Ear:
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
            raise OSError("there is no memory for a stream")
        self._usual = self._stderr.value
        self._turn = threading.Condition()
        self._listeners = self._entries = self._queued = 0
        self._alone = False
        os.register_at_fork(after_in_child=self._forget)

    def listen(self, decode: Callable[[], _T]) -> tuple[_T, str]:
        result, text, alone = self._attempt(decode, alone=False)
        if text and not alone:
            result, text, _ = self._attempt(decode, alone=True)
        warning = _LINE.search(text)
        return result, warning[0].decode("ascii", "replace").strip() if warning else ""

    def _attempt(self, decode: Callable[[], _T], *, alone: bool) -> tuple[_T, bytes, bool]:
        """The result, what was printed meanwhile, and whether no other picture was being decoded."""
        with self._turn:
            self._queued += alone
            self._turn.wait_for(lambda: not (self._listeners if alone else self._busy()))
            self._queued -= alone
            self._alone = alone
            if not self._listeners:
                self._usual = self._stderr.value
                self._stderr.value = self._memory
            self._listeners += 1
            self._entries += 1
            first, entries, start = self._listeners == 1, self._entries, self._printed()
        try:
            result = decode()
        finally:
            with self._turn:
                text = self._since(start)
                only = first and entries == self._entries
                self._listeners -= 1
                if not self._listeners:
                    self._restore()
                self._alone = False
                self._turn.notify_all()
        return result, text, only

    def _busy(self) -> bool:
        # Who wants to be alone would wait forever while others come and go.
        return self._alone or self._queued > 0

    def _printed(self) -> int:
        self._flush(self._memory)
        return self._size.value

    def _since(self, start: int) -> bytes:
        length = self._printed() - start
        text = self._text.value
        return ctypes.string_at(text + start, length) if text and length > 0 else b""

    def _forget(self) -> None:
        # A lock may have been held at the moment of the fork: the child makes another ear.
        self._stderr.value = self._usual
        _ear.cache_clear()

    def _restore(self) -> None:
        self._stderr.value = self._usual
        if others := _LINE.sub(b"", self._since(0)):
            with contextlib.suppress(OSError):  # descriptor 2 is closed
                os.write(2, others)
        self._rewind(self._memory)


@functools.cache
def _ear() -> _Ear | None:
    """Listens, once it has heard what OpenCV's libjpeg says about a picture of which half is missing."""
    try:
        ear = _Ear()
    # No such function or variable; TypeError: Windows has no library without a name.
    except (AttributeError, OSError, TypeError, ValueError):
        ear = None
    if ear is not None:
        noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
        whole = cv2.imencode(".jpg", noise)[1]
        half = np.concatenate([whole[: whole.size // 2], np.array([0xFF, 0xD9], np.uint8)])
        _, warning = ear.listen(lambda: cv2.imdecode(half, cv2.IMREAD_COLOR))
        if damage(warning):
            return ear
    _log.warning(
        "JPEGs that are damaged inside are not recognised on this system: OpenCV's decoder does not "
        "report them here; those that are cut off are still refused"
    )
    return None
