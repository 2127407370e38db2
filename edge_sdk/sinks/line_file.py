"""A file of whole lines that is begun anew when it is full."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from edge_sdk.errors import WriteError

_OURS = b'{"schema":'  # how every line of ours begins
_TAIL_BYTES = 1 << 16


class LineFile:
    """Appends lines to ``path``; a full one becomes ``path.1``, that one ``path.2``, and so on.

    Half a line of ours at the end of an existing file, from a power cut, is cut off.

    Args:
        path: of the newest file.
        max_bytes: of one file; a longer line gets a file of its own. None: no end.
        keep: how many full files stay.

    Raises:
        WriteError: the file cannot be opened, or the numbers make no sense.
    """

    def __init__(self, path: Path, max_bytes: int | None = None, keep: int = 5) -> None:
        if (max_bytes is not None and max_bytes < 1) or keep < 0:
            raise WriteError(
                f"{path}: a file of at most {max_bytes} bytes and {keep} older ones; expected a "
                "size of 1 or more, and 0 older ones or more"
            )
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._descriptor = -1
        self._size = 0
        self._open()

    def append(self, line: bytes) -> None:
        """Writes a line, which ends with a newline.

        Raises:
            WriteError: the file is full and the next one cannot be begun.
            OSError: the line could not be written; nothing of it remains.
        """
        if self._descriptor < 0:  # closed, or the last attempt to begin anew failed
            self._open()
        if (
            self._max_bytes is not None
            and self._size > 0
            and self._size + len(line) > self._max_bytes
        ):
            self._begin_anew()
        write_whole(self._descriptor, line)
        self._size += len(line)

    def close(self) -> None:
        """Flushes the file to the disk and closes it.

        Raises:
            OSError: its content does not reach the disk.
        """
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _open(self) -> None:
        try:
            self._descriptor = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666
            )
            self._size = _end_whole(self._descriptor)
        except OSError as error:
            raise WriteError(
                f"{self._path}: cannot be opened ({error.strerror or error}); name a file in a "
                "folder that exists and may be written to"
            ) from error

    def _begin_anew(self) -> None:
        self.close()
        try:
            for number in range(self._keep, 0, -1):
                older = self._numbered(number)
                newer = self._numbered(number - 1)
                if newer.exists():
                    os.replace(newer, older)
            if self._keep == 0:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(
                f"{self._path}: is full, and cannot be set aside ({error.strerror or error}); allow "
                "writing to its folder"
            ) from error
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def write_whole(descriptor: int, line: bytes) -> None:
    """Writes all of ``line``, or, in a regular file, nothing of it.

    Raises:
        OSError: as ``os.write``; what had been written is cut off again.
    """
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        written = len(line) - len(rest)
        if written and stat.S_ISREG(os.fstat(descriptor).st_mode):
            with contextlib.suppress(OSError):  # shorter never needs space
                end = os.fstat(descriptor).st_size - written
                os.ftruncate(descriptor, end)
                os.lseek(descriptor, end, os.SEEK_SET)
        raise


def _end_whole(descriptor: int) -> int:
    """Sees to it that the file ends with a newline; its size, 0 for what is no regular file."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return 0
    size = status.st_size
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    if tail.endswith(b"\n"):
        return size
    torn = tail[tail.rfind(b"\n") + 1 :]
    if torn.startswith(_OURS[: len(torn)]) or not torn.strip(b"\0"):  # zeros: lost by a power cut
        os.ftruncate(descriptor, size - len(torn))
        return size - len(torn)
    os.write(descriptor, b"\n")  # somebody else's words stay
    return size + 1
