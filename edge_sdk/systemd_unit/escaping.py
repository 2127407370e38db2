"""Text in a unit file as systemd reads it back; see systemd.syntax(7) and systemd.service(5)."""

from __future__ import annotations

import re
from pathlib import Path

from edge_sdk.errors import UnitTextError

# Not the colon, which parts two paths in BindReadOnlyPaths=.
_PLAIN = re.compile(r"[A-Za-z0-9_@+=,./-]+")
# systemd refuses such a program ("Executable path contains special characters").
_NOT_IN_PROGRAM = "\"'\\"
# What EnvironmentFile= takes for a pattern.
_PATTERN = "*?[\\"


def word(text: str) -> str:
    """One word of a command line or of a list of paths, quoted where it must be.

    ``%`` begins a specifier and is doubled; ``$`` stays, since commands here begin with ``:``.

    Raises:
        UnitTextError: a line break or another control character, or a name that is not UTF-8.
    """
    _check(text)
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def command(words: tuple[str, ...]) -> str:
    """A line for ``ExecStart=``, whose words reach the program as they are.

    Args:
        words: the program's absolute path, then its arguments.

    Raises:
        UnitTextError: as ``word``; or a quote or a backslash in the program's path.
    """
    program = words[0]
    if any(letter in program for letter in _NOT_IN_PROGRAM):
        raise UnitTextError(
            f"{program}: systemd starts no program with a quote or a backslash in its path; move the "
            "environment to a folder without one, such as /opt/edgecls"
        )
    # The colon switches off what systemd would make of a $ in the words behind.
    return " ".join((f":{word(program)}", *map(word, words[1:])))


def value(text: str) -> str:
    """A whole value that systemd takes as it stands, but for specifiers and space around it.

    Raises:
        UnitTextError: as ``word``; or it ends with a backslash, or begins or ends with space.
    """
    _check(text)
    if text != text.strip() or text.endswith("\\"):
        raise UnitTextError(
            f"{text!r}: a unit file cannot say a space at the beginning or the end, nor a backslash "
            "at the end; rename it"
        )
    return text.replace("%", "%%")


def file_name(path: Path) -> str:
    """A path for ``EnvironmentFile=``, which takes patterns.

    Raises:
        UnitTextError: as ``value``; or a letter that would make it a pattern.
    """
    if any(letter in str(path) for letter in _PATTERN):
        raise UnitTextError(
            f"{path}: systemd takes a path with one of {' '.join(_PATTERN)} for a pattern; rename it"
        )
    return value(str(path))


def _check(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnitTextError(
            f"{text!r}: a unit file is UTF-8, and this name is not; rename it"
        ) from None
    if not text or any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise UnitTextError(
            f"{text!r}: a unit file cannot say an empty word, a line break or a control character; "
            "rename it"
        )
