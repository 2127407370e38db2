"""A bounded queue of records on disk, in SQLite, consistent after a ``kill -9`` or a power cut.

https://www.sqlite.org/rescode.html

There are two connections: one for the loop's thread, which only appends, and one for the delivery
thread, which reads, deletes, and checkpoints the write-ahead log (that waits for the disk). Commits
are not flushed one by one (``synchronous=NORMAL``): a killed process loses nothing, a power cut the
last seconds. https://www.sqlite.org/wal.html

SQLite checks the structure of its file but not the content, so every parcel has a CRC-32 of all that
is delivered. A CRC, not a keyed hash: it detects bit errors of an SD card, all but one in four billion,
and a user who can write to the spool could write matching checksums as well.

While another user holds the database (the delivery thread, a repair, the ``sqlite3`` tool) the loop
waits briefly, and not again for a second. Meanwhile a bounded number of records wait in memory; so they
do while the database cannot be opened because the disk was full at the start.
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
    """Whether the file is corrupt, as opposed to a disk that is full or removed."""
    return _code(error) in _DAMAGE


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds the database."""
    return _code(error) in _BUSY


def may_pass(error: sqlite3.Error | MemoryError, folder: Path) -> bool:
    """Whether a database that cannot be opened now may be opened later.

    A full or failing disk and a lock of another process may pass; an invalid path does not. SQLite's
    "unable to open" means either, so a test file is created in ``folder``.
    """
    if isinstance(error, MemoryError):  # the log's index is memory-mapped, and its file cannot grow
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
    """An error as SQLite raises it for a corrupt file, see ``is_damage``."""
    error = sqlite3.DatabaseError(reason)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


_APPLICATION = 0x45434C53  # "ECLS", SQLite's application_id
# Version 2 added checksums and an identity.
_SCHEMA = 2
_PAGE_BYTES = 4096
MIN_BYTES = 32 * _PAGE_BYTES
_CHECKPOINT_ROWS = 500
# Above this the log is truncated while the loop's records wait in memory: it would grow without limit
# under a loop that never pauses. The second limit is for a sender that hangs.
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
    """The parcels to deliver next.

    Attributes:
        parcels: in order.
        damaged: numbers of parcels with a wrong checksum.
    """

    parcels: tuple[Parcel, ...]
    damaged: tuple[int, ...]


