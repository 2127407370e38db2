"""What SQLite's errors mean for a spool, by its result codes.

https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from edge_sdk.files import is_disk_trouble

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM)
_PLACE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is broken, as opposed to a disk that is full or away."""
    return _code(error) in _DAMAGE


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else has the database just now."""
    return _code(error) in _BUSY


def may_pass(error: sqlite3.Error | MemoryError, folder: Path) -> bool:
    """Whether a database that cannot be opened now may be opened later.

    A full disk, a disk that fails and another process that holds the database may pass; a wrong
    place does not. SQLite's "unable to open" stands for both, so a file is made in ``folder`` to see.
    """
    if isinstance(error, MemoryError):  # the log's index is mapped, and its file cannot grow
        return True
    code = _code(error)
    if code not in _PLACE:
        return code in _DISK or code in _BUSY
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
    except OSError as reason:
        return is_disk_trouble(reason)
    return False


def corrupt(reason: str) -> sqlite3.DatabaseError:
    """An error as SQLite raises it for a broken file, see ``is_damage``."""
    error = sqlite3.DatabaseError(reason)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
