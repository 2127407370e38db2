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

_OURS = b'{"schema":'  # how every line of ours begins
_TAIL_BYTES = 1 << 16
_HEAD_BYTES = 4096
_FLUSH_S = 10.0


class LineFile:
    """Appends lines to ``path``; a full one becomes ``path.1``, that one ``path.2``, and so on.

    Half a line of ours at the end of an existing file, from a power cut, is cut off. A full file is
    flushed by a thread of its own: an SD card may take seconds for that, which the loop has not. The
    file is locked while it is open here: of two writers, each would rename what the other one writes.

    Args:
        path: of the newest file.
        max_bytes: of one file; a longer line gets a file of its own. None: no end.
        keep: how many full files stay.

    Raises:
        WriteError: the file cannot be opened, somebody else writes to it, it is no file of lines, or
            the numbers make no sense.
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
            WriteError: the file is full and the next one cannot be begun.
            OSError: the line could not be written, and nothing of it remains; or the file before this
                one did not reach the disk.
        """
        if self._flushing is not None and self._flushing.error is not None:
            self._join()
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
            OSError: its content, or that of the file before it, does not reach the disk.
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
                f"{self._path}: cannot be opened ({error.strerror or error}); name a file in a "
                "folder that exists and may be written to"
            ) from error
        self._descriptor = descriptor

    def _begin_anew(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if not systems.MOVES_OPEN_FILES:
            _flush(descriptor)  # and waits for it: the file has to be closed
        elif self._flushing is not None and self._flushing.is_alive():
            os.close(descriptor)  # a disk that slow gets to it by itself
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
                self._flushing.join(_FLUSH_S)  # the lock is its: this may be tried again
            raise WriteError(
                f"{self._path}: is full, and cannot be set aside ({error.strerror or error}); allow "
                "writing to its folder"
            ) from error
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


class _Flushing(threading.Thread):
    """Sees to it that a full file reaches the disk, and closes it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="edgecls-flush", daemon=True)
        self.error: OSError | None = None
        self._descriptor = descriptor
        self.start()

    def run(self) -> None:
        try:
            _flush(self._descriptor)
        except OSError as error:  # raised where somebody writes
            self.error = error


def _flush(descriptor: int) -> None:
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(descriptor: int, line: bytes) -> None:
    """Writes all of ``line``, or, in a regular file, nothing of it; waits for who reads a pipe.

    Raises:
        OSError: as ``os.write``; what had been written is cut off again.
    """
    rest = memoryview(line)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # a pipe that somebody else made non-blocking, full for now
                select.select([], [descriptor], [])
    except OSError:
        written = len(line) - len(rest)
        if written and stat.S_ISREG(os.fstat(descriptor).st_mode):
            with contextlib.suppress(OSError):  # shorter never needs space
                end = os.fstat(descriptor).st_size - written
                os.ftruncate(descriptor, end)
                os.lseek(descriptor, end, os.SEEK_SET)
        raise


def _check(descriptor: int, path: Path) -> None:
    """Takes a regular file for this process, unless it is somebody's: a writer's, or a model's."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return
    try:
        systems.lock(descriptor)
    except BlockingIOError as error:
        raise WriteError(
            f"{path}: another process writes to this file; stop that one, or name another file for "
            "this one"
        ) from error
    except OSError:  # a network's file system that knows no locks
        pass
    head = systems.read_at(descriptor, _HEAD_BYTES, 0)
    if b"\0" in head.rstrip(b"\0") and not head.startswith(_OURS):  # zeros at the end: a power cut
        raise WriteError(
            f"{path}: is there, and no file of lines; nothing was written to it, name another file"
        )


def _end_whole(descriptor: int) -> int:
    """Sees to it that the file ends with a newline; its size, 0 for what is no regular file."""
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
    os.write(descriptor, b"\n")  # somebody else's words stay
    return size + 1


def open_json_lines(
    path: str | Path, *, max_bytes: int | None = 16_000_000, keep: int = 5
) -> JsonLines:
    """The sink for a file of results that runs for months: at most ``(keep + 1) * max_bytes``.

    The default is what a day of one result a second comes to, about 60 MB for a week.

    Raises:
        WriteError: see ``JsonLines``.
    """
    return JsonLines(path, max_bytes=max_bytes, keep=keep)


class JsonLines:
    """Writes one JSON object per line, handed to the operating system at once.

    A line is whole or not there, also after a full disk, a ``kill -9`` or, when the file is next
    opened, a power cut. What a line needs to survive a power cut is an fsync, which wears SD cards
    out and stalls: one is made when a file is full (by a thread) or closed, and not in between.

    Args:
        target: a path to append to, an open text stream (left open), or None for standard output.
        max_bytes: of one file; the next line begins a new one, and ``a.jsonl`` becomes
            ``a.jsonl.1``. None: one file without end. For a path only.
        keep: how many full files stay beside the one being written.

    Raises:
        WriteError: the file cannot be opened or is somebody else's, see ``LineFile``, or the numbers
            make no sense.
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
            BrokenPipeError: whoever read the stream has gone, as at the end of ``| head``.
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
        # A text stream keeps what a full disk refused and tries again at exit: half a line. So past
        # its buffer, which is emptied first for whoever prints as well.
        stream.flush()
        write_whole(self._descriptor, line.encode(encoding))

    def close(self) -> None:
        """Closes the file if it was opened here.

        Raises:
            WriteError: what was written does not reach the disk.
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
    """Of standard output where it is a real one; a test or a notebook puts its own in its place."""
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
    except UnicodeEncodeError:  # a plain terminal, or a file name that is no text
        line = json.dumps(content)
    return printable(line)  # the same JSON; standard output may be a terminal
