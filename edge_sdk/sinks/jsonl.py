"""Records as lines of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO

from edge_sdk.errors import WriteError
from edge_sdk.records import Record


class JsonLines:
    """Writes one JSON object per line, flushed at once so that a reader sees it at once.

    Args:
        target: a path to append to, an open text stream (left open), or None for standard output.

    Raises:
        WriteError: the file cannot be opened.
    """

    def __init__(self, target: str | Path | TextIO | None = None) -> None:
        self._owned = isinstance(target, (str, Path))
        self._stream: TextIO
        if isinstance(target, (str, Path)):
            try:
                self._stream = open(target, "a", encoding="utf-8")  # noqa: SIM115  closed by close()
            except OSError as error:
                raise WriteError(
                    f"{target}: cannot be opened ({error.strerror or error})"
                ) from error
        else:
            self._stream = sys.stdout if target is None else target
        self._closed = self._failed = False

    def write(self, record: Record) -> None:
        """Writes one line.

        Raises:
            WriteError: no space, or the sink is closed.
            BrokenPipeError: whoever read the stream has gone, as at the end of ``| head``.
        """
        if self._closed:
            raise WriteError("this sink is closed")
        line = _line(record, self._stream.encoding or "utf-8")
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self._failed = True
            raise WriteError(
                f"a record could not be written ({error.strerror or error})"
            ) from error

    def close(self) -> None:
        """Closes the file if it was opened here.

        Raises:
            WriteError: what was written does not reach the disk, and no ``write`` has said so.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._owned:
                self._stream.close()
        except OSError as error:
            if not self._failed:
                raise WriteError(
                    f"a file could not be closed ({error.strerror or error})"
                ) from error


def _line(record: Record, encoding: str) -> str:
    content = record.to_json()
    line = json.dumps(content, ensure_ascii=False)
    try:
        line.encode(encoding)
    except UnicodeEncodeError:  # a plain terminal, or a file name that is no text
        line = json.dumps(content)
    return line
