"""The spool: nothing lost, nothing endless, and a file that is damaged is not the end."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import (
    DeliveryError,
    SinkSpecError,
    SpoolInUseError,
    WriteError,
)
from edge_sdk.retry import Clock, Pauses
from edge_sdk.sinks import identity
from edge_sdk.sinks.sender import Delivery, Parcel, WatchedSender
from edge_sdk.sinks.spool import Spool, SpoolHealth, SpoolStatistics
from edge_sdk.sinks.spool_store import MIN_BYTES, SpoolBlockedError, SpoolStore, corrupt
from edge_sdk.types import ErrorRecord, HealthRecord


class _Receiver:
    """Takes parcels as told: ``answers`` are used up one by one, then everything is taken."""

    def __init__(self, *answers: Exception | str, window: int = 7) -> None:
        self.answers = list(answers)
        self.bodies: list[dict[str, Any]] = []
        self.window = window
        self.closed = False
        self.release = threading.Event()

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        assert len(parcels) <= self.window
        if not parcels:
            return Delivery(())
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, Exception):
            raise answer
        numbers = tuple(parcel.seq for parcel in parcels)
        if answer == "refuse":
            return Delivery((), numbers)
        self.bodies += [json.loads(parcel.body) for parcel in parcels]
        return Delivery(numbers[:1] if answer == "one" else numbers)

    def close(self) -> None:
        self.closed = True


class _Hanging(_Receiver):
    """Takes its time."""

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        self.release.wait(60)
        return super().deliver(parcels)


class _Away(_Receiver):
    """Is never there."""

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        raise DeliveryError("nobody there")


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def _write(spool: Spool, count: int, start: int = 0, size: int = 1) -> None:
    for i in range(start, start + count):
        spool.write(ErrorRecord(str(i), "x" * size))


def _paths(receiver: _Receiver) -> list[int]:
    return [int(body["path"]) for body in receiver.bodies]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.spool"


@contextlib.contextmanager
def _open(path: Path, receiver: _Receiver, **options: Any) -> Iterator[Spool]:
    spool = Spool(path, receiver, device="door", **options)
    try:
        yield spool
    finally:
        spool.close()


def test_everything_arrives_once_in_order_with_numbers_that_rise_by_one(path: Path) -> None:
    receiver = _Receiver()
    with _open(path, receiver) as spool:
        _write(spool, 100)
        _until(lambda: spool.statistics.depth == 0)
    assert _paths(receiver) == list(range(100))
    first = receiver.bodies[0]["seq"]
    assert [body["seq"] for body in receiver.bodies] == list(range(first, first + 100))
    assert {body["device"] for body in receiver.bodies} == {"door"}
    assert len({body["boot_id"] for body in receiver.bodies}) == 1
    assert spool.statistics.delivered == 100
    assert spool.statistics.depth == 0
    assert receiver.closed


def test_what_is_left_goes_first_at_the_next_start_and_numbers_go_on(path: Path) -> None:
    with _open(path, _Away(), linger_s=0.1) as spool:
        _write(spool, 10)
    assert spool.statistics.depth == 10
    receiver = _Receiver()
    with _open(path, receiver) as spool:
        _write(spool, 5, start=10)
    assert _paths(receiver) == list(range(15))
    seqs = [body["seq"] for body in receiver.bodies]
    assert seqs == list(range(seqs[0], seqs[0] + 15))
    again = _Receiver()  # the table is empty by now
    with _open(path, again) as spool:
        _write(spool, 1)
    assert again.bodies[0]["seq"] == seqs[-1] + 1


def test_a_spool_that_somebody_deleted_does_not_begin_to_count_anew(path: Path) -> None:
    first, second = _Receiver(), _Receiver()
    with _open(path, first) as spool:
        _write(spool, 50)
    path.unlink()
    with _open(path, second) as spool:
        _write(spool, 1)
    assert second.bodies[0]["seq"] > first.bodies[-1]["seq"]


def test_a_full_spool_drops_the_oldest_counts_them_and_says_so(path: Path) -> None:
    max_bytes = 40 * 4096
    with _open(path, _Away(), max_bytes=max_bytes, linger_s=0.1) as spool:
        _write(spool, 1000, size=500)
        _until(lambda: not spool._intake._waiting)  # a busy machine: some wait in memory
        assert path.stat().st_size <= max_bytes
        statistics = spool.statistics
        (health,) = spool.take_health()
    assert statistics.depth + statistics.dropped == 1000
    assert 100 < statistics.depth < 300
    assert health.what == "spool full"
    assert f"{statistics.dropped} of the oldest" in health.detail
    assert path.stat().st_size <= max_bytes
    receiver = _Receiver()
    with _open(path, receiver, max_bytes=max_bytes):
        pass
    assert _paths(receiver) == list(range(statistics.dropped, 1000))


def test_what_is_under_way_is_not_dropped_and_counted_twice(path: Path) -> None:
    under_way, go_on = threading.Event(), threading.Event()

    class Slow(_Receiver):
        def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
            if parcels:
                under_way.set()
                go_on.wait(20)
            return super().deliver(parcels)

    receiver = Slow()
    with _open(path, receiver, max_bytes=MIN_BYTES) as spool:
        _write(spool, 1)
        assert under_way.wait(20)
        _write(spool, 1000, start=1, size=500)
        go_on.set()
        _until(lambda: spool.statistics.depth == 0)
        assert spool.statistics.delivered + spool.statistics.dropped == 1001
    assert _paths(receiver)[0] == 0


def test_a_record_larger_than_the_spool_pushes_nothing_out(path: Path) -> None:
    with _open(path, _Away(), max_bytes=MIN_BYTES, linger_s=0.1) as spool:
        _write(spool, 3)
        _write(spool, 1, size=MIN_BYTES)
        assert (spool.statistics.depth, spool.statistics.dropped) == (3, 1)


def test_a_small_bound_is_refused(path: Path) -> None:
    with pytest.raises(SinkSpecError, match=f"at least {MIN_BYTES}"):
        Spool(path, _Receiver(), max_bytes=1000)


def test_what_was_not_acknowledged_is_sent_again_and_refusals_are_counted(path: Path) -> None:
    receiver = _Receiver("one", "refuse")
    with _open(path, _Away(), linger_s=0.1) as spool:
        _write(spool, 10)
    with _open(path, receiver) as spool:
        _until(lambda: spool.statistics.depth == 0)
        statistics = spool.statistics
    assert _paths(receiver) == [*range(7), *range(8, 10)]
    assert (statistics.delivered, statistics.refused) == (3, 7)


def test_a_receiver_that_comes_back_gets_everything(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgecls.spool")
    receiver = _Receiver(DeliveryError("nobody there"), DeliveryError("not yet", wait_s=0.7))
    began = time.monotonic()
    with _open(path, receiver) as spool:
        _write(spool, 5)
        _until(lambda: spool.statistics.trouble == "nobody there")
        _until(lambda: spool.statistics.depth == 0)
        _until(lambda: spool.statistics.trouble == "")  # told a moment after
    assert _paths(receiver) == list(range(5))
    assert time.monotonic() - began > 0.25 + 0.7  # its own pause, then the one that was asked for
    assert "nobody there; records wait in" in caplog.text
    assert "delivery resumed" in caplog.text


def test_a_sender_with_a_bug_loses_nothing(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.sinks.spool._LAST_WAIT_S", 0.1)
    receiver = _Receiver(KeyError("bug"))
    with _open(path, receiver) as spool:
        _write(spool, 5)
        _until(lambda: spool.statistics.depth == 0)
    assert _paths(receiver) == list(range(5))
    assert "Traceback" in caplog.text


def test_a_sender_that_cannot_be_closed_keeps_no_lock(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(_Receiver):
        def close(self) -> None:
            raise KeyError("bug")

    with _open(path, Broken()):
        pass
    receiver = _Receiver()
    with _open(path, receiver) as spool:
        _write(spool, 1)
        _until(lambda: spool.statistics.depth == 0)
    assert "could not be closed" in caplog.text


def test_what_was_seen_is_its_owners_business(path: Path) -> None:
    with _open(path, _Away(), linger_s=0.1) as spool:
        _write(spool, 3)
        files = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
        assert len(files) >= 3  # the database, its log, the lock
        assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}


def test_a_sender_that_hangs_holds_up_neither_the_loop_nor_the_end(path: Path) -> None:
    release = threading.Event()

    class Stuck(_Receiver):
        def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
            release.wait(20)
            return Delivery(())

    spool = Spool(path, Stuck(), device="door", linger_s=0.2)
    began = time.monotonic()
    _write(spool, 20)
    spool.close()
    assert time.monotonic() - began < 1.9
    release.set()
    spool._thread.join()
    receiver = _Receiver()
    with _open(path, receiver):
        pass
    assert _paths(receiver) == list(range(20))


@pytest.mark.parametrize("damage", ["header", "pages", "cut", "empty-log"])
def test_a_damaged_database_is_put_aside_and_said(damage: str, path: Path) -> None:
    with _open(path, _Away(), linger_s=0.1) as spool:
        _write(spool, 200, size=300)
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[:100] = bytes(100)
    elif damage == "pages":
        content[4096:] = b"\xa5" * (len(content) - 4096)
    elif damage == "cut":
        del content[3 * 4096 + 100 :]
    else:
        content = bytearray(b"x" * 5000)
    path.write_bytes(content)
    receiver = _Receiver()
    with _open(path, receiver) as spool:
        _write(spool, 1)
        aside = spool.statistics.set_aside
        (health,) = spool.take_health()
        assert health.what == "spool damaged"
        assert health.detail.startswith("a.spool was renamed to a.spool.damaged-1")
        assert str(path.parent) not in health.detail  # viewers of the web page read it, too
    assert aside is not None
    assert aside.read_bytes() == content
    assert [body["path"] for body in receiver.bodies] == ["0"]


def test_damage_while_it_runs_is_mended(path: Path) -> None:
    receiver = _Receiver()
    with _open(path, receiver) as spool:
        _write(spool, 3)
        _until(lambda: spool.statistics.depth == 0)
        error = sqlite3.DatabaseError("malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        spool._on_write_error(error)
        _until(lambda: spool.statistics.set_aside is not None)
        _write(spool, 1, start=3)
        _until(lambda: len(receiver.bodies) == 4)
        assert [health.what for health in spool.take_health()] == ["spool damaged"]
    seqs = [body["seq"] for body in receiver.bodies]
    assert sorted(set(seqs)) == seqs


@pytest.mark.parametrize("kind", ["text", "database"])
def test_somebody_elses_file_is_left_alone(kind: str, path: Path) -> None:
    if kind == "text":
        path.write_text("my notes\n" * 100)
    else:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE bird (name)")
    before = path.read_bytes()
    with pytest.raises(WriteError, match="name another file"):
        Spool(path, _Receiver(), device="door")
    if kind == "text":
        assert path.read_bytes() == before
    with pytest.raises(WriteError, match="name another file"):  # nor at the second attempt
        Spool(path, _Receiver(), device="door")


def test_a_second_process_is_refused_and_told_by_whom(path: Path) -> None:
    other = (
        "import sys, time\n"
        "from edge_sdk.sinks.identity import lock\n"
        "from pathlib import Path\n"
        "lock(Path(sys.argv[1])); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", other, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(SpoolInUseError, match=f"in use by process {process.pid};"):
                Spool(path, _Receiver(), device="door")
        finally:
            process.kill()
    receiver = _Receiver()
    with _open(path, receiver) as spool:  # a killed process holds nothing
        _write(spool, 1)
    assert _paths(receiver) == [0]


@pytest.mark.parametrize("place", ["", "a-file/a.spool"], ids=["a-folder", "below-a-file"])
def test_a_place_that_cannot_be_is_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    target = tmp_path / place if place else tmp_path / "folder"
    if not place:
        target.mkdir()
    with pytest.raises(WriteError, match=r"spool can(not)? ?be|no spool can be created"):
        Spool(target, _Receiver(), device="door")


_ON_A_FULL_DISK = """
import resource, sys, time
from edge_sdk.types import ErrorRecord
from edge_sdk.sinks.spool import Spool
from edge_sdk.sinks.spool import SpoolHealth, SpoolStatistics
from edge_sdk.sinks.sender import Delivery
from edge_sdk.errors import DeliveryError
class Away:
    window = 5
    def deliver(self, parcels): raise DeliveryError("nobody there")
    def close(self): pass
