"""``Spool``: a sink that keeps records on the disk until a sender has delivered them."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.errors import DeliveryError, WriteError
from edge_sdk.files import is_disk_trouble
from edge_sdk.retry import Clock, Pauses
from edge_sdk.sinks.identity import boot_id, device_name, lock, put_aside, records_boot_id, unlock
from edge_sdk.sinks.sender import Parcel, Sender, WatchedSender
from edge_sdk.sinks.spool_store import (
    Intake,
    SpoolBlockedError,
    SpoolStore,
    is_damage,
    readable_rows,
)
from edge_sdk.types import Health, HealthKind, Record, public_json

_LOOK_S = 1.0
# A broker that restarts is back within seconds: nobody needs to be woken.
_STUCK_S = 5.0
# What goes on is told again so often, with how much it came to.
_AGAIN_S = 600.0


@dataclass(frozen=True, slots=True)
class SpoolStatistics:
    """How a spool fares; counts are since this process opened it.

    Attributes:
        depth: records waiting.
        used_bytes: of the database that hold something.
        delivered: records that were acknowledged.
        dropped: records that made room for newer ones.
        refused: records that the receiver will never take.
        unwritten: records that the disk did not take: full, gone, or too slow for too long.
        trouble: why nothing is delivered at the moment; "" where all is well.
        set_aside: where a damaged database was put, None where there was none.
        damaged: records that the disk damaged, and that were not delivered: those with a wrong
            checksum, and those that could still be counted in a database that was put aside.
        blocked: why the spool cannot be opened at the moment; "" where it is open.
        unanswered_s: seconds since the beginning of the first attempt to deliver something after the
            last that succeeded; 0 where there was none.
    """

    depth: int
    used_bytes: int
    delivered: int
    dropped: int
    refused: int
    unwritten: int
    trouble: str
    set_aside: Path | None
    damaged: int = 0
    blocked: str = ""
    unanswered_s: float = 0.0

    @property
    def standstill(self) -> str:
        """``trouble``, or that the receiver has not answered for 5 s; "" while records are delivered."""
        if not self.trouble and self.unanswered_s >= _STUCK_S:
            return f"no answer for {self.unanswered_s:.0f} s"
        return self.trouble


class SpoolHealth:
    """Turns the figures of a spool into what has happened to it; asked as often as one likes.

    What it says is shown to viewers of the web page as well, and names no folder of this machine.

    Args:
        name: of the spool's file.
        clock: monotonic seconds, for tests.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._look_s = float("-inf")
        self._since_s: float | None = None  # when the trouble began
        self._told_stuck = False
        self._set_aside: Path | None = None
        self._told_blocked = False
        self._losses: dict[HealthKind, _Loss] = {
            "spool full": _Loss("{} of the oldest records made room for newer ones"),
            "records refused": _Loss(
                "{} records will never be taken by the receiver, and are gone"
            ),
            "records lost": _Loss("{} records were not taken by the disk, which is full or hangs"),
            "records damaged": _Loss("{} records were damaged on the disk, and are not delivered"),
        }

    def look(self, ask: Callable[[], SpoolStatistics]) -> list[Health]:
        """What is news; ``ask`` is called once a second at most."""
        now_s = self._clock()
        if now_s - self._look_s < _LOOK_S:
            return []
        self._look_s = now_s
        now = ask()
        told = []
        if now.set_aside is not None and now.set_aside != self._set_aside:
            self._set_aside = now.set_aside
            aside = f"{self._name} was put aside as {now.set_aside.name}, and a new one begun"
            told.append(Health("spool damaged", aside))
        told += self._opening(now)
        told += self._delivery(now, now_s)
        counts = (now.dropped, now.refused, now.unwritten, now.damaged)
        for (what, loss), count in zip(self._losses.items(), counts, strict=True):
            text = loss.news(count, now_s)
            if text:
                told.append(Health(what, text))
        return told

    def _opening(self, now: SpoolStatistics) -> list[Health]:
        if bool(now.blocked) == self._told_blocked:
            return []
        self._told_blocked = bool(now.blocked)
        if now.blocked:
            return [
                Health(
                    "spool unavailable",
                    f"{now.blocked}; up to 1,000 records wait in memory, free some space and it goes on",
                )
            ]
        return [Health("spool available", f"{self._name} is open; {now.depth} records wait")]

    def _delivery(self, now: SpoolStatistics, now_s: float) -> list[Health]:
        trouble = now.standstill
        if not trouble:
            since_s, self._since_s = self._since_s, None
            if self._told_stuck and since_s is not None:
                self._told_stuck = False
                away = f"after {now_s - since_s:.0f} s; {now.depth} records wait"
                return [Health("delivery resumed", away)]
            return []
        if self._since_s is None:
            self._since_s = now_s - now.unanswered_s
        if self._told_stuck or now_s - self._since_s < _STUCK_S:
            return []
        self._told_stuck = True
        return [Health("delivery stuck", f"{trouble}; {now.depth} records wait")]


class _Loss:
    """A count that should not grow."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._told = 0
        self._told_s = float("-inf")

    def news(self, count: int, now_s: float) -> str:
        if count == self._told or now_s - self._told_s < _AGAIN_S:
            return ""
        more, self._told, self._told_s = count - self._told, count, now_s
        return self._text.format(more)


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
