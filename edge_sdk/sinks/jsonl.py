"""Records as lines of JSON, on standard output or in files of bounded size."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import stat
import sys
import threading
from pathlib import Path
from typing import TextIO

from edge_sdk import systems
from edge_sdk.errors import WriteError
from edge_sdk.terminal import printable
from edge_sdk.types import Record

_OURS = b'{"schema":'  # start of every edgecls line
_TAIL_BYTES = 1 << 16
_HEAD_BYTES = 4096
_FLUSH_S = 10.0


class LineFile:
    """Appends lines to ``path``, with rotation: a full file becomes ``path.1``, that ``path.2``, etc.

    An incomplete edgecls line at the end of an existing file, from a power cut, is truncated. A full
    file is flushed by a thread: an SD card may take seconds, and the loop must not wait. The file is
    locked while it is open: of two writers, each would rename the other's file.

    Args:
        path: of the newest file.
        max_bytes: of one file; a longer line gets its own file. None: unlimited.
        keep: number of full files that are kept.

    Raises:
        WriteError: the file cannot be opened, another process writes to it, it is not a text file, or
            ``max_bytes`` or ``keep`` is out of range.
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
        self._flushing: _Flushing | None = None
        self._open()

    def append(self, line: bytes) -> None:
        """Writes a line, which ends with a newline.

        Raises:
            WriteError: the file is full and the next one cannot be created.
            OSError: the line could not be written, and no part of it remains; or flushing the previous
                file failed.
        """
        if self._flushing is not None and self._flushing.error is not None:
            self._join()
        if self._descriptor < 0:  # closed, or the last rotation failed
            self._open()
        if (
            self._max_bytes is not None
            and self._size > 0
            and self._size + len(line) > self._max_bytes
        ):
            self._rotate()
        write_whole(self._descriptor, line)
        self._size += len(line)

    def close(self) -> None:
        """Flushes the file to the disk and closes it.

        Raises:
            OSError: flushing it, or the previous file, failed.
        """
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            _flush(descriptor)
        self._join()

    def _join(self) -> None:
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            flushing.join(_FLUSH_S)
            if flushing.error is not None:
                raise flushing.error

    def _open(self) -> None:
        descriptor = -1
        try:
            descriptor = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | systems.O_BINARY, 0o666
            )
            _check(descriptor, self._path)
            self._size = _end_whole(descriptor)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            if isinstance(error, WriteError):
                raise
            raise WriteError(
                f"{self._path}: cannot be opened ({error.strerror or error}); name a file in an "
                "existing, writable folder"
            ) from error
        self._descriptor = descriptor

    def _rotate(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if not systems.MOVES_OPEN_FILES:
            _flush(descriptor)  # synchronously: the file must be closed before it is renamed
        elif self._flushing is not None and self._flushing.is_alive():
            os.close(descriptor)  # the disk is too slow: leave the flush to the system
        else:
            self._join()
            self._flushing = _Flushing(descriptor)
        try:
            for number in range(self._keep, 0, -1):
                older = self._numbered(number)
                newer = self._numbered(number - 1)
                if newer.exists():
                    os.replace(newer, older)
            if self._keep == 0:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            if self._flushing is not None:
                self._flushing.join(_FLUSH_S)  # that thread holds the lock, and a retry needs it
            raise WriteError(
                f"{self._path}: is full, and cannot be renamed ({error.strerror or error}); allow "
                "writing to its folder"
            ) from error
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


class _Flushing(threading.Thread):
    """Flushes a full file to the disk in a thread, and closes it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="edgecls-flush", daemon=True)
        self.error: OSError | None = None
        self._descriptor = descriptor
        self.start()

    def run(self) -> None:
        try:
            _flush(self._descriptor)
        except OSError as error:  # raised by the next append
            self.error = error


def _flush(descriptor: int) -> None:
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(descriptor: int, line: bytes) -> None:
    """Writes all of ``line`` or, in a regular file, nothing of it; waits for the reader of a pipe.

    Raises:
        OSError: as ``os.write``; the part already written is truncated.
    """
    rest = memoryview(line)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # a full pipe that another process made non-blocking
                select.select([], [descriptor], [])
    except OSError:
        written = len(line) - len(rest)
        if written and stat.S_ISREG(os.fstat(descriptor).st_mode):
            with contextlib.suppress(OSError):  # truncation needs no space
                end = os.fstat(descriptor).st_size - written
                os.ftruncate(descriptor, end)
                os.lseek(descriptor, end, os.SEEK_SET)
        raise


def _check(descriptor: int, path: Path) -> None:
    """Locks a regular file for this process; refuses a file in use, and a binary one such as a model."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return
    try:
        systems.lock(descriptor)
    except BlockingIOError as error:
        raise WriteError(
            f"{path}: another process writes to this file; stop it, or name another file"
        ) from error
    except OSError:  # a network file system without locks
        pass
    head = systems.read_at(descriptor, _HEAD_BYTES, 0)
    if b"\0" in head.rstrip(b"\0") and not head.startswith(_OURS):  # zeros at the end: a power cut
        raise WriteError(
            f"{path}: exists and is not a text file; nothing was written to it, name another file"
        )


def _end_whole(descriptor: int) -> int:
    """Makes the file end with a newline; returns its size, 0 if it is not a regular file."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return 0
    size = status.st_size
    tail = systems.read_at(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    if tail.endswith(b"\n"):
        return size
    torn = tail[tail.rfind(b"\n") + 1 :]
    if torn.startswith(_OURS[: len(torn)]) or not torn.strip(b"\0"):  # zeros: lost by a power cut
        os.ftruncate(descriptor, size - len(torn))
        return size - len(torn)
    os.write(descriptor, b"\n")  # an incomplete line of another program is kept
    return size + 1


def open_json_lines(
    path: str | Path, *, max_bytes: int | None = 16_000_000, keep: int = 5
) -> JsonLines:
    """The sink for a rotated file of results, for runs of months: at most ``(keep + 1) * max_bytes``.

    The default is 96 MB in all; one result a second is about 60 MB a week.

    Raises:
        WriteError: see ``JsonLines``.
    """
    return JsonLines(path, max_bytes=max_bytes, keep=keep)


class JsonLines:
    """Writes one JSON object per line, passed to the operating system at once.

    A line is complete or absent, also after a full disk, a ``kill -9`` or, when the file is next
    opened, a power cut. To survive a power cut a line needs an fsync, which wears SD cards out and
    stalls: it is called when a file is full (in a thread) or closed, and not in between.

    Args:
        target: a path to append to, an open text stream (left open), or None for standard output.
        max_bytes: of one file; then ``a.jsonl`` becomes ``a.jsonl.1`` and a new file is started.
            None: unlimited. For a path only.
        keep: number of full files kept beside the current one.

    Raises:
        WriteError: the file cannot be opened or is in use, see ``LineFile``, or ``max_bytes`` or
            ``keep`` is out of range.
    """

    def __init__(
        self,
        target: str | Path | TextIO | None = None,
        *,
        max_bytes: int | None = None,
        keep: int = 5,
    ) -> None:
        self._stream: TextIO | None = None
        self._file: LineFile | None = None
        if isinstance(target, (str, Path)):
            self._file = LineFile(Path(target), max_bytes, keep)
        else:
            self._stream = sys.stdout if target is None else target
        self._descriptor = _descriptor(self._stream) if target is None else None
        self._closed = False

    def write(self, record: Record) -> None:
        """Writes one line.

        Raises:
            WriteError: no space (and nothing of the line remains), or the sink is closed.
            BrokenPipeError: the reader of the stream has closed it, as ``| head`` does.
        """
        if self._closed:
            raise WriteError("this sink is closed")
        try:
            if self._file is not None:
                self._file.append((_line(record, "utf-8") + "\n").encode())
            elif self._stream is not None:
                self._write_stream(self._stream, record)
        except (BrokenPipeError, WriteError):
            raise
        except OSError as error:
            raise WriteError(
                f"a record could not be written ({error.strerror or error}); free some space, or "
                "write fewer results"
            ) from error

    def _write_stream(self, stream: TextIO, record: Record) -> None:
        encoding = stream.encoding or "utf-8"
        line = _line(record, encoding) + "\n"
        if self._descriptor is None:
            stream.write(line)
            stream.flush()
            return
        # After a full disk a text stream keeps the rest in its buffer and writes it at exit: half a
        # line. So the line bypasses the buffer, which is flushed first for other output.
        stream.flush()
        write_whole(self._descriptor, line.encode(encoding))

    def close(self) -> None:
        """Closes the file if it was opened here.

        Raises:
            WriteError: flushing to the disk failed.
        """
        if self._closed:
            return
        self._closed = True
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise WriteError(
                    f"a file could not be closed ({error.strerror or error}); its last lines may "
                    "be missing, check the disk"
                ) from error


def _descriptor(stream: TextIO | None) -> int | None:
    """The descriptor of standard output; None if a test or a notebook has replaced the stream."""
    if stream is None:
        return None
    try:
        return stream.fileno()
    except (AttributeError, OSError, io.UnsupportedOperation):
        return None


def _line(record: Record, encoding: str) -> str:
    content = record.to_json()
    line = json.dumps(content, ensure_ascii=False)
    try:
        line.encode(encoding)
    except UnicodeEncodeError:  # an ASCII terminal, or a file name that is not valid UTF-8
        line = json.dumps(content)
    return printable(line)  # the same JSON; standard output may be a terminal