spool = Spool(sys.argv[1], Away(), device="door", linger_s=0.1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for i in range(500):
    spool.write(ErrorRecord(str(i), "x" * 500))
lost = spool.statistics.unwritten
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for i in range(500, 510):
    spool.write(ErrorRecord(str(i), "x"))
print(lost, spool.statistics.unwritten, spool.statistics.depth, *spool.take_health())
spool.close()
"""


def test_a_full_disk_costs_what_it_does_not_take_and_no_more(path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _ON_A_FULL_DISK, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    lost, lost_in_all, depth, *told = result.stdout.split()
    lost, lost_in_all, depth = map(int, (lost, lost_in_all, depth))
    assert " ".join(told).count("records lost") == 1
    assert 0 < lost == lost_in_all < 500
    assert depth == 510 - lost
    receiver = _Receiver()
    with _open(path, receiver):
        pass
    assert len(receiver.bodies) == depth
    assert _paths(receiver)[-10:] == list(range(500, 510))
    # A record that was lost keeps its number: its gap tells the receiver of it.
    first = receiver.bodies[0]["seq"]
    assert [body["seq"] - first for body in receiver.bodies] == _paths(receiver)


@pytest.mark.parametrize("years", [-20, 20])
def test_a_clock_that_jumps_changes_nothing(
    years: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = _Receiver(DeliveryError("nobody there"))
    now = time.time
    with _open(path, receiver) as spool:
        _write(spool, 5)
        monkeypatch.setattr(time, "time", lambda: now() + years * 365 * 86400)
        _write(spool, 5, start=5)
        _until(lambda: spool.statistics.depth == 0, 5)
    assert _paths(receiver) == list(range(10))


def test_a_record_that_is_no_utf8_is_delivered(path: Path) -> None:
    receiver = _Receiver()
    with _open(path, receiver) as spool:
        spool.write(HealthRecord("T", "m\udcfcnchen", "größe", "x"))
    assert receiver.bodies[0]["what"] == "größe"


def test_after_close_a_record_is_refused(path: Path) -> None:
    spool = Spool(path, _Receiver(), device="door")
    spool.close()
    spool.close()
    with pytest.raises(WriteError, match="closed"):
        _write(spool, 1)


@pytest.mark.parametrize("receiver", [_Receiver(window=50), _Away(), _Hanging()])
def test_a_busy_spool_keeps_its_log_small(receiver: _Receiver, path: Path) -> None:
    log = path.with_name("a.spool-wal")
    largest = 0
    with _open(path, receiver, linger_s=0.1) as spool:
        for _i in range(150):
            _write(spool, 100, size=100)
            largest = max(largest, log.stat().st_size)
        receiver.release.set()
        if not isinstance(receiver, _Away):
            _until(lambda: spool.statistics.depth == 0)
    spool._thread.join()
    assert largest < 50_000_000
    assert path.stat().st_size < 10_000_000
    assert not path.with_name("a.spool-wal").exists()


def test_where_spools_stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first = identity.default_spool("mqtt", "mqtt://a")
    assert first.parent == tmp_path / "edgecls"
    assert first != identity.default_spool("mqtt", "mqtt://b")
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/s:{tmp_path}/t")
    assert identity.default_spool("mqtt", "mqtt://a") == tmp_path / "s" / first.name


def test_a_device_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECLS_DEVICE", "gate")
    assert identity.device_name() == "gate"
    assert identity.device_name("door") == "door"
    monkeypatch.delenv("EDGECLS_DEVICE")
    assert identity.device_name()


def test_without_a_boot_id_each_start_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_BOOT_ID", Path("/nonexistent"))
    assert identity.boot_id() != identity.boot_id()


# Whoever else has the database: the loop does not wait


@contextlib.contextmanager
def _somebody_writes(path: Path) -> Iterator[None]:
    """As a backup, or somebody with sqlite3 who types BEGIN and goes to lunch."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_database_that_somebody_holds_neither_stalls_the_loop_nor_loses_a_record(
    path: Path,
) -> None:
    receiver = _Receiver()
    with _open(path, receiver, linger_s=4.0) as spool:
        with _somebody_writes(path):
            longest = 0.0
            for i in range(50):
                began = time.monotonic()
                _write(spool, 1, start=i)
                longest = max(longest, time.monotonic() - began)
                time.sleep(0.03)
            assert longest < 0.6  # 0.1 s, and a machine that is busy
            assert spool.statistics.depth == 50
            assert receiver.bodies == []
        _until(lambda: len(receiver.bodies) == 50)
    assert _paths(receiver) == list(range(50))
    seqs = [body["seq"] for body in receiver.bodies]
    assert seqs == list(range(seqs[0], seqs[0] + 50))  # nothing was lost: no gap
    assert spool.statistics.unwritten == 0


