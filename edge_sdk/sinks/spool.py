"""``Spool``: a sink that stores records on disk until a sender has delivered them."""

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

_CHECK_S = 1.0
# A broker that restarts is back within seconds: that is not reported.
_STUCK_S = 5.0
# A continuing loss is reported again at this interval, with its count.
_AGAIN_S = 600.0


@dataclass(frozen=True, slots=True)
class SpoolStatistics:
    """State of a spool; counts are since this process opened it.

    Attributes:
        depth: records waiting.
        used_bytes: of the database's pages in use.
        delivered: records that were acknowledged.
        dropped: oldest records, deleted to make room for newer ones.
        refused: records that the receiver refused for good.
        unwritten: records that could not be written: disk full, removed, or too slow for too long.
        trouble: why nothing is delivered at the moment; "" if there is no problem.
        set_aside: new path of a damaged database; None if there was none.
        damaged: records damaged on the disk and not delivered: those with a wrong checksum, and those
            that could still be counted in a damaged database.
        blocked: why the spool cannot be opened at the moment; "" if it is open.
        unanswered_s: seconds since the start of the first attempt to deliver after the last success;
            0 if there was none.
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
        """``trouble``, or no answer from the receiver for 5 s; "" while records are delivered."""
        if not self.trouble and self.unanswered_s >= _STUCK_S:
            return f"no answer for {self.unanswered_s:.0f} s"
        return self.trouble


class SpoolHealth:
    """Derives health reports from the statistics of a spool; may be called at any rate.

    Viewers of the web page see the reports, so they contain no folder names.

    Args:
        name: of the spool's file.
        clock: monotonic seconds, for tests.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._checked_s = float("-inf")
        self._since_s: float | None = None  # when the trouble began
        self._reported_stuck = False
        self._set_aside: Path | None = None
        self._reported_blocked = False
        self._losses: dict[HealthKind, _Loss] = {
            "spool full": _Loss(
                "{} of the oldest records were deleted to make room for newer ones"
            ),
            "records refused": _Loss(
                "{} records were refused by the receiver for good, and dropped"
            ),
            "records lost": _Loss("{} records could not be written, the disk is full or hangs"),
            "records damaged": _Loss("{} records were damaged on the disk, and are not delivered"),
        }

    def check(self, read: Callable[[], SpoolStatistics]) -> list[Health]:
        """Returns new reports; ``read`` is called once a second at most."""
        now_s = self._clock()
        if now_s - self._checked_s < _CHECK_S:
            return []
        self._checked_s = now_s
        now = read()
        reports = []
        if now.set_aside is not None and now.set_aside != self._set_aside:
            self._set_aside = now.set_aside
            aside = f"{self._name} was renamed to {now.set_aside.name}, and a new spool was created"
            reports.append(Health("spool damaged", aside))
        reports += self._opening(now)
        reports += self._delivery(now, now_s)
        counts = (now.dropped, now.refused, now.unwritten, now.damaged)
        for (what, loss), count in zip(self._losses.items(), counts, strict=True):
            text = loss.report(count, now_s)
            if text:
                reports.append(Health(what, text))
        return reports

    def _opening(self, now: SpoolStatistics) -> list[Health]:
        if bool(now.blocked) == self._reported_blocked:
            return []
        self._reported_blocked = bool(now.blocked)
        if now.blocked:
            return [
                Health(
                    "spool unavailable",
                    f"{now.blocked}; up to 1,000 records wait in memory, free some space to continue",
                )
            ]
        return [Health("spool available", f"{self._name} is open; {now.depth} records wait")]

    def _delivery(self, now: SpoolStatistics, now_s: float) -> list[Health]:
        trouble = now.standstill
        if not trouble:
            since_s, self._since_s = self._since_s, None
            if self._reported_stuck and since_s is not None:
                self._reported_stuck = False
                away = f"after {now_s - since_s:.0f} s; {now.depth} records wait"
                return [Health("delivery resumed", away)]
            return []
        if self._since_s is None:
            self._since_s = now_s - now.unanswered_s
        if self._reported_stuck or now_s - self._since_s < _STUCK_S:
            return []
        self._reported_stuck = True
        return [Health("delivery stuck", f"{trouble}; {now.depth} records wait")]


