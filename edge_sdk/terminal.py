"""Escapes control characters in all output to a terminal.

Labels, file names, model files and other machines' answers may contain control characters. A terminal
executes some of them: ESC begins a command that clears it, sets its title or types into it. So the
standard streams of a command are replaced, while it runs, by streams that write such characters as
``\\u001b``, as JSON does.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from typing import TextIO, cast

# C0 but tab and newline, DEL, C1 (8-bit forms of the same commands), and bidirectional controls, which
# can make one name look like another.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with its control characters escaped; tabs and newlines stay.

    JSON keeps its meaning: within a string an escape stands for its character.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """``printable`` with newlines and tabs escaped as well: one record is one line."""
    return printable(text.replace("\n", "\\n").replace("\t", "\\t"))


class _Printable(io.TextIOBase):
    """A text stream that writes only ``printable`` text."""

    # No ``buffer``: click would write to it directly where the encoding is ASCII.

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(printable(text))
        return len(text)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.stream.errors

    def close(self) -> None:
        """Does nothing: the stream belongs to the code that opened it."""


def own(stream: TextIO) -> TextIO:
    """The unescaped stream, for our own control sequences: progress bars and colours.

    Pass any other text through ``printable`` first.
    """
    return stream.stream if isinstance(stream, _Printable) else stream


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Escapes control characters in standard output and standard error.

    After an uncaught exception the streams stay replaced: the traceback is escaped as well.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):  # its encoding may lack a file name's characters
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (_printable_stream(stream) for stream in before)
    try:
        yield
    except Exception:
        raise
    except BaseException:  # an exit, or Ctrl-C
        sys.stdout, sys.stderr = before
        raise
    else:
        sys.stdout, sys.stderr = before


def _printable_stream(stream: TextIO) -> TextIO:
    if stream is None or isinstance(stream, _Printable):  # a service without a standard error
        return stream
    return cast("TextIO", _Printable(stream))