def test_what_waits_in_memory_is_bounded_and_the_rest_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.sinks.spool_store.MAX_WAITING", 10)
    receiver = _Receiver()
    with _open(path, receiver) as spool:
        with _somebody_writes(path):
            _write(spool, 25)
            assert (spool.statistics.depth, spool.statistics.unwritten) == (10, 15)
            (health,) = spool.take_health()
            assert health.what == "records lost"
            assert "15 records" in health.detail
        _until(lambda: len(receiver.bodies) == 10)
    assert _paths(receiver) == list(range(10))


def test_the_end_does_not_wait_for_whoever_holds_the_database(path: Path) -> None:
    with _open(path, _Receiver(), linger_s=0.4) as spool, _somebody_writes(path):
        _write(spool, 3)
        began = time.monotonic()
        spool.close()
        assert time.monotonic() - began < 1.8
    assert spool.statistics.unwritten == 3


def test_a_repair_that_takes_long_does_not_stall_the_loop(path: Path) -> None:
    with _open(path, _Receiver()) as spool:
        with spool._database_lock:
            worker = threading.Thread(target=_write, args=(spool, 20))
            worker.start()
            worker.join(5)
            assert not worker.is_alive()
            assert spool.statistics.depth == 20
        _until(lambda: spool.statistics.delivered == 20)


