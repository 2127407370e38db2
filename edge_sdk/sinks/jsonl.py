"""Records as lines of JSON, on standard output or in files of bounded size."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TextIO

from edge_sdk.errors import WriteError
from edge_sdk.records import Record
from edge_sdk.sinks.line_file import LineFile, write_whole
from edge_sdk.terminal import printable


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
