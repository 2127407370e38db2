"""A bounded queue of records on the disk: SQLite, which a ``kill -9`` or a power cut leaves whole.

Two connections: one for the loop's thread, which only appends and waits for nobody, and one for the
thread that delivers, which reads, deletes, and carries the write-ahead log over into the database
(that waits for the disk). Commits are not flushed one by one (``synchronous=NORMAL``): a killed
process loses nothing, a power cut the last seconds. https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from contextlib import AbstractContextManager
from pathlib import Path

from edge_sdk.errors import SinkSpecError, WriteError
from edge_sdk.sinks.sender import Parcel
from edge_sdk.sinks.spool_place import first_number
from edge_sdk.sinks.sqlite_errors import is_busy, is_damage

_APPLICATION = 0x45434C53  # "ECLS", SQLite's mark for whose file it is
_SCHEMA = 1
_PAGE_BYTES = 4096
MIN_BYTES = 32 * _PAGE_BYTES
_CHECKPOINT_ROWS = 500
# Past this the log begins anew while the loop's records wait in memory for a moment: it would grow
# without end under a loop that never pauses. The second is for a sender that hangs.
_MAX_LOG_PAGES = 2000
_MAX_CHANGES = 5000
_BUSY_S = 5.0
_LOOP_WAIT_S = 0.05
_FULL = sqlite3.SQLITE_FULL


Lock = AbstractContextManager[bool]


class SpoolStore:
    """The database of a spool. ``append`` belongs to whoever holds ``lock``, the other verbs to a thread.

    Attributes:
        depth: parcels that are waiting.
        used_bytes: pages of the database that hold something.

    Args:
        path: of the database; made if absent.
        max_bytes: of the database file; its log may add 10 MB, 40 MB while a sender hangs.
        lock: SQLite takes one writer at a time; waiting in line for a lock of ours is fairer.

    Raises:
        sqlite3.DatabaseError: the file is damaged, see ``is_damage``.
        SinkSpecError: ``max_bytes`` is too small for a database.
        WriteError: it cannot be opened, or is somebody else's database.
    """

    def __init__(self, path: Path, max_bytes: int, lock: Lock) -> None:
        if max_bytes < MIN_BYTES:
            raise SinkSpecError(
                f"{path}: a spool of {max_bytes} bytes; expected at least {MIN_BYTES}, since a "
                "database needs some pages of its own"
            )
        self._path = path
        self._max_pages = max_bytes // _PAGE_BYTES
        self._lock = lock
        self._relief: threading.Thread | None = None
        self._changes = 0
        try:
            self._writer = self._connect()
            try:
                self._prepare()
                self._reader = self._connect()
            except BaseException:
                self._writer.close()
                raise
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise
            raise WriteError(
                f"{path}: the spool cannot be opened ({error}); name a file on a disk with room, in "
                "a folder that may be written to"
            ) from error
        row = self._writer.execute("SELECT count(*), max(seq) FROM parcel").fetchone()
        self.depth: int = row[0]
        (last,) = self._writer.execute("SELECT last FROM position").fetchone()
        self._last: int = max(last, row[1] or 0)
        self.used_bytes = self._used(self._writer)
        self._writer.execute(f"PRAGMA busy_timeout = {round(_LOOP_WAIT_S * 1000)}")

    def _connect(self) -> sqlite3.Connection:
        with contextlib.suppress(OSError):  # SQLite says it better
            # What a camera saw is its owner's business; the log gets the same rights.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute(f"PRAGMA max_page_count = {self._max_pages}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self) -> None:
        connection = self._writer
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (owner != _APPLICATION or version != _SCHEMA):
            raise WriteError(
                f"{self._path}: is a database, but no spool of this version; expected a spool or no "
                "file at all, name another one"
            )
        if tables:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                error = sqlite3.DatabaseError(verdict)
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise error
            return
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        connection.execute(
            "CREATE TABLE parcel (seq INTEGER PRIMARY KEY, kind TEXT, key TEXT, body BLOB)"
        )
        connection.execute("CREATE TABLE position (last INTEGER)")
        connection.execute("INSERT INTO position VALUES (?)", (first_number(),))
        connection.execute("COMMIT")

    @property
    def next_seq(self) -> int:
        """The number of the next parcel."""
        return self._last + 1

    def append(self, parcel: Parcel, under_way: int) -> int:
        """Adds a parcel, dropping the oldest ones where there is no room. The lock is the caller's.

        Args:
            parcel: its ``seq`` is ``next_seq``.
            under_way: the highest number that is being delivered; up to there nothing is dropped.

        Returns:
            How many were dropped; the parcel itself if it is larger than the whole spool.

        Raises:
            sqlite3.Error: the disk is full or broken, or somebody has the database for longer than
                the loop waits (``is_busy``); the parcel was not added.
        """
        dropped, last = 0, self._last
        try:
            self._last = parcel.seq  # a gap tells of one that is lost
            if len(parcel.body) > self._max_pages * _PAGE_BYTES // 4:
                return 1  # would push out everything else
            while not self._insert(parcel):
                lost = self._drop_oldest(under_way)
                dropped += lost
                self.depth -= lost
                if lost == 0:
                    return dropped + 1
            self.depth += 1
            self._changes += 1
            self.used_bytes = self._used(self._writer)
            if self._changes >= _MAX_CHANGES:
                self._relieve()
        except sqlite3.Error as error:
            self._last = last if is_busy(error) else parcel.seq
            raise
        return dropped

    def _relieve(self) -> None:
        """Carries the log over in a thread: the loop must not, and who delivers hangs."""
        if self._relief is None or not self._relief.is_alive():
            self._changes = 0
            self._relief = threading.Thread(
                target=self._carry_over, name="edgecls-spool-log", daemon=True
            )
            self._relief.start()

    def _carry_over(self) -> None:
        with contextlib.suppress(sqlite3.Error), contextlib.closing(self._connect()) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            with self._lock:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _insert(self, parcel: Parcel) -> bool:
        try:
            self._writer.execute(
                "INSERT INTO parcel VALUES (?, ?, ?, ?)",
                (parcel.seq, parcel.kind, parcel.key, parcel.body),
            )
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == _FULL and self._at_limit():
                return False
            raise
        except MemoryError as error:  # the index of the log is mapped, and its file cannot grow
            raise sqlite3.OperationalError("database or disk is full") from error
        return True

    def _at_limit(self) -> bool:
        """Whether "full" means our bound and not the disk: the next free pages are beyond it."""
        pages, free = self._pages(self._writer)
        return free < self._max_pages // 8 and pages + self._max_pages // 8 >= self._max_pages

    @staticmethod
    def _pages(connection: sqlite3.Connection) -> tuple[int, int]:
        pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
        free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
        return pages, free

    def _used(self, connection: sqlite3.Connection) -> int:
        pages, free = self._pages(connection)
        return (pages - free) * _PAGE_BYTES

    def _drop_oldest(self, under_way: int) -> int:
        # A sixty-fourth at a time, so that a full spool is not rearranged for every record.
        count = max(1, self.depth // 64)
        cursor = self._writer.execute(
            "DELETE FROM parcel WHERE seq IN "
            "(SELECT seq FROM parcel WHERE seq > ? ORDER BY seq LIMIT ?)",
            (under_way, count),
        )
        return int(cursor.rowcount)

    def oldest(self, count: int) -> list[Parcel]:
        """The oldest parcels, in order, at most ``count``."""
        rows = self._reader.execute(
            "SELECT seq, kind, body, key FROM parcel ORDER BY seq LIMIT ?", (count,)
        )
        return [Parcel(*row) for row in rows.fetchall()]

    def delete(self, numbers: tuple[int, ...]) -> None:
        """Forgets parcels that arrived, or that will never be taken.

        Raises:
            sqlite3.Error: the disk is full or broken; all of them are still there.
        """
        if not numbers:
            return
        with self._lock:
            self._reader.execute("BEGIN IMMEDIATE")
            try:
                # One statement for any number of them: SQLite keeps those it has compiled.
                gone = self._reader.executemany(
                    "DELETE FROM parcel WHERE seq = ?", ((number,) for number in numbers)
                ).rowcount
                # An empty table forgets its highest number, a number must not come twice.
                self._reader.execute(
                    "UPDATE position SET last = max(last, ?)", (max(*numbers, self._last),)
                )
                self._reader.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._reader.execute("ROLLBACK")
                raise
            self.depth -= gone
            self._changes += 1
            self.used_bytes = self._used(self._reader)

    def tidy(self, *, idle: bool) -> None:
        """Carries the log over into the database where that is due, and the disk has room for it.

        Args:
            idle: there is nothing to deliver, so now is a good time.
        """
        if self._changes < (_CHECKPOINT_ROWS // 10 if idle else _CHECKPOINT_ROWS):
            return
        self._changes = 0
        with contextlib.suppress(sqlite3.Error):  # next time; damage shows when it is read
            _, pages, _ = self._reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > _MAX_LOG_PAGES:  # most of it has been carried over by now
                with self._lock:
                    self._reader.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Closes the database, its log carried over; a second call does nothing."""
        if self._relief is not None:
            self._relief.join(_BUSY_S)
        for connection in (self._reader, self._writer):
            with contextlib.suppress(sqlite3.Error):
                connection.close()