class SpoolStore:
    """The database of a spool. ``append`` needs ``lock`` held; one thread calls the other methods.

    Attributes:
        depth: number of waiting parcels.
        used_bytes: of the database's pages in use.
        identity: random ID of this database, created with it.

    Args:
        path: of the database; created if absent.
        max_bytes: of the database file; its log may add 10 MB, 40 MB while a sender hangs.
        lock: SQLite allows one writer at a time; this lock is fairer than SQLite's.

    Raises:
        sqlite3.DatabaseError: the file is damaged, see ``is_damage``.
        SinkSpecError: ``max_bytes`` is too small for a database.
        SpoolBlockedError: the disk is full or fails, or another process holds the database.
        WriteError: it cannot be opened, or is another program's database.
    """

    def __init__(self, path: Path, max_bytes: int, lock: Lock) -> None:
        if max_bytes < MIN_BYTES:
            raise SinkSpecError(
                f"{path}: a spool of {max_bytes} bytes; expected at least {MIN_BYTES}, the minimum of "
                "the database"
            )
        self._path = path
        self._max_pages = max_bytes // _PAGE_BYTES
        self._lock = lock
        self._checkpointing: threading.Thread | None = None
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
                "name a file in a writable folder with --spool FILE"
            ) from error
        self._reader.text_factory = bytes  # damaged text need not be UTF-8
        self._writer.execute(f"PRAGMA busy_timeout = {round(_LOOP_WAIT_S * 1000)}")

    def _read_position(self) -> None:
        """Reads the last number and the identity; replaces a damaged row."""
        connection = self._writer
        self.depth, highest = connection.execute("SELECT count(*), max(seq) FROM parcel").fetchone()
        connection.text_factory = bytes
        rows = connection.execute("SELECT last, unchecked, identity, crc FROM position").fetchall()
        connection.text_factory = str
        if len(rows) == 1 and rows[0][3] == _checksum(*rows[0][:3]):
            last, self._unchecked, identity = rows[0][:3]
            self._last, self.identity = max(last, highest or 0), identity.decode()
            return
        # With a new identity no key repeats; waiting parcels keep their keys.
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
        with contextlib.suppress(OSError):  # SQLite's error message is better
            # Only the owner may read the records; SQLite gives the log the same mode.
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
                f"{self._path}: is a database, but not a spool of this version; expected a spool or no "
                "file, name another file"
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
        """Upgrades a spool of version 1; its waiting parcels have no checksums."""
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
        """Adds a parcel; drops the oldest ones if there is no room. The caller holds the lock.

        Args:
            parcel: its ``seq`` is ``next_seq``.
            under_way: the highest number in delivery; no parcel up to it is dropped.

        Returns:
            How many were dropped, including the parcel itself if it is larger than a quarter of the
            spool.

        Raises:
            sqlite3.Error: the disk is full or fails, or another connection holds the database for
                longer than the loop waits (``is_busy``); the parcel was not added.
        """
        dropped, last = 0, self._last
        try:
            self._last = parcel.seq  # a lost record leaves a gap in the numbers
            if len(parcel.body) > self._max_pages * _PAGE_BYTES // 4:
                return 1  # it would displace too many others
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
                self._start_checkpoint()
        except sqlite3.Error as error:
            self._last = last if is_busy(error) else parcel.seq
            raise
        return dropped

    def _start_checkpoint(self) -> None:
        """Checkpoints the log in a new thread: the loop must not wait, and the delivery thread hangs."""
        if self._checkpointing is None or not self._checkpointing.is_alive():
            self._changes = 0
            self._checkpointing = threading.Thread(
                target=self._checkpoint, name="edgecls-spool-log", daemon=True
            )
            self._checkpointing.start()

    def _checkpoint(self) -> None:
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
        except MemoryError as error:  # the log's index is memory-mapped, and its file cannot grow
            raise sqlite3.OperationalError("database or disk is full") from error
        return True

    def _at_limit(self) -> bool:
        """Whether "full" means ``max_bytes`` and not the disk: the database is close to that limit."""
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
        # 1/64 at a time, so that a full spool does not delete rows for every record.
        count = max(1, self.depth // 64)
        cursor = self._writer.execute(
            "DELETE FROM parcel WHERE seq IN "
            "(SELECT seq FROM parcel WHERE seq > ? ORDER BY seq LIMIT ?)",
            (under_way, count),
        )
        return int(cursor.rowcount)

    def oldest(self, count: int) -> Oldest:
        """The oldest parcels, in order, at most ``count`` including damaged ones."""
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
        """Deletes parcels that were delivered, damaged or refused for good.

        Raises:
            sqlite3.Error: the disk is full or fails, and none was deleted. Damage (``is_damage``) also
                if an existing row cannot be found.
        """
        if not numbers:
            return
        with self._lock:
            self._reader.execute("BEGIN IMMEDIATE")
            try:
                # One statement for any number of rows: SQLite caches compiled statements.
                gone = self._reader.executemany(
                    "DELETE FROM parcel WHERE seq = ?", ((number,) for number in numbers)
                ).rowcount
                if gone != len(numbers) and self._still_there(numbers):
                    raise corrupt("a row that is read cannot be found")
                # An empty table loses its highest number, and a number must not repeat.
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
        """Whether a table scan finds rows that an index search has not found."""
        rows = self._reader.execute("SELECT seq FROM parcel ORDER BY seq LIMIT ?", (len(numbers),))
        return any(seq in numbers for (seq,) in rows.fetchall())

    def tidy(self, *, idle: bool) -> None:
        """Checkpoints the log if it is long enough; errors are retried at the next call.

        Args:
            idle: there is nothing to deliver, so a shorter log is checkpointed too.
        """
        if self._changes < (_CHECKPOINT_ROWS // 10 if idle else _CHECKPOINT_ROWS):
            return
        self._changes = 0
        with contextlib.suppress(sqlite3.Error):  # retried later; damage is detected on reading
            _, pages, _ = self._reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > _MAX_LOG_PAGES:  # most of it is checkpointed by now
                with self._lock:
                    self._reader.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Closes the database, with its log checkpointed; a second call does nothing."""
        if self._checkpointing is not None:
            self._checkpointing.join(_BUSY_S)
        for connection in (self._reader, self._writer):
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def readable_rows(path: Path) -> int:
    """Number of parcels that can be counted in a damaged database; the file is not changed."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
        ) as one,
    ):
        return int(one.execute("SELECT count(*) FROM parcel").fetchone()[0])
    return 0


