"""``Spool``: a sink that keeps records on the disk until a sender has delivered them."""

from __future__ import annotations

import json
import logging
import random
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import DeliveryError, WriteError
from edge_sdk.records import Record, public_json
from edge_sdk.sinks.sender import Parcel, Sender
from edge_sdk.sinks.spool_health import SpoolHealth, SpoolStatistics
from edge_sdk.sinks.spool_intake import Intake
from edge_sdk.sinks.spool_place import boot_id, device_name, lock, put_aside, unlock
from edge_sdk.sinks.spool_store import SpoolStore
from edge_sdk.sinks.sqlite_errors import is_damage
from edge_sdk.types import Health

__all__ = ["DEFAULT_MAX_BYTES", "Spool", "SpoolStatistics"]

_LOG = logging.getLogger("edgecls.spool")
DEFAULT_MAX_BYTES = 64_000_000  # about 80,000 results
_FIRST_WAIT_S, _LAST_WAIT_S, _IDLE_S = 0.5, 30.0, 1.0


class Spool:
    """Writes records to a database at once, and delivers them from a thread of its own.

    ``write`` waits for the disk at most, never for the network, and 0.1 s for whoever else has the
    database; meanwhile up to 1,000 records wait in memory, see ``spool_intake``. To each record's
    JSON it adds ``device``, ``boot_id`` and ``seq``: a record whose acknowledgement got lost is sent
    again, and its receiver knows it by these three. Numbers rise without gaps; where one is missing,
    records were dropped for want of room, oldest first. A full disk costs the records that it does
    not take, they are counted, and the loop goes on. What an operator should know of all this comes
    from ``take_health``, which ``run`` asks.

    Args:
        path: of the database; a file ``path-lock`` stands beside it.
        sender: what delivers; closed with the spool.
        max_bytes: of the database.
        name: what reports on its health say they come from; None: the file's name.
        device: what the records say they come from; None: ``spool_place.device_name``.
        linger_s: how long ``close`` goes on delivering; what is left waits for the next start.

    Attributes:
        name: see above.

    Raises:
        SpoolInUseError: another process has it open.
        SinkSpecError: ``max_bytes`` is too small.
        WriteError: it cannot be opened, or the file is something else.
    """

    def __init__(
        self,
        path: str | Path,
        sender: Sender,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        name: str | None = None,
        device: str | None = None,
        linger_s: float = 1.0,
    ) -> None:
        self._path = Path(path)
        self.name = name or self._path.name
        self._sender = sender
        self._max_bytes = max_bytes
        self._device = device_name(device)
        self._boot_id = boot_id()
        self._linger_s = linger_s
        self._delivered = self._refused = 0
        self._trouble = ""
        self._damage: sqlite3.Error | None = None
        self._set_aside: Path | None = None
        self._closed = False
        self._deadline: float | None = None
        self._wake = threading.Event()
        self._health = SpoolHealth(self._path.name)
        self._turn = threading.RLock()
        self._lock, known = lock(self._path)
        try:
            store = self._open(known)
        except BaseException:
            unlock(self._path, self._lock, forget=not known)
            raise
        self._intake = Intake(store, self._turn, self._parcel, self._tell_disk)
        self._thread = threading.Thread(target=self._drain, name="edgecls-spool", daemon=True)
        self._thread.start()

    def _open(self, known: bool) -> SpoolStore:
        try:
            return SpoolStore(self._path, self._max_bytes, self._turn)
        except sqlite3.DatabaseError as error:
            if not known:  # no spool was ever here: the user's own file, perhaps
                raise WriteError(
                    f"{self._path}: is no spool ({error}); expected a spool or no file at all, name "
                    "another one"
                ) from error
            return self._begin_anew(error)

    def _begin_anew(self, error: sqlite3.Error) -> SpoolStore:
        self._set_aside = put_aside(self._path)
        _LOG.info("%s: damaged (%s); put aside as %s", self._path, error, self._set_aside)
        return SpoolStore(self._path, self._max_bytes, self._turn)

    def _parcel(self, record: Record, seq: int) -> Parcel:
        content = public_json(record)
        content |= {"device": self._device, "boot_id": self._boot_id, "seq": seq}
        text = json.dumps(content, ensure_ascii=False)
        try:
            body = text.encode()
        except UnicodeEncodeError:  # a file name that is no text
            body = json.dumps(content).encode()
        return Parcel(seq, str(content["type"]), body, f"{self._device}:{self._boot_id}:{seq}")

    @property
    def _store(self) -> SpoolStore:
        return self._intake.store

    @property
    def statistics(self) -> SpoolStatistics:
        """How it fares; may be asked from any thread, and waits for none."""
        intake = self._intake
        return SpoolStatistics(
            intake.depth,
            intake.store.used_bytes,
            self._delivered,
            intake.dropped,
            self._refused,
            intake.unwritten,
            self._trouble,
            self._set_aside,
        )

    def take_health(self) -> Sequence[Health]:
        """What has happened since the last call, looked at once a second at most.

        ``delivery stuck`` (for 5 s) and ``delivery resumed``; ``spool full``, ``records refused`` and
        ``records lost``, each with their number and again every ten minutes; ``spool damaged``.
        """
        return self._health.look(lambda: self.statistics)

    def write(self, record: Record) -> None:
        """Keeps a record until it is delivered.

        Raises:
            WriteError: the spool is closed.
        """
        if self._closed:
            raise WriteError("this sink is closed")
        self._intake.put(record)
        self._wake.set()

    def _tell_disk(self, error: sqlite3.Error) -> None:
        _LOG.debug("%s: did not take a record (%s)", self._path, error)
        if is_damage(error):  # mended by the thread that may be using the database now
            self._damage = error
            self._wake.set()

    def close(self) -> None:
        """Delivers for a moment more, then leaves the rest to the next start."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + self._linger_s
        self._intake.end(self._linger_s / 2)
        self._deadline = deadline
        self._wake.set()
        # A sender may hang in a connection; its thread ends with the process, the records are safe.
        self._thread.join(self._linger_s + 0.5)

    def _drain(self) -> None:
        wait_s = _FIRST_WAIT_S
        try:
            while not self._over():
                self._wake.clear()
                try:
                    busy = self._deliver()
                except DeliveryError as error:
                    self._tell(str(error))
                    # Jitter: a hundred devices must not come back at the same moment.
                    self._pause(max(error.wait_s, wait_s * random.uniform(0.5, 1.0)))  # noqa: S311
                    wait_s = min(2 * wait_s, _LAST_WAIT_S)
                except sqlite3.Error as error:
                    self._mend(error)
                except Exception as error:  # noqa: BLE001  a sender's bug: told, not the end
                    _LOG.exception("a sender failed")
                    self._tell(f"{type(error).__name__}: {error}")
                    self._pause(_LAST_WAIT_S)
                else:
                    self._tell("")
                    wait_s = _FIRST_WAIT_S
                    if not busy and self._deadline is None:
                        self._wake.wait(_IDLE_S)
                        continue
                    if busy:
                        continue
                if self._deadline is not None:  # nothing left, or nobody to take it
                    break
        finally:
            try:
                self._sender.close()
            except Exception:  # noqa: BLE001  a sender's bug
                _LOG.exception("a sender could not be closed")
            self._store.close()
            unlock(self._path, self._lock)

    def _deliver(self) -> bool:
        """Hands over what is oldest; whether there was anything."""
        damage, self._damage = self._damage, None
        if damage is not None:
            raise damage
        self._intake.flush()
        self._store.tidy(idle=False)
        with self._turn:  # from here on these are not dropped to make room
            parcels = self._store.oldest(self._sender.window)
            self._intake.under_way = parcels[-1].seq if parcels else 0
        try:
            result = self._sender.deliver(parcels)
            self._delivered += len(result.acknowledged)
            self._refused += len(result.refused)
            self._forget((*result.acknowledged, *result.refused))
        finally:
            self._intake.under_way = 0
        if not parcels:
            self._store.tidy(idle=True)
        return bool(parcels)

    def _forget(self, numbers: tuple[int, ...]) -> None:
        while True:  # what has arrived must not be sent again because the disk is full for now
            try:
                self._store.delete(numbers)
                return
            except sqlite3.OperationalError as error:
                if self._deadline is not None:
                    raise
                self._tell(f"{self._path.name}: {error}")
                self._pause(_IDLE_S)

    def _mend(self, error: sqlite3.Error) -> None:
        if not is_damage(error):
            self._tell(f"{self._path.name}: {error}")
            self._pause(_IDLE_S)
            return
        with self._turn:
            self._store.close()
            try:
                self._intake.store = self._begin_anew(error)
            except (OSError, sqlite3.Error) as failure:  # the next round tries again
                self._damage = error
                self._tell(f"{self._path.name}: {failure}")
        if self._damage is not None:
            time.sleep(_IDLE_S)

    def _tell(self, trouble: str) -> None:
        if trouble and not self._trouble:
            _LOG.info("%s; records wait in %s", trouble, self._path)
        elif self._trouble and not trouble:
            _LOG.info("delivering again; %d records waited", self._store.depth)
        self._trouble = trouble

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._deadline is None and self._damage is None and time.monotonic() < until:
            self._intake.flush()
            self._store.tidy(idle=True)
            time.sleep(0.1)

    def _over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline
