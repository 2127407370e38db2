"""A bounded queue of records on the disk: SQLite, which a ``kill -9`` or a power cut leaves whole.

https://www.sqlite.org/rescode.html

Two connections: one for the loop's thread, which only appends and waits for nobody, and one for the
thread that delivers, which reads, deletes, and carries the write-ahead log over into the database
(that waits for the disk). Commits are not flushed one by one (``synchronous=NORMAL``): a killed
process loses nothing, a power cut the last seconds. https://www.sqlite.org/wal.html

SQLite checks the structure of its file and not what stands in it, so every parcel has a CRC-32 of all
that is delivered. A CRC and not a keyed hash: it is there against bits that an SD card loses, of which
it misses one case in four billion, and who may write to the spool could write its checksums as well.

Whoever else has the database (the thread that delivers, a repair, somebody with ``sqlite3``) makes
the loop wait a moment, and not again for a second. Until then records wait in memory, a bounded number;
so they do while the database cannot be opened, because the disk was full when the process started.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
import threading
import time
import uuid
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.errors import SinkSpecError, WriteError
from edge_sdk.files import is_disk_trouble
from edge_sdk.sinks.identity import first_number
from edge_sdk.sinks.sender import Parcel
from edge_sdk.types import Record

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


_APPLICATION = 0x45434C53  # "ECLS", SQLite's mark for whose file it is
# 2: checksums, and an identity.
_SCHEMA = 2
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
_POSITION = "CREATE TABLE position (last INTEGER, unchecked INTEGER, identity TEXT, crc INTEGER)"


Lock = AbstractContextManager[bool]


class SpoolBlockedError(WriteError):
    """The disk is full or fails for now: the spool may be opened later."""


@dataclass(frozen=True, slots=True)
class Oldest:
    """What is to be delivered next.

    Attributes:
        parcels: in order.
        damaged: numbers of parcels among them whose checksum is wrong.
    """

    parcels: tuple[Parcel, ...]
    damaged: tuple[int, ...]


class SpoolStore:
    """The database of a spool. ``append`` belongs to whoever holds ``lock``, the other verbs to a thread.

    Attributes:
        depth: parcels that are waiting.
        used_bytes: pages of the database that hold something.
        identity: of this database, random, made with it: no other has it.

    Args:
        path: of the database; made if absent.
        max_bytes: of the database file; its log may add 10 MB, 40 MB while a sender hangs.
        lock: SQLite takes one writer at a time; waiting in line for a lock of ours is fairer.

    Raises:
        sqlite3.DatabaseError: the file is damaged, see ``is_damage``.
        SinkSpecError: ``max_bytes`` is too small for a database.
        SpoolBlockedError: the disk is full or fails, or another process holds the database.
        WriteError: it cannot be opened, or is another program's database.
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
        self.depth = self.used_bytes = self._last = self._unchecked = 0
        self.identity = ""
        try:
            self._writer = self._connect()
            try:
                self._prepare()
                self._reader = self._connect()
                self._read_position()
                self.used_bytes = self._used(self._writer)
            except BaseException:
                self._writer.close()
                raise
        except (sqlite3.Error, MemoryError) as error:
            if isinstance(error, sqlite3.Error) and is_damage(error):
                raise
            kind = SpoolBlockedError if may_pass(error, path.parent) else WriteError
            raise kind(
                f"{path}: the spool cannot be opened ({error or 'disk is full'}); free some space, or "
                "name a file in a folder that may be written to with --spool FILE"
            ) from error
        self._reader.text_factory = bytes  # damaged text need not be UTF-8
        self._writer.execute(f"PRAGMA busy_timeout = {round(_LOOP_WAIT_S * 1000)}")

    def _read_position(self) -> None:
        """Where to go on counting; a position that is damaged is written new."""
        connection = self._writer
        self.depth, highest = connection.execute("SELECT count(*), max(seq) FROM parcel").fetchone()
        connection.text_factory = bytes
        rows = connection.execute("SELECT last, unchecked, identity, crc FROM position").fetchall()
        connection.text_factory = str
        if len(rows) == 1 and rows[0][3] == _checksum(*rows[0][:3]):
            last, self._unchecked, identity = rows[0][:3]
            self._last, self.identity = max(last, highest or 0), identity.decode()
            return
        # A new identity makes every number new; the parcels that are there keep theirs.
        self._last = max(first_number(), highest or 0)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM position")
        self._begin_position(unchecked=0)
        connection.execute("COMMIT")

    def _begin_position(self, unchecked: int) -> None:
        self.identity = uuid.uuid4().hex
        row = (self._last, unchecked, self.identity)
        self._writer.execute("INSERT INTO position VALUES (?, ?, ?, ?)", (*row, _checksum(*row)))

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
        if tables and (owner != _APPLICATION or version not in (1, _SCHEMA)):
            raise WriteError(
                f"{self._path}: is a database, but no spool of this version; expected a spool or no "
                "file at all, name another one"
            )
        if tables:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise corrupt(verdict)
            if version == 1:
                self._upgrade()
            return
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        connection.execute(
            "CREATE TABLE parcel "
            "(seq INTEGER PRIMARY KEY, kind TEXT, key TEXT, body BLOB, crc INTEGER)"
        )
        connection.execute(_POSITION)
        self._last = first_number()
        self._begin_position(unchecked=0)
        connection.execute("COMMIT")

    def _upgrade(self) -> None:
        """Makes a spool of version 1 one of this version; what waits in it has no checksums."""
        connection = self._writer
        connection.execute("BEGIN IMMEDIATE")
        (last,) = connection.execute("SELECT max(last) FROM position").fetchone()
        (highest,) = connection.execute("SELECT max(seq) FROM parcel").fetchone()
        self._last = max(last or first_number(), highest or 0)
        connection.execute("ALTER TABLE parcel ADD COLUMN crc INTEGER")
        connection.execute("DROP TABLE position")
        connection.execute(_POSITION)
        self._begin_position(unchecked=highest or 0)
        connection.execute(f"PRAGMA user_version = {_SCHEMA}")
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
        row = (parcel.seq, parcel.kind, parcel.key, parcel.body)
        try:
            self._writer.execute(
                "INSERT INTO parcel VALUES (?, ?, ?, ?, ?)",
                (*row, _checksum(*row)),
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

    def oldest(self, count: int) -> Oldest:
        """The oldest parcels, in order, at most ``count`` with the damaged ones among them."""
        rows = self._reader.execute(
            "SELECT seq, kind, key, body, crc FROM parcel ORDER BY seq LIMIT ?", (count,)
        ).fetchall()
        parcels, damaged = [], []
        for seq, kind, key, body, crc in rows:
            if crc == _checksum(seq, kind, key, body) or (
                crc is None and seq <= self._unchecked and _is_old_body(body, seq)
            ):
                parcels.append(Parcel(seq, kind.decode(), body, key.decode()))
            else:
                damaged.append(seq)
        return Oldest(tuple(parcels), tuple(damaged))

    def delete(self, numbers: tuple[int, ...]) -> None:
        """Forgets parcels that arrived, or that will never be taken.

        Raises:
            sqlite3.Error: the disk is full or broken; all of them are still there. Damage
                (``is_damage``) also where one of them cannot be found again.
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
                if gone != len(numbers) and self._still_there(numbers):
                    raise corrupt("a row that is read cannot be found")
                # An empty table forgets its highest number, a number must not come twice.
                row = (self._last, self._unchecked, self.identity)
                self._reader.execute(
                    "UPDATE position SET last = ?, crc = ?", (self._last, _checksum(*row))
                )
                self._reader.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._reader.execute("ROLLBACK")
                raise
            self.depth -= gone
            self._changes += 1
            self.used_bytes = self._used(self._reader)

    def _still_there(self, numbers: tuple[int, ...]) -> bool:
        """Whether a walk through the table meets rows that a search has not found."""
        rows = self._reader.execute("SELECT seq FROM parcel ORDER BY seq LIMIT ?", (len(numbers),))
        return any(seq in numbers for (seq,) in rows.fetchall())

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


def readable_rows(path: Path) -> int:
    """How many parcels a damaged database still shows, as far as it can be read; it is not changed."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
        ) as one,
    ):
        return int(one.execute("SELECT count(*) FROM parcel").fetchone()[0])
    return 0