# What an operator hears


def _figures(**changes: Any) -> SpoolStatistics:
    plain: dict[str, Any] = {"trouble": "", "set_aside": None}
    names = ("depth", "used_bytes", "delivered", "dropped", "refused", "unwritten")
    return SpoolStatistics(**{**plain, **dict.fromkeys(names, 0), **changes})


def test_a_broker_that_is_away_is_told_after_a_while_and_when_it_is_back() -> None:
    now = [100.0]
    health = SpoolHealth("a.spool", lambda: now[0])

    def after(seconds: float, **changes: Any) -> list[str]:
        now[0] += seconds
        return [f"{one.what}: {one.detail}" for one in health.check(lambda: _figures(**changes))]

    assert after(0) == []
    assert after(2, trouble="nobody there") == []
    assert after(1) == []  # a restart is no news
    assert after(2, trouble="nobody there") == []
    assert after(4, trouble="nobody there") == []
    assert after(2, trouble="nobody there", depth=7) == [
        "delivery stuck: nobody there; 7 records wait"
    ]
    assert after(60, trouble="still nobody") == []
    assert after(2, depth=3) == ["delivery resumed: after 68 s; 3 records wait"]
    assert after(2) == []


def test_a_receiver_that_has_not_answered_for_five_seconds_is_told_of() -> None:
    now = [100.0]
    health = SpoolHealth("a.spool", lambda: now[0])

    def after(seconds: float, **changes: Any) -> list[str]:
        now[0] += seconds
        return [f"{one.what}: {one.detail}" for one in health.check(lambda: _figures(**changes))]

    assert after(2, unanswered_s=2.0) == []
    assert after(2.9, unanswered_s=4.9) == []
    assert after(1, unanswered_s=5.9, depth=3) == [
        "delivery stuck: no answer for 6 s; 3 records wait"
    ]
    assert after(4, unanswered_s=9.9, trouble="no answer (timed out)") == []
    assert after(2, depth=2) == ["delivery resumed: after 12 s; 2 records wait"]
    # An attempt that fails after four seconds has been without success since it began.
    assert after(4, unanswered_s=4.0, trouble="hung up") == []
    assert after(1, unanswered_s=5.0, trouble="hung up", depth=1) == [
        "delivery stuck: hung up; 1 records wait"
    ]


