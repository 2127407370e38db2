"""The door to a terminal: what goes through it is text, and moves, clears or renames nothing.

Labels, file names, model files and other machines' answers may hold control characters. A terminal
takes some of them for commands: ESC begins one that clears it, sets its title or types into it. So
the standard streams of a command are replaced, while it runs, by streams that write such characters
as ``\\u001b``, which is what JSON would write, too.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from typing import TextIO, cast

# C0 but tab and newline, DEL, C1 (8-bit forms of the same commands), and what turns the direction of
# writing, so that a name reads as another one.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with its control characters written out; tabs and newlines stay.

    JSON stays the same JSON: within a string the escapes mean the characters.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """``printable``, with newlines and tabs written out as well: one record is one line."""
    return printable(text.replace("\n", "\\n").replace("\t", "\\t"))


class _Printable(io.TextIOBase):
    """A text stream through which only ``printable`` text comes."""

    # Without a ``buffer``, through which click would write past it where the encoding is ASCII.

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
    """The stream behind the door, for control sequences of ours: progress bars and colours.

    Words of others that are written to it go through ``printable`` first.
    """
    return stream.stream if isinstance(stream, _Printable) else stream


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Puts the door before standard output and standard error.

    After a bug it stays there: the traceback that ends the process goes through it as well.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):  # a file name need not fit the terminal
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (_door(stream) for stream in before)
    try:
        yield
    except Exception:
        raise
    except BaseException:  # an exit, or Ctrl-C
        sys.stdout, sys.stderr = before
        raise
    else:
        sys.stdout, sys.stderr = before


def _door(stream: TextIO) -> TextIO:
    if stream is None or isinstance(stream, _Printable):  # a service without a standard error
        return stream
    return cast("TextIO", _Printable(stream))