def _checksum(*values: Any) -> int:
    """CRC-32 of a row: numbers, texts and bytes, each preceded by its length."""
    crc = 0
    for value in values:
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        crc = zlib.crc32(raw, zlib.crc32(b"%d:" % len(raw), crc))
    return crc


def _is_old_body(body: Any, seq: int) -> bool:
    """Whether a record without a checksum is valid JSON with the right number."""
    try:
        content = json.loads(body)
    except (TypeError, ValueError):
        return False
    return isinstance(content, dict) and content.get("seq") == seq


# For the spool's lock, and the same for SQLite's: 0.1 s together, once a second at most.
WAIT_S = 0.05
# While no other process holds the database: the delivery thread releases the lock soon, even on a busy
# machine, and a record in memory is lost if the process is killed.
_OWN_WAIT_S = 0.3
_BACK_OFF_S = 1.0
# With a full queue the loop waits rather than loses a record; a camera does not fill it that fast.
_FULL_WAIT_S = 1.0
# Half a minute of a camera, about 1 MB.
MAX_WAITING = 1000
# Waiting records written per call, so that the loop is not delayed.
_AT_ONCE = 100


class Intake:
    """Queues records for a store; one thread calls ``put``, any thread ``flush``.

    Args:
        store: the database; None: it cannot be opened at the moment.
        lock: must be held to write to the database or to replace ``store``.
        parcel: builds the parcel of a record and its number.
        on_error: called with the error if a record could not be written and is lost.

    Attributes:
        store: may be replaced while holding ``lock``.
        under_way: the highest number in delivery: no record up to it is dropped.
        dropped: oldest records, deleted to make room for newer ones.
        unwritten: records that were lost.
    """

    def __init__(
        self,
        store: SpoolStore | None,
        lock: threading.RLock,
        parcel: Callable[[Record, int], Parcel],
        on_error: Callable[[sqlite3.Error], None],
    ) -> None:
        self.store = store
        self.under_way = self.dropped = self.unwritten = 0
        self._lock = lock
        self._parcel = parcel
        self._on_error = on_error
        self._waiting: deque[Record] = deque()
        self._may_wait_s = float("-inf")  # from this time on the lock may be waited for again
        self._may_wait_full_s = float("-inf")  # the same with a full queue
        self._held_elsewhere = False  # another process holds the database

    @property
    def depth(self) -> int:
        """Records that wait, in the database or before it."""
        store = self.store
        return (store.depth if store is not None else 0) + len(self._waiting)

    def put(self, record: Record) -> None:
        """Writes a record, or keeps it in memory while the database is locked."""
        now_s = time.monotonic()
        if self._is_full:
            if now_s >= self._may_wait_full_s and not self._held_elsewhere:
                self.flush(_FULL_WAIT_S)
                self._may_wait_full_s = time.monotonic() + (_BACK_OFF_S if self._is_full else 0.0)
            if self._is_full:
                self.unwritten += 1
                return
        self._waiting.append(record)
        may_wait = now_s >= self._may_wait_s
        if (
            may_wait or not self._held_elsewhere
        ):  # SQLite would wait again; the spool's lock need not
            self.flush((WAIT_S if self._held_elsewhere else _OWN_WAIT_S) if may_wait else 0.0)

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= MAX_WAITING

    def flush(self, wait_s: float = WAIT_S) -> bool:
        """Writes up to 100 records from memory; returns whether none is left."""
        if not self._waiting:
            return True
        if not self._lock.acquire(timeout=wait_s):
            if wait_s > 0:
                self._back_off()
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
            self._lock.release()
        return not self._waiting

    def _write(self, store: SpoolStore, record: Record) -> bool:
        """Writes a record; False: the database is locked, try again later."""
        try:
            parcel = self._parcel(record, store.next_seq)
            self.dropped += store.append(parcel, self.under_way)
        except sqlite3.Error as error:
            self._held_elsewhere = is_busy(error)
            if self._held_elsewhere:
                self._back_off()
                return False
            self.unwritten += 1
            self._on_error(error)
        else:
            self._held_elsewhere = False
        return True

    def _back_off(self) -> None:
        self._may_wait_s = time.monotonic() + _BACK_OFF_S

    def end(self, seconds: float) -> None:
        """Writes the queue for at most ``seconds``; the rest is counted as lost."""
        end_s = time.monotonic() + seconds
        while not self.flush() and self.store is not None and time.monotonic() < end_s:
            time.sleep(0.01)
        self.unwritten += len(self._waiting)
        self._waiting.clear()