def _checksum(*values: Any) -> int:
    """Of a row: numbers, texts and bytes, each with its kind and length."""
    crc = 0
    for value in values:
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        crc = zlib.crc32(raw, zlib.crc32(b"%d:" % len(raw), crc))
    return crc


def _is_old_body(body: Any, seq: int) -> bool:
    """Whether a record from before there were checksums still reads as what it was."""
    try:
        content = json.loads(body)
    except (TypeError, ValueError):
        return False
    return isinstance(content, dict) and content.get("seq") == seq


# For our own lock, and as long for SQLite's: 0.1 s, once a second at most.
WAIT_S = 0.05
# Where no other process has been seen: our own thread gives the lock back soon, also on a machine that
# is busy, and a record that waits in memory is lost with a process that is killed.
_OWN_WAIT_S = 0.3
_REST_S = 1.0
# A loop that fills the memory within this is no camera's: it may wait rather than lose.
_FULL_WAIT_S = 1.0
# Half a minute of a camera, about a megabyte.
MAX_WAITING = 1000
# So many are made up for with one record, so that the loop is not held up by that either.
_AT_ONCE = 100


class Intake:
    """Takes records for a store; ``put`` belongs to one thread, ``flush`` to any.

    Args:
        store: where they go; None: it cannot be opened for now.
        turn: held by whoever writes to the database or replaces ``store``.
        parcel: makes a record with its number ready to be sent.
        fails: is told why the database did not take a record, which is lost.

    Attributes:
        store: may be replaced by who holds ``turn``.
        under_way: the highest number that is being delivered: up to there nothing makes room.
        dropped: records that made room for newer ones.
        unwritten: records that were lost.
    """

    def __init__(
        self,
        store: SpoolStore | None,
        turn: threading.RLock,
        parcel: Callable[[Record, int], Parcel],
        fails: Callable[[sqlite3.Error], None],
    ) -> None:
        self.store = store
        self.under_way = self.dropped = self.unwritten = 0
        self._turn = turn
        self._parcel = parcel
        self._fails = fails
        self._waiting: deque[Record] = deque()
        self._patient_s = float("-inf")  # from then on it is waited again
        self._full_s = float("-inf")  # and with a full memory
        self._theirs = False  # it is somebody outside of this process who has the database

    @property
    def depth(self) -> int:
        """Records that wait, in the database or before it."""
        store = self.store
        return (store.depth if store is not None else 0) + len(self._waiting)

    def put(self, record: Record) -> None:
        """Writes a record, or keeps it in memory while the database is somebody else's."""
        now_s = time.monotonic()
        if self._is_full:
            if now_s >= self._full_s and not self._theirs:
                self.flush(_FULL_WAIT_S)
                self._full_s = time.monotonic() + (_REST_S if self._is_full else 0.0)
            if self._is_full:
                self.unwritten += 1
                return
        self._waiting.append(record)
        patient = now_s >= self._patient_s
        if patient or not self._theirs:  # SQLite would wait again, our lock is asked in passing
            self.flush((WAIT_S if self._theirs else _OWN_WAIT_S) if patient else 0.0)

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= MAX_WAITING

    def flush(self, wait_s: float = WAIT_S) -> bool:
        """Writes what waits in memory, as much as is quick; whether nothing is left."""
        if not self._waiting:
            return True
        if not self._turn.acquire(timeout=wait_s):
            if wait_s > 0:
                self._rest()
            return False
        try:
            store = self.store
            if store is None:
                return False
            for _ in range(min(_AT_ONCE, len(self._waiting))):
                if not self._write(store, self._waiting[0]):
                    break
                self._waiting.popleft()
        finally:
            self._turn.release()
        return not self._waiting

    def _write(self, store: SpoolStore, record: Record) -> bool:
        """Whether nothing more is to be done for the record; False: later."""
        try:
            parcel = self._parcel(record, store.next_seq)
            self.dropped += store.append(parcel, self.under_way)
        except sqlite3.Error as error:
            self._theirs = is_busy(error)
            if self._theirs:
                self._rest()
                return False
            self.unwritten += 1
            self._fails(error)
        else:
            self._theirs = False
        return True

    def _rest(self) -> None:
        self._patient_s = time.monotonic() + _REST_S

    def end(self, seconds: float) -> None:
        """Writes what waits, for so long; the rest is counted as lost."""
        end_s = time.monotonic() + seconds
        while not self.flush() and self.store is not None and time.monotonic() < end_s:
            time.sleep(0.01)
        self.unwritten += len(self._waiting)
        self._waiting.clear()