def test_how_long_a_sender_has_delivered_nothing_is_counted_exactly() -> None:
    now = [10.0]
    receiver = _Receiver(DeliveryError("away"), DeliveryError("away"), "one")
    sender = WatchedSender(receiver, lambda: now[0])
    parcels = [Parcel(seq, "frame", b"{}", "key") for seq in (1, 2)]
    sender.deliver(())
    assert sender.unanswered_s == 0
    with pytest.raises(DeliveryError):
        sender.deliver(parcels)
    now[0] = 13.0
    assert sender.unanswered_s == 3
    with pytest.raises(DeliveryError):
        sender.deliver(parcels)
    now[0] = 14.0
    assert sender.unanswered_s == 4
    assert sender.deliver(parcels).acknowledged == (1,)
    assert sender.unanswered_s == 0


@pytest.mark.parametrize(
    ("name", "what"),
    [("dropped", "spool full"), ("refused", "records refused"), ("unwritten", "records lost")],
)
def test_losses_are_told_with_their_number_and_again_after_a_while(name: str, what: str) -> None:
    now = [0.0]
    health = SpoolHealth("a.spool", lambda: now[0])
    told = []
    for second in range(1300):
        now[0] += 1
        figures = _figures(**{name: second})
        told += [(second, one) for one in health.check(lambda now=figures: now)]
    assert [second for second, _ in told] == [1, 601, 1201]
    assert {one.what for _, one in told} == {what}
    assert "600 " in told[-1][1].detail


