"""The loop's side of a spool: records go into the database, and the loop waits for nobody.

Whoever else has the database (the thread that delivers, a repair, somebody with ``sqlite3``) makes
the loop wait a moment, and not again for a second. Until then records wait in memory, a bounded number;
so they do while the database cannot be opened, because the disk was full when the process started.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable

from edge_sdk.records import Record
from edge_sdk.sinks.sender import Parcel
from edge_sdk.sinks.spool_store import SpoolStore
from edge_sdk.sinks.sqlite_errors import is_busy

# For our own lock, and as long for SQLite's: 0.1 s, once a second at most.
WAIT_S = 0.05
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
            self.flush(WAIT_S if patient else 0.0)

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