class _Loss:
    """A counter of lost records, reported when it grows."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._reported = 0
        self._reported_s = float("-inf")

    def report(self, count: int, now_s: float) -> str:
        if count == self._reported or now_s - self._reported_s < _AGAIN_S:
            return ""
        more, self._reported, self._reported_s = count - self._reported, count, now_s
        return self._text.format(more)


__all__ = ["DEFAULT_MAX_BYTES", "Spool", "SpoolStatistics"]

_LOG = logging.getLogger("edgecls.spool")
DEFAULT_MAX_BYTES = 64_000_000  # about 80,000 results
_LAST_WAIT_S, _IDLE_S, _NAP_S = 30.0, 1.0, 0.1


class Spool:
    """Writes records to a database at once, and delivers them from its own thread.

    ``write`` waits for the disk, never for the network, and 0.1 s at most for another process that
    holds the database; meanwhile up to 1,000 records wait in memory, see ``Intake``. It adds
    ``device``, ``boot_id`` and ``seq`` to each record's JSON: a record whose acknowledgement is lost is
    sent again, and the receiver detects the duplicate by these three. Numbers increase without gaps; a
    missing number is a dropped record, oldest first when the spool is full. Records that a full disk
    cannot hold are lost and counted, and the loop continues. A disk that is full at the start is not an
    error either: opening is retried, and up to 1,000 records wait in memory. ``take_health`` reports
    all of this.

    Args:
        path: of the database; the lock file ``path-lock`` is beside it.
        sender: delivers the records; closed with the spool.
        max_bytes: of the database.
        name: source of its health reports; None: the file's name.
        device: ``device`` of the records; None: ``identity.device_name``.
        service: distinguishes several runs of one device, in records too; None: there is one.
        linger_s: how long ``close`` continues to deliver; the rest waits for the next start.
        clock: measures pauses.

    Attributes:
        name: see above.

    Raises:
        SpoolInUseError: another process has it open.
        SinkSpecError: ``max_bytes`` is too small.
        WriteError: it cannot be opened here, or the file is not a spool.
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
        self._damage: sqlite3.Error | None = None  # detected, and not yet handled
        self._broken: sqlite3.Error | None = None  # why the file must be replaced
        self._set_aside: Path | None = None
        self._closed = False
        self._deadline: float | None = None
        self._wake = threading.Event()
        self._health = SpoolHealth(self._path.name)
        self._database_lock = threading.RLock()
        self._intake = Intake(None, self._database_lock, self._parcel, self._on_write_error)
        self._lock: int | None = None
        self._known = False
        try:
            self._open()
        except SpoolBlockedError as error:  # start-up is no stricter than running
            self._set_blocked(error)
        except BaseException:
            self._unlock()
            raise
        self._thread = threading.Thread(target=self._drain, name="edgecls-spool", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        """Locks the file for this process and opens it; renames a damaged one first.

        Raises:
            SpoolBlockedError: not possible now; a retry may succeed.
            SpoolInUseError, WriteError: not possible at this path.
        """
        try:
            if self._lock is None:
                self._lock, self._known = lock(self._path)
            store = self._open_store() if self._broken is None else self._create_store(self._broken)
        except OSError as error:
            if is_disk_trouble(error) and not isinstance(error, SpoolBlockedError):
                raise SpoolBlockedError(str(error)) from error
            raise
        self._records_boot_id = records_boot_id(self._boot_id, store.identity)
        with self._database_lock:
            self._intake.store = store
        self._known, self._broken, self._blocked = True, None, ""

    def _open_store(self) -> SpoolStore:
        try:
            return SpoolStore(self._path, self._max_bytes, self._database_lock)
        except sqlite3.DatabaseError as error:
            if not self._known:  # no spool was here before: it may be a file of the user
                raise WriteError(
                    f"{self._path}: is not a spool ({error}); expected a spool or no file, name another "
                    "file"
                ) from error
            self._damaged += readable_rows(self._path)
            self._broken = error
            return self._create_store(error)

    def _create_store(self, error: sqlite3.Error) -> SpoolStore:
        if self._path.exists():
            try:
                self._set_aside = put_aside(self._path)
            except OSError as reason:
                raise WriteError(
                    f"{self._path}: is damaged ({error}), and cannot be renamed "
                    f"({reason.strerror or reason}); allow writing to its folder, or name another file "
                    "with --spool FILE"
                ) from reason
            _LOG.info("%s: damaged (%s); renamed to %s", self._path, error, self._set_aside)
        return SpoolStore(self._path, self._max_bytes, self._database_lock)

    def _unlock(self) -> None:
        if self._lock is not None:
            unlock(self._path, self._lock, forget=not self._known)
            self._lock = None

    def _set_blocked(self, error: WriteError) -> None:
        # Viewers of the web page see it, so it contains no folder name.
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        text = getattr(reason, "strerror", None) or str(reason) or "the disk is full"
        self._blocked = f"{self._path.name} cannot be opened ({text})"
        self._set_trouble(self._blocked)

    def _parcel(self, record: Record, seq: int) -> Parcel:
        content = public_json(record)
        content |= {"device": self._device, "boot_id": self._records_boot_id, "seq": seq}
        if self._service is not None:
            content["service"] = self._service
        text = json.dumps(content, ensure_ascii=False)
        try:
            body = text.encode()
        except UnicodeEncodeError:  # a file name that is not valid UTF-8
            body = json.dumps(content).encode()
        key = f"{self._device}:{self._records_boot_id}:{seq}".encode("utf-8", "replace").decode()
        return Parcel(seq, str(content["type"]), body, key)

    @property
    def statistics(self) -> SpoolStatistics:
        """Its state; may be read from any thread, without waiting."""
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
        """Reports since the last call, checked once a second at most.

        ``delivery stuck`` (for 5 s) and ``delivery resumed``; ``spool full``, ``records refused``,
        ``records lost`` and ``records damaged``, each with a count and again every ten minutes;
        ``spool damaged``; ``spool unavailable`` and ``spool available``, if it cannot be opened.
        """
        return self._health.check(lambda: self.statistics)

    def write(self, record: Record) -> None:
        """Stores a record until it is delivered.

        Raises:
            WriteError: the spool is closed.
        """
        if self._closed:
            raise WriteError("this sink is closed")
        self._intake.put(record)
        self._wake.set()

    def _on_write_error(self, error: sqlite3.Error) -> None:
        _LOG.debug("%s: a record could not be written (%s)", self._path, error)
        if is_damage(error):  # repaired by the delivery thread, which may be using the database
            self._damage = error
            self._wake.set()

    def close(self) -> None:
        """Delivers for up to ``linger_s``, then leaves the rest to the next start."""
        if self._closed:
            return
        self._closed = True
        deadline = self._clock.now_s() + self._linger_s
        self._intake.end(self._linger_s / 2)
        self._deadline = deadline
        self._wake.set()
        # A sender may hang in a connection; its thread ends with the process, the records are on disk.
        self._thread.join(self._linger_s + 0.5)

    def _drain(self) -> None:
        try:
            while not self._deadline_passed():
                self._wake.clear()
                try:
                    busy = self._deliver()
                except DeliveryError as error:
                    self._set_trouble(str(error))
                    self._pause(self._pauses.pause_s(error.wait_s), damage_ends_it=True)
                except SpoolBlockedError as error:
                    self._set_blocked(error)
                    self._pause(_IDLE_S)
                except WriteError as error:  # a damaged file that cannot be renamed
                    self._set_trouble(str(error))
                    self._pause(_IDLE_S)
                except sqlite3.Error as error:
                    self._replace_damaged(error)
                except Exception as error:  # noqa: BLE001  a sender's bug: logged, delivery continues
                    _LOG.exception("a sender failed")
                    self._set_trouble(f"{type(error).__name__}: {error}")
                    self._pause(_LAST_WAIT_S, damage_ends_it=True)
                else:
                    self._set_trouble("")
                    self._pauses.reset()
                    if not busy and self._deadline is None:
                        self._wake.wait(_IDLE_S)
                        continue
                    if busy:
                        continue
                if self._deadline is not None:  # nothing left, or no receiver
                    break
        finally:
            try:
                self._sender.close()
            except Exception:  # noqa: BLE001  a sender's bug
                _LOG.exception("a sender could not be closed")
            if self._intake.store is not None:
                self._intake.store.close()
            self._unlock()

    def _deliver(self) -> bool:
        """Delivers the oldest records; returns whether there were any."""
        damage, self._damage = self._damage, None
        if damage is not None:
            raise damage
        if self._intake.store is None:
            self._open()
        store = self._intake.store
        assert store is not None
        self._intake.flush()
        store.tidy(idle=False)
        with self._database_lock:  # from now on these are not dropped to make room
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
        while True:  # delivered records must not be sent again because the disk is full
            try:
                store.delete(numbers)
                return
            except sqlite3.OperationalError as error:
                if self._deadline is not None:
                    raise
                if self._damage is not None:  # the whole database is replaced
                    raise self._damage from error
                self._set_trouble(f"{self._path.name}: {error}")
                self._pause(_IDLE_S)

    def _replace_damaged(self, error: sqlite3.Error) -> None:
        """Renames a damaged database and creates a new one; then pauses."""
        store = self._intake.store
        if not is_damage(error) or store is None:
            self._set_trouble(f"{self._path.name}: {error}")
            self._pause(_IDLE_S)
            return
        with self._database_lock:
            self._intake.store = self._damage = None
            self._damaged += store.depth
            store.close()
            self._broken = error
            try:
                self._open()
            except SpoolBlockedError as failure:
                self._set_blocked(failure)
            except (WriteError, sqlite3.Error) as failure:  # the next iteration retries
                self._set_trouble(f"{self._path.name}: {failure}")
        self._pause(_IDLE_S)

    def _set_trouble(self, trouble: str) -> None:
        if trouble and not self._trouble:
            _LOG.info("%s; records wait in %s", trouble, self._path)
        elif self._trouble and not trouble:
            _LOG.info("delivery resumed; %d records waited", self._intake.depth)
        self._trouble = trouble

    def _pause(self, seconds: float, *, damage_ends_it: bool = False) -> None:
        """Waits, and stores incoming records meanwhile.

        Args:
            seconds: how long.
            damage_ends_it: end the pause if damage is detected; not in the pause after damage, which
                would then retry without a pause.
        """
        until = self._clock.now_s() + seconds
        while self._deadline is None and self._clock.now_s() < until:
            if damage_ends_it and self._damage is not None:
                return
            self._intake.flush()
            if self._intake.store is not None:
                self._intake.store.tidy(idle=True)
            self._clock.sleep(_NAP_S)

    def _deadline_passed(self) -> bool:
        return self._deadline is not None and self._clock.now_s() >= self._deadline