def test_it_is_looked_at_once_a_second_however_often_one_asks() -> None:
    asked = []
    health = SpoolHealth("a.spool", lambda: 5.0)
    for _ in range(1000):
        health.check(lambda: asked.append(1) or _figures())  # type: ignore[func-returns-value]
    assert len(asked) == 1


def test_a_loop_that_is_faster_than_any_camera_waits_rather_than_loses(path: Path) -> None:
    receiver = _Receiver(window=50)
    over = threading.Event()

    with _open(path, receiver, linger_s=0.1) as spool:

        def hold() -> None:  # as the thread that delivers does on a slow disk
            while not over.is_set():
                with spool._database_lock:
                    time.sleep(0.15)
                time.sleep(0.01)

        holder = threading.Thread(target=hold)
        holder.start()
        _write(spool, 5000)
        over.set()
        holder.join()
        assert spool.statistics.unwritten == 0
    seqs = [body["seq"] for body in receiver.bodies]
    assert seqs == sorted(seqs)


# What a dying disk does


class _Collecting(_Receiver):
    """Keeps bodies as they came: a damaged one need not be JSON."""

    def __init__(self) -> None:
        super().__init__(window=20)
        self.raw: list[bytes] = []

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        self.raw += [parcel.body for parcel in parcels]
        return Delivery(tuple(parcel.seq for parcel in parcels))


