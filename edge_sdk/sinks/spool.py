"""``Spool``: a sink that keeps records on the disk until a sender has delivered them."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import DeliveryError, WriteError
from edge_sdk.files import is_disk_trouble
from edge_sdk.records import Record, public_json
from edge_sdk.sinks.identity import boot_id, device_name, lock, put_aside, records_boot_id, unlock
from edge_sdk.sinks.pauses import Clock, Pauses
from edge_sdk.sinks.sender import Parcel, Sender, WatchedSender
from edge_sdk.sinks.spool_health import SpoolHealth, SpoolStatistics
from edge_sdk.sinks.spool_intake import Intake
from edge_sdk.sinks.spool_store import SpoolBlockedError, SpoolStore, readable_rows
from edge_sdk.sinks.sqlite_errors import is_damage
from edge_sdk.types import Health

__all__ = ["DEFAULT_MAX_BYTES", "Spool", "SpoolStatistics"]

_LOG = logging.getLogger("edgecls.spool")
DEFAULT_MAX_BYTES = 64_000_000  # about 80,000 results
_LAST_WAIT_S, _IDLE_S, _NAP_S = 30.0, 1.0, 0.1


class Spool:
    """Writes records to a database at once, and delivers them from a thread of its own.

    ``write`` waits for the disk at most, never for the network, and 0.1 s for whoever else has the
    database; meanwhile up to 1,000 records wait in memory, see ``spool_intake``. To each record's
    JSON it adds ``device``, ``boot_id`` and ``seq``: a record whose acknowledgement got lost is sent
    again, and its receiver knows it by these three. Numbers rise without gaps; where one is missing,
    records were dropped for want of room, oldest first. A full disk costs the records that it does
    not take, they are counted, and the loop goes on. A disk that is full at the start is no error
    either: the spool is opened as soon as that works, and up to 1,000 records wait in memory. What an
    operator should know of all this comes from ``take_health``, which ``run`` asks.

    Args:
        path: of the database; a file ``path-lock`` stands beside it.
        sender: what delivers; closed with the spool.
        max_bytes: of the database.
        name: what reports on its health say they come from; None: the file's name.
        device: what the records say they come from; None: ``spool_place.device_name``.
        service: tells several runs of one device apart, in records too; None: there is one.
        linger_s: how long ``close`` goes on delivering; what is left waits for the next start.
        clock: what pauses are measured with.

    Attributes:
        name: see above.

    Raises:
        SpoolInUseError: another process has it open.
        SinkSpecError: ``max_bytes`` is too small.
        WriteError: it cannot be opened at this place, or the file is something else.
    """

    def __init__(
        self,
        path: str | Path,
        sender: Sender,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        name: str | None = None,
        device: str | None = None,
        service: str | None = None,
        linger_s: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        self._path = Path(path)
        self.name = name or self._path.name
        self._sender = WatchedSender(sender)
        self._max_bytes = max_bytes
        self._device = device_name(device)
        self._service = service
        self._boot_id = boot_id()
        self._linger_s = linger_s
        self._clock = clock or Clock()
        self._pauses = Pauses()
        self._delivered = self._refused = self._damaged = 0
        self._trouble = self._blocked = ""
        self._damage: sqlite3.Error | None = None  # seen, and nothing done about it yet
        self._broken: sqlite3.Error | None = None  # why the file is to be put aside
        self._set_aside: Path | None = None
        self._closed = False
        self._deadline: float | None = None
        self._wake = threading.Event()
        self._health = SpoolHealth(self._path.name)
        self._turn = threading.RLock()
        self._intake = Intake(None, self._turn, self._parcel, self._tell_disk)
        self._lock: int | None = None
        self._known = False
        try:
            self._open()
        except SpoolBlockedError as error:  # start-up is no stricter than running
            self._tell_blocked(error)
        except BaseException:
            self._let_go()
            raise
        self._thread = threading.Thread(target=self._drain, name="edgecls-spool", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        """Takes the file for this process and opens it; puts a damaged one aside before.

        Raises:
            SpoolBlockedError: not now.
            SpoolInUseError, WriteError: not at this place.
        """
        try:
            if self._lock is None:
                self._lock, self._known = lock(self._path)
            store = self._open_store() if self._broken is None else self._begin_anew(self._broken)
        except OSError as error:
            if is_disk_trouble(error) and not isinstance(error, SpoolBlockedError):
                raise SpoolBlockedError(str(error)) from error
            raise
        self._records_boot_id = records_boot_id(self._boot_id, store.identity)
        with self._turn:
            self._intake.store = store
        self._known, self._broken, self._blocked = True, None, ""

    def _open_store(self) -> SpoolStore:
        try:
            return SpoolStore(self._path, self._max_bytes, self._turn)
        except sqlite3.DatabaseError as error:
            if not self._known:  # no spool was ever here: the user's own file, perhaps
                raise WriteError(
                    f"{self._path}: is no spool ({error}); expected a spool or no file at all, name "
                    "another one"
                ) from error
            self._damaged += readable_rows(self._path)
            self._broken = error
            return self._begin_anew(error)

    def _begin_anew(self, error: sqlite3.Error) -> SpoolStore:
        if self._path.exists():
            try:
                self._set_aside = put_aside(self._path)
            except OSError as reason:
                raise WriteError(
                    f"{self._path}: is damaged ({error}), and cannot be put aside "
                    f"({reason.strerror or reason}); allow writing to its folder, or name another file "
                    "with --spool FILE"
                ) from reason
            _LOG.info("%s: damaged (%s); put aside as %s", self._path, error, self._set_aside)
        return SpoolStore(self._path, self._max_bytes, self._turn)

    def _let_go(self) -> None:
        if self._lock is not None:
            unlock(self._path, self._lock, forget=not self._known)
            self._lock = None

    def _tell_blocked(self, error: WriteError) -> None:
        # Viewers of the web page read it, too: it names no folder.
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        said = getattr(reason, "strerror", None) or str(reason) or "the disk is full"
        self._blocked = f"{self._path.name} cannot be opened ({said})"
        self._tell(self._blocked)

    def _parcel(self, record: Record, seq: int) -> Parcel:
        content = public_json(record)
        content |= {"device": self._device, "boot_id": self._records_boot_id, "seq": seq}
        if self._service is not None:
            content["service"] = self._service
        text = json.dumps(content, ensure_ascii=False)
        try:
            body = text.encode()
        except UnicodeEncodeError:  # a file name that is no text
            body = json.dumps(content).encode()
        key = f"{self._device}:{self._records_boot_id}:{seq}".encode("utf-8", "replace").decode()
        return Parcel(seq, str(content["type"]), body, key)

    @property
    def statistics(self) -> SpoolStatistics:
        """How it fares; may be asked from any thread, and waits for none."""
        intake = self._intake
        store = intake.store
        return SpoolStatistics(
            intake.depth,
            store.used_bytes if store is not None else 0,
            self._delivered,
            intake.dropped,
            self._refused,
            intake.unwritten,
            self._trouble,
            self._set_aside,
            self._damaged,
            self._blocked,
            unanswered_s=self._sender.unanswered_s,
        )

    def take_health(self) -> Sequence[Health]:
        """What has happened since the last call, looked at once a second at most.

        ``delivery stuck`` (for 5 s) and ``delivery resumed``; ``spool full``, ``records refused`` and
        ``records lost`` and ``records damaged``, each with their number and again every ten minutes;
        ``spool damaged``; ``spool unavailable`` and ``spool available``, where it cannot be opened.
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
        deadline = self._clock.now_s() + self._linger_s
        self._intake.end(self._linger_s / 2)
        self._deadline = deadline
        self._wake.set()
        # A sender may hang in a connection; its thread ends with the process, the records are safe.
        self._thread.join(self._linger_s + 0.5)

    def _drain(self) -> None:
        try:
            while not self._over():
                self._wake.clear()
                try:
                    busy = self._deliver()
                except DeliveryError as error:
                    self._tell(str(error))
                    self._pause(self._pauses.pause_s(error.wait_s), damage_ends_it=True)
                except SpoolBlockedError as error:
                    self._tell_blocked(error)
                    self._pause(_IDLE_S)
                except WriteError as error:  # a damaged file that cannot be put aside
                    self._tell(str(error))
                    self._pause(_IDLE_S)
                except sqlite3.Error as error:
                    self._mend(error)
                except Exception as error:  # noqa: BLE001  a sender's bug: told, not the end
                    _LOG.exception("a sender failed")
                    self._tell(f"{type(error).__name__}: {error}")
                    self._pause(_LAST_WAIT_S, damage_ends_it=True)
                else:
                    self._tell("")
                    self._pauses.reset()
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
            if self._intake.store is not None:
                self._intake.store.close()
            self._let_go()

    def _deliver(self) -> bool:
        """Hands over what is oldest; whether there was anything."""
        damage, self._damage = self._damage, None
        if damage is not None:
            raise damage
        if self._intake.store is None:
            self._open()
        store = self._intake.store
        assert store is not None
        self._intake.flush()
        store.tidy(idle=False)
        with self._turn:  # from here on these are not dropped to make room
            oldest = store.oldest(self._sender.window)
            sent = {parcel.seq for parcel in oldest.parcels}
            self._intake.under_way = max((*sent, *oldest.damaged), default=0)
        try:
            if oldest.damaged:
                self._forget(store, oldest.damaged)
                self._damaged += len(oldest.damaged)
            if oldest.damaged and not sent:
                return True
            result = self._sender.deliver(oldest.parcels)
            arrived, refused = (
                sent.intersection(result.acknowledged),
                sent.intersection(result.refused),
            )
            self._delivered += len(arrived)
            self._refused += len(refused - arrived)
            self._forget(store, tuple(arrived | refused))
        finally:
            self._intake.under_way = 0
        if not sent:
            store.tidy(idle=True)
        return bool(sent)

    def _forget(self, store: SpoolStore, numbers: tuple[int, ...]) -> None:
        while True:  # what has arrived must not be sent again because the disk is full for now
            try:
                store.delete(numbers)
                return
            except sqlite3.OperationalError as error:
                if self._deadline is not None:
                    raise
                if self._damage is not None:  # the whole database is put aside
                    raise self._damage from error
                self._tell(f"{self._path.name}: {error}")
                self._pause(_IDLE_S)

    def _mend(self, error: sqlite3.Error) -> None:
        """Puts a damaged database aside; a pause follows in any case."""
        store = self._intake.store
        if not is_damage(error) or store is None:
            self._tell(f"{self._path.name}: {error}")
            self._pause(_IDLE_S)
            return
        with self._turn:
            self._intake.store = self._damage = None
            self._damaged += store.depth
            store.close()
            self._broken = error
            try:
                self._open()
            except SpoolBlockedError as failure:
                self._tell_blocked(failure)
            except (WriteError, sqlite3.Error) as failure:  # the next round tries again
                self._tell(f"{self._path.name}: {failure}")
        self._pause(_IDLE_S)

    def _tell(self, trouble: str) -> None:
        if trouble and not self._trouble:
            _LOG.info("%s; records wait in %s", trouble, self._path)
        elif self._trouble and not trouble:
            _LOG.info("delivering again; %d records waited", self._intake.depth)
        self._trouble = trouble

    def _pause(self, seconds: float, *, damage_ends_it: bool = False) -> None:
        """Waits, and takes what comes meanwhile.

        Args:
            seconds: how long.
            damage_ends_it: whether damage that is seen meanwhile is looked after at once; never in a
                pause that follows damage, or an attempt would follow an attempt without one.
        """
        until = self._clock.now_s() + seconds
        while self._deadline is None and self._clock.now_s() < until:
            if damage_ends_it and self._damage is not None:
                return
            self._intake.flush()
            if self._intake.store is not None:
                self._intake.store.tidy(idle=True)
            self._clock.sleep(_NAP_S)

    def _over(self) -> bool:
        return self._deadline is not None and self._clock.now_s() >= self._deadline