def _execute(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(statement, values)


@pytest.mark.parametrize(
    "change",
    [
        "body = CAST(replace(CAST(body AS TEXT), 'xxx', 'xyx') AS BLOB)",
        "body = CAST(body AS TEXT)||' '",
        "kind = 'frame'",
        "kind = CAST(X'ff' AS TEXT)",
        "kind = 5",
        "key = key || '0'",
        "key = NULL",
        "crc = crc + 1",
        "crc = NULL",
        "seq = seq + 1000",
    ],
)
def test_a_record_that_the_disk_changed_is_counted_and_never_delivered(
    change: str, path: Path
) -> None:
    with _open(path, _Away(), linger_s=0.1) as spool:
        _write(spool, 10, size=10)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        (first,) = database.execute("SELECT min(seq) FROM parcel").fetchone()
        database.execute(f"UPDATE parcel SET {change} WHERE seq = ?", (first + 4,))
    receiver = _Collecting()
    with _open(path, receiver) as spool:
        _until(lambda: spool.statistics.depth == 0)
        (health,) = spool.take_health()
        assert health.what == "records damaged"
        assert health.detail.startswith("1 records")
        assert (spool.statistics.delivered, spool.statistics.damaged) == (9, 1)
        _write(spool, 1, start=99)
        _until(lambda: len(receiver.raw) == 10)
    assert [int(json.loads(raw)["path"]) for raw in receiver.raw] == [0, 1, 2, 3, 5, 6, 7, 8, 9, 99]


def test_bits_that_flip_anywhere_never_reach_a_receiver(path: Path) -> None:
    chance = random.Random(1)
    written: set[bytes] = set()

    class Noting(_Away):
        def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
            written.update(parcel.body for parcel in parcels)
            return super().deliver(parcels)

    with _open(path, Noting(window=200), linger_s=0.1) as spool:
        _write(spool, 200, size=200)
        _until(lambda: len(written) > 0)
    with contextlib.closing(sqlite3.connect(path)) as database:
        written = {body for (body,) in database.execute("SELECT body FROM parcel")}
    whole = path.read_bytes()
    assert len(written) == 200
    for _ in range(15):
        for file in path.parent.iterdir():
            file.unlink()
        content = bytearray(whole)
        for _ in range(8):
            content[chance.randrange(4096, len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        path.with_name("a.spool-lock").touch()
        receiver = _Collecting()
        with _open(path, receiver, linger_s=0.1) as spool:
            _until(lambda: spool.statistics.depth == 0)
            fate = spool.statistics
        assert set(receiver.raw) <= written
        assert len(receiver.raw) + fate.damaged == 200 or fate.set_aside is not None


def _make_version_1(path: Path, bodies: Sequence[bytes]) -> None:
    """As a spool of the version before checksums left it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute(f"PRAGMA application_id = {0x45434C53}")
        old.execute("PRAGMA user_version = 1")
        old.execute("CREATE TABLE parcel (seq INTEGER PRIMARY KEY, kind TEXT, key TEXT, body BLOB)")
        old.execute("CREATE TABLE position (last INTEGER)")
        old.execute("INSERT INTO position VALUES (300)")
        for seq, body in enumerate(bodies, 101):
            old.execute(
                "INSERT INTO parcel VALUES (?, 'error', ?, ?)", (seq, f"door:b:{seq}", body)
            )
    path.with_name(f"{path.name}-lock").touch()


def test_a_spool_of_the_version_before_is_delivered_and_goes_on(path: Path) -> None:
    bodies = [json.dumps({"path": str(i), "seq": 101 + i}).encode() for i in range(5)]
    bodies[2] = b'{"path": "2", "s\xffq": 103}'
    _make_version_1(path, bodies)
    receiver = _Receiver()
    with _open(path, receiver) as spool:
        _write(spool, 1, start=5)
        _until(lambda: spool.statistics.depth == 0)
        assert spool.statistics.damaged == 1
    assert _paths(receiver) == [0, 1, 3, 4, 5]
    assert receiver.bodies[-1]["seq"] == 301
    # What was written since has checksums: one that is missing is damage.
    with _open(path, _Away(), linger_s=0.1) as spool:
        _write(spool, 1)
    _execute(path, "UPDATE parcel SET crc = NULL")
    with _open(path, _Receiver()) as spool:
        _until(lambda: spool.statistics.depth == 0)
        assert (spool.statistics.delivered, spool.statistics.damaged) == (0, 1)


@pytest.mark.parametrize("change", ["last = last - 5", "identity = 'x'", "crc = NULL", ""])
def test_a_damaged_position_repeats_no_number(change: str, path: Path) -> None:
    first, second = _Receiver(), _Receiver()
    with _open(path, first) as spool:
        _write(spool, 10)
    _execute(path, f"UPDATE position SET {change}" if change else "DELETE FROM position")
    with _open(path, second) as spool:
        _write(spool, 10)
    marks = [(body["boot_id"], body["seq"]) for body in first.bodies + second.bodies]
    assert len(marks) == len(set(marks)) == 20


def test_two_spools_of_one_device_never_give_two_records_one_mark(tmp_path: Path) -> None:
    receivers = _Receiver(window=50), _Receiver(window=50)
    with (
        _open(tmp_path / "a.spool", receivers[0]) as one,
        _open(tmp_path / "b.spool", receivers[1]) as other,
    ):
        # As two that start at the same moment.
        one._intake.store._last = other._intake.store._last  # type: ignore[union-attr]
        for i in range(200):
            _write(one, 1, start=i)
            _write(other, 1, start=i)
        _until(lambda: one.statistics.depth == other.statistics.depth == 0)
    marks = [
        (body["device"], body["boot_id"], body["seq"])
        for receiver in receivers
        for body in receiver.bodies
    ]
    assert len(marks) == len(set(marks)) == 400
    assert {mark[2] for mark in marks[:200]} == {mark[2] for mark in marks[200:]}


def test_records_of_a_named_run_say_so(tmp_path: Path) -> None:
    named, plain = _Receiver(), _Receiver()
    for receiver, service in ((named, "gate"), (plain, None)):
        with _open(tmp_path / f"{service}.spool", receiver, service=service) as spool:
            _write(spool, 1)
            _until(lambda one=spool: one.statistics.depth == 0)  # type: ignore[misc]
    assert named.bodies[0]["service"] == "gate"
    assert "service" not in plain.bodies[0]


class _FakeTime:
    """A clock that its sleepers move on; ends the test's patience by counting."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.clock = Clock(lambda: self.now_s, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds
        time.sleep(0.0005)


def test_pauses_double_up_to_half_a_minute() -> None:
    longest = Pauses(lambda: 1.0)
    assert [longest.pause_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert longest.pause_s(asked_s=45.0) == 45.0
    longest.reset()
    assert longest.pause_s() == 0.5
    shortest = Pauses(lambda: 0.0)
    assert [shortest.pause_s() for _ in range(3)] == [0.25, 0.5, 1.0]


@pytest.mark.parametrize("damaged", [False, True], ids=["full", "full-and-damaged"])
def test_a_disk_that_refuses_to_forget_is_asked_once_a_second(
    damaged: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, tries = _FakeTime(), []

    def refuse(self: SpoolStore, numbers: tuple[int, ...]) -> None:
        if numbers:
            tries.append(fake.now_s)
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    def gone(path: Path) -> Path:
        tries.append(fake.now_s)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(SpoolStore, "delete", refuse)
    monkeypatch.setattr("edge_sdk.sinks.spool.put_aside", gone)
    with _open(path, _Receiver(), clock=fake.clock, linger_s=0.1) as spool:
        _write(spool, 3)
        _until(lambda: len(tries) > 0)
        if damaged:
            spool._on_write_error(corrupt("malformed"))
        _until(lambda: fake.now_s > 100 or len(tries) > 1000)
    counted = [at_s for at_s in tries if at_s <= 100]
    assert 50 < len(counted) <= 102


def test_damage_that_comes_back_is_mended_once_a_second_and_fills_no_disk(path: Path) -> None:
    fake = _FakeTime()
    with _open(path, _Receiver(), clock=fake.clock) as spool:
        began_s = fake.now_s
        for _ in range(30):
            _write(spool, 1)
            aside = spool.statistics.set_aside
            spool._on_write_error(corrupt("malformed"))
            _until(lambda: spool._damage is None)
            del aside
        _until(lambda: spool.statistics.blocked == "")
        assert spool.statistics.set_aside is not None
    assert fake.now_s - began_s >= 5
    assert len(list(path.parent.glob("a.spool.damaged-?"))) <= 5


_START_ON_A_FULL_DISK = """
import resource, sys, time
from edge_sdk.types import ErrorRecord
from edge_sdk.sinks.spool import Spool
from edge_sdk.sinks.sender import Delivery
class Takes:
    window = 50
    bodies = []
    def deliver(self, parcels):
        self.bodies += [parcel.body for parcel in parcels]
        return Delivery(tuple(parcel.seq for parcel in parcels))
    def close(self): pass
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
limit(0)  # EFBIG in place of ENOSPC, which SQLite takes for a failing disk, and Python passes on
spool = Spool(sys.argv[1], Takes(), device="door", linger_s=5)
for i in range(30):
    spool.write(ErrorRecord(str(i), "x"))
told = [health.what for health in spool.take_health()]
assert told == ["spool unavailable"], told
assert spool.statistics.depth == 30 and spool.statistics.blocked
limit(resource.RLIM_INFINITY)
until = time.monotonic() + 30
while len(Takes.bodies) < 30 and time.monotonic() < until:
    time.sleep(0.01)
time.sleep(1.1)
told = [health.what for health in spool.take_health()]
assert "spool available" in told, told
spool.close()
print(len(Takes.bodies), spool.statistics.unwritten)
"""


@pytest.mark.parametrize("before", ["nothing", "a spool", "a spool of version 1"])
def test_a_disk_that_is_full_at_the_start_is_no_error(before: str, path: Path) -> None:
    if before == "a spool":
        with _open(path, _Away(), linger_s=0.1) as spool:
            _write(spool, 3)
    elif before == "a spool of version 1":
        _make_version_1(path, [json.dumps({"seq": 101 + i}).encode() for i in range(3)])
    result = subprocess.run(
        [sys.executable, "-c", _START_ON_A_FULL_DISK, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["30" if before == "nothing" else "33", "0"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_no_file_can_be_made_at_the_start(
    number: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(name: Any, *arguments: Any, **named: Any) -> int:
        if str(name).endswith("-lock"):
            raise OSError(number, os.strerror(number))
        return real(name, *arguments, **named)

    fake = _FakeTime()
    receiver = _Receiver()
    with monkeypatch.context() as full:
        full.setattr(os, "open", refuse)
        spool = Spool(path, receiver, device="door", clock=fake.clock)
        _write(spool, 3)
        (health,) = spool.take_health()
        assert health.what == "spool unavailable"
        assert os.strerror(number) in health.detail
        assert str(path.parent) not in health.detail
    _until(lambda: len(receiver.bodies) == 3)
    spool.close()


def test_a_spool_that_never_opened_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise SpoolBlockedError("full")

    monkeypatch.setattr("edge_sdk.sinks.spool.SpoolStore", refuse)
    spool = Spool(path, _Receiver(), device="door", linger_s=0.1)
    _write(spool, 3)
    spool.close()
    assert spool.statistics.unwritten == 3
    assert list(path.parent.iterdir()) == []
