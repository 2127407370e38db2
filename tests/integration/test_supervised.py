"""A fake camera in a real child process: stalls, crashes, unpluggings, and nothing left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import pytest

from edge_sdk import open_camera, retry
from edge_sdk.errors import (
    CameraNotFoundError,
    NoFrameYetError,
    SourceError,
    SourceLostError,
    SourceNotFoundError,
    SourceSpecError,
    UnreadableImageError,
)
from edge_sdk.ports import LiveSource
from edge_sdk.sources import capture_process
from edge_sdk.sources.capture_process import CaptureChild
from edge_sdk.sources.specification import SourceSpec, parse_source
from edge_sdk.sources.supervised import SupervisedSource
from edge_sdk.types import Frame, Health

_DETECTED_S, _BACK_S = 3.0, 5.0
_SLOW = 1.5  # what a machine that is busy with other tests adds, in seconds


def _write_pictures(folder: Path, n: int = 8, size: tuple[int, int] = (64, 48)) -> Path:
    folder.mkdir()
    noise = np.random.default_rng(0)
    for i in range(n):
        picture = noise.integers(0, 256, (size[1], size[0], 3), np.uint8)
        cv2.imwrite(str(folder / f"{i:03}.png"), picture)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return _write_pictures(tmp_path / "pictures")


def _next(camera: SupervisedSource, within_s: float = 20.0) -> Frame:
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        with contextlib.suppress(NoFrameYetError):
            frame = camera.read()
            assert frame is not None
            return frame
    raise AssertionError(f"no frame within {within_s} s; {camera.take_health()}")


def _until(
    camera: SupervisedSource, what: str, within_s: float = 20.0
) -> tuple[float, list[Health]]:
    """Reads until there is such an event; seconds since the last frame before it, and all events."""
    seen: list[Health] = []
    give_up = last = time.monotonic()
    give_up += within_s
    while time.monotonic() < give_up:
        frame = None
        with contextlib.suppress(NoFrameYetError):
            frame = camera.read()
        seen += camera.take_health()
        now = time.monotonic()
        if any(health.what == what for health in seen):
            return now - last, seen
        last = now if frame is not None else last
    raise AssertionError(f"no {what} within {within_s} s, only {seen}")


def _pid(camera: SupervisedSource) -> int:
    assert camera._child is not None
    return camera._child.pid


def _runs(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _eventually(true: Callable[[], bool], within_s: float = 5.0) -> bool:
    give_up = time.monotonic() + within_s
    while not true():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.01)
    return True


def test_frames_come_with_their_times_and_numbers(pictures: Path) -> None:
    with open_camera(f"fake:{pictures}?fps=50") as camera:
        assert isinstance(camera, LiveSource)
        first = _next(camera)
        assert (first.pixels.shape, first.format) == ((48, 64, 3), "rgb")
        expected = cv2.cvtColor(cv2.imread(str(pictures / "000.png")), cv2.COLOR_BGR2RGB)
        if first.index == 0:
            np.testing.assert_array_equal(first.pixels, expected)
        assert first.timestamp_ns is not None
        assert 0 <= time.monotonic_ns() - first.timestamp_ns < 5e9
        indices = [first.index] + [_next(camera).index for _ in range(20)]
        assert indices == sorted(set(indices))
        assert camera.dropped == indices[-1] + 1 - len(indices)
        assert camera.take_health() == ()
        assert camera.name == f"fake:{pictures}"


def test_a_slow_reader_gets_the_newest_frame(pictures: Path) -> None:
    with open_camera(f"fake:{pictures}?fps=50") as camera:
        ages = []
        for _ in range(8):
            frame = _next(camera)
            assert frame.timestamp_ns is not None
            ages.append((time.monotonic_ns() - frame.timestamp_ns) / 1e6)
            time.sleep(0.1)
        assert sorted(ages)[3] < 60
        assert camera.dropped >= 10


def test_files_are_delivered_whole_and_in_order(tmp_path: Path) -> None:
    folder = _write_pictures(tmp_path / "files", n=30)
    (folder / "010a.png").write_bytes(b"no picture")
    names: list[str] = []
    unreadable: list[str] = []
    with open_camera(str(folder)) as camera:
        while True:
            try:
                frame = camera.read()
            except NoFrameYetError:
                continue
            except UnreadableImageError as error:
                unreadable.append(Path(error.name).name)
                continue
            if frame is None:
                break
            time.sleep(0.005 * (len(names) % 3))
            stored = cv2.cvtColor(cv2.imread(frame.name), cv2.COLOR_BGR2RGB)
            np.testing.assert_array_equal(frame.pixels, stored)
            names.append(Path(frame.name).name)
        assert camera.read() is None
        assert camera.dropped == 0
    assert names == [f"{i:03}.png" for i in range(30)]
    assert unreadable == ["010a.png"]


def test_of_many_bad_files_each_one_is_told(tmp_path: Path) -> None:
    folder = _write_pictures(tmp_path / "files", n=1)
    for i in range(250):
        (folder / f"bad{i:03}.png").write_bytes(b"no picture")
    unreadable = 0
    with open_camera(str(folder)) as camera:
        time.sleep(1.0)  # many have been said before the first read
        while True:
            try:
                if camera.read() is None:
                    break
            except NoFrameYetError:
                continue
            except UnreadableImageError:
                unreadable += 1
    assert unreadable == 250


def test_damaged_memory_costs_the_child_and_not_the_run(pictures: Path) -> None:
    with open_camera(f"fake:{pictures}?fps=30") as camera:
        _next(camera)
        assert camera._child is not None

        def damaged(_: int) -> Frame:
            raise SourceLostError("the shared memory is damaged")

        camera._child.frames.take = damaged  # type: ignore[method-assign,assignment]
        _, seen = _until(camera, "reopened")
        assert [health.what for health in seen] == ["lost", "reopened"]
        _next(camera)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x80\x00 no message\n",
        b"[]\n",
        b'{"failed": ["annotations"]}\n',
        b'{"failed": ["EdgeClsError", {"a": 1}]}\n',
        b'{"unreadable": [1]}\n',
        b"a" * 60_000 + b"b" * 60_000,
    ],
    ids=["bytes", "list", "no-error", "no-text", "no-picture", "endless"],
)
def test_rubbish_on_the_pipe_costs_the_child_and_not_the_run(
    rubbish: bytes, pictures: Path
) -> None:
    with open_camera(f"fake:{pictures}?fps=30") as camera:
        _next(camera)
        pid = _pid(camera)
        with _pipe_of(pid).open("wb", buffering=0) as pipe:
            sent = threading.Thread(target=_send, args=(pipe, rubbish), daemon=True)
            sent.start()
            _, seen = _until(camera, "reopened")
            sent.join(5)
        assert [health.what for health in seen] == ["lost", "reopened"]
        assert "no valid message" in seen[0].detail
        assert _eventually(lambda: not _runs(pid))
        _next(camera)


def _pipe_of(pid: int) -> Path:
    """Where a child writes its messages: the last but one word of its command line."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return Path(f"/proc/{pid}/fd/{int(words[-3])}")


def _send(pipe: BinaryIO, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the child was ended before it was all there
        pipe.write(data)


def test_a_child_cannot_cut_off_the_memory_that_its_parent_reads(pictures: Path) -> None:
    with open_camera(f"fake:{pictures}?fps=30") as camera:
        _next(camera)
        words = Path(f"/proc/{_pid(camera)}/cmdline").read_bytes().split(b"\0")
        control, pixels = (f"/proc/{_pid(camera)}/fd/{int(word)}" for word in words[4:6])
        for path in (control, pixels):
            assert "memfd:edgecls" in str(Path(path).readlink())
            with pytest.raises(PermissionError):
                os.truncate(path, 0)
        _next(camera)


def test_processes_that_no_kill_ends_do_not_pile_up(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "CAMERA_FIRST_S", 0.0)
    started: list[int] = []
    with SupervisedSource(parse_source(f"fake:{pictures}?fps=30"), give_up_s=None) as camera:
        _next(camera)
        start = capture_process.CaptureChild._start

        def counted(child: CaptureChild, speak: int) -> subprocess.Popen[bytes]:
            started.append(speak)
            process = start(child, speak)
            process.kill()  # as a driver that crashes
            return process

        monkeypatch.setattr(capture_process.CaptureChild, "_start", counted)
        monkeypatch.setattr(capture_process.CaptureChild, "gone", lambda _: False)
        os.kill(_pid(camera), signal.SIGKILL)
        give_up = time.monotonic() + 4.0
        while time.monotonic() < give_up:
            with contextlib.suppress(NoFrameYetError):
                camera.read()
    assert len(started) == capture_process._LEAVING_MAX - 1


def test_one_picture_that_ends_at_once_is_delivered(pictures: Path) -> None:
    with open_camera(str(pictures / "003.png")) as camera:
        time.sleep(1.0)  # everything has been said before the first read
        assert _next(camera).name.endswith("003.png")
        assert camera.read() is None


def test_a_stall_is_found_killed_and_reopened(pictures: Path) -> None:
    with open_camera(f"fake:{pictures}?fps=30&stall@20") as camera:
        before = _pid(camera)
        detected_s, seen = _until(camera, "stalled")
        assert 2.3 < detected_s < _DETECTED_S + _SLOW
        assert not _runs(before)
        back_s, more = _until(camera, "reopened")
        assert back_s < _BACK_S
        assert [health.what for health in [*seen, *more]] == ["stalled", "reopened"]
        assert "no frame for 2." in seen[0].detail
        assert camera.reopenings == 1
        assert _pid(camera) != before
        assert _next(camera).index >= 20  # numbers go on


def test_a_driver_that_hangs_hard_is_killed(pictures: Path) -> None:
    with open_camera(f"fake:{pictures}?fps=30", stall_s=0.6) as camera:
        _next(camera)
        before = _pid(camera)
        os.kill(before, signal.SIGSTOP)
        _until(camera, "stalled")
        assert not _runs(before)
        _until(camera, "reopened")


def test_an_unplugged_camera_comes_back_within_five_seconds(pictures: Path) -> None:
    away = pictures.with_name("away")
    with open_camera(f"fake:{pictures}?fps=30&unplug@20+0.1s") as camera:
        _next(camera)
        pictures.rename(away)
        detected_s, seen = _until(camera, "lost")
        assert detected_s < _DETECTED_S
        assert "unplugged" in seen[0].detail
        with contextlib.suppress(NoFrameYetError):
            for _ in range(12):  # it is looked for meanwhile, in vain
                camera.read()
        away.rename(pictures)
        began = time.monotonic()
        _until(camera, "reopened")
        assert time.monotonic() - began < _BACK_S + _SLOW
        assert camera.take_health() == ()  # one outage, two events


def test_a_camera_may_come_back_with_larger_pictures(pictures: Path, tmp_path: Path) -> None:
    with open_camera(f"fake:{pictures}?fps=30&unplug@30+0.1s") as camera:
        held = _next(camera)
        copy = held.pixels.copy()
        pictures.rename(tmp_path / "old")
        _write_pictures(pictures, size=(1280, 720))
        give_up = time.monotonic() + 20
        while camera.reopenings == 0 and time.monotonic() < give_up:
            with contextlib.suppress(NoFrameYetError):
                frame = camera.read()
        assert frame is not None
        assert frame.pixels.shape == (720, 1280, 3)
        assert held.pixels.shape == copy.shape  # a view of memory that is still there


def test_what_does_not_come_back_is_lost_in_the_end(pictures: Path) -> None:
    with open_camera(f"fake:{pictures}?fps=30&unplug@5+99s", give_up_s=1.5) as camera:
        _until(camera, "lost")
        began = time.monotonic()
        with pytest.raises(SourceLostError, match=r"missing for .* s \(last attempt: .*unplugged"):
            _next(camera)
        assert 1.0 < time.monotonic() - began < 4.0
        with pytest.raises(SourceLostError):
            camera.read()


def test_frozen_pictures_are_reopened_once(pictures: Path) -> None:
    spec = parse_source(f"fake:{pictures}?fps=30&freeze@20")
    with SupervisedSource(spec, frozen_s=1.0) as camera:
        _, seen = _until(camera, "reopened")
        assert [health.what for health in seen] == ["frozen", "reopened"]
        time.sleep(0.1)
        for _ in range(30):
            _next(camera)
        assert camera.take_health() == ()


def test_what_is_frozen_after_reopening_too_is_only_reported(tmp_path: Path) -> None:
    still = _write_pictures(tmp_path / "still", n=1)
    with SupervisedSource(parse_source(f"fake:{still}?fps=30"), frozen_s=0.6) as camera:
        third = time.monotonic()
        give_up = third + 20
        seen: list[Health] = []
        while time.monotonic() < give_up:
            if len(seen) == 3:  # and nothing more
                give_up = min(give_up, third + 1.5)
            third = third if len(seen) == 3 else time.monotonic()
            with contextlib.suppress(NoFrameYetError):
                camera.read()
            seen += camera.take_health()
        assert [health.what for health in seen] == ["frozen", "reopened", "frozen"]
        assert "still" in seen[2].detail
        assert camera.reopenings == 1


def test_a_black_picture_is_told_and_nothing_is_reopened(pictures: Path) -> None:
    with open_camera(f"fake:{pictures}?fps=30&black@10+100") as camera:
        _, seen = _until(camera, "recovered")
        assert [health.what for health in seen] == ["black", "recovered"]
        assert camera.reopenings == 0


def test_a_crash_of_the_driver_is_named(pictures: Path) -> None:
    with open_camera(f"fake:{pictures}?fps=30") as camera:
        _next(camera)
        os.kill(_pid(camera), signal.SIGSEGV)
        _, seen = _until(camera, "lost")
        assert "SIGSEGV" in seen[0].detail
        _until(camera, "reopened")


def test_signals_for_everybody_are_for_the_parent(pictures: Path) -> None:
    with open_camera(f"fake:{pictures}?fps=30") as camera:
        _next(camera)
        pid = _pid(camera)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        time.sleep(0.3)
        for _ in range(5):
            _next(camera)
        assert _pid(camera) == pid
        assert os.getpgid(pid) != os.getpgid(0)  # Ctrl-C in a terminal does not reach it


@pytest.mark.parametrize("spec", ["fake:{}?fps=30", "fake:{}?fps=30&stall@1"])
def test_close_ends_a_read_in_another_thread(pictures: Path, spec: str) -> None:
    camera = open_camera(spec.format(pictures))
    pid = _pid(camera)
    answers: list[Frame | None] = []

    def reads() -> None:
        while True:
            with contextlib.suppress(NoFrameYetError):
                answers.append(camera.read())
                if answers[-1] is None:
                    return

    thread = threading.Thread(target=reads)
    thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    camera.close()
    thread.join(2)
    assert not thread.is_alive()
    assert time.monotonic() - began < 1.5
    assert not _runs(pid)
    camera.close()
    assert camera.read() is None


def _names(folder: str) -> list[str]:
    path = Path(folder)
    return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []


def _inventory() -> dict[str, object]:
    """What this process has: descriptors, threads, children, and shared memory with a name."""
    tasks = Path("/proc/self/task").iterdir()
    return {
        "descriptors": len(_names("/proc/self/fd")),
        "threads": threading.active_count(),
        "children": sorted("".join((t / "children").read_text() for t in tasks).split()),
        "named": _names("/dev/shm"),
    }


def test_ten_unpluggings_leave_nothing_behind(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "CAMERA_FIRST_S", 0.05)
    monkeypatch.setattr(retry, "CAMERA_LONGEST_S", 0.1)
    before = _inventory()
    camera = open_camera(f"fake:{pictures}?fps=100&unplug@5+0.05s&repeat=10")
    with camera:
        _until(camera, "reopened")
        during = len(_names("/proc/self/fd"))
        give_up = time.monotonic() + 60
        while camera.reopenings < 10 and time.monotonic() < give_up:
            with contextlib.suppress(NoFrameYetError):
                camera.read()
        camera.take_health()
        assert camera.reopenings >= 10
        assert len(_names("/proc/self/fd")) <= during
        assert threading.active_count() == before["threads"]
    assert _inventory() == before


def _parent(tmp_path: Path, spec: str) -> tuple[subprocess.Popen[str], int]:
    """A program that reads frames and writes to stdout, and the number of its child."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import time
            from edge_sdk import open_camera
            from edge_sdk.errors import NoFrameYetError
            camera = open_camera({spec!r})
            print(camera._child.pid, flush=True)
            while True:
                try:
                    camera.read()
                except NoFrameYetError:
                    pass
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("fault", ["", "&stall@3"])
def test_a_killed_parent_leaves_no_child(pictures: Path, tmp_path: Path, fault: str) -> None:
    named = _names("/dev/shm")
    process, child = _parent(tmp_path, f"fake:{pictures}?fps=30{fault}")
    with process:
        time.sleep(0.4)
        assert _runs(child)
        process.kill()
    assert _eventually(lambda: not _runs(child))
    assert _names("/dev/shm") == named


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a module in the place of picamera2, whose driver is scripted."""
    folder = tmp_path / "driver"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def write(code: str) -> None:
        (folder / "picamera2.py").write_text(textwrap.dedent(code))

    yield write
    sys.modules.pop("picamera2", None)


def test_a_missing_camera_is_an_error_at_once(driver: Callable[[str], None]) -> None:
    driver("raise ImportError('no such thing')")
    before = _inventory()
    with pytest.raises(CameraNotFoundError, match="no such thing"):
        open_camera("picamera")
    assert _inventory() == before


def test_a_driver_that_crashes_at_the_start_is_named(
    driver: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    driver("import ctypes; ctypes.string_at(0)")
    with pytest.raises(SourceNotFoundError, match="SIGSEGV"):
        open_camera("picamera")


def test_a_driver_that_hangs_at_the_start_is_given_up(driver: Callable[[str], None]) -> None:
    driver("import time; time.sleep(600)")
    before = _inventory()
    with pytest.raises(SourceError, match="could not be opened"):
        SupervisedSource(parse_source("picamera"), open_s=1.5)
    assert _inventory() == before


def test_a_bug_in_the_child_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceNotFoundError, match="status 1"):
        SupervisedSource(SourceSpec("picamera", "not a number"))
    assert "ValueError" in capfd.readouterr().err


def test_what_a_driver_prints_does_not_reach_stdout(
    driver: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    driver("import os; os.write(1, b'libcamera says hello\\n'); raise ImportError('no')")
    with pytest.raises(CameraNotFoundError):
        open_camera("picamera")
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "libcamera says hello" in shown.err


def test_a_password_is_not_in_the_process_list(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    popen = subprocess.Popen.__init__

    def noting(self: subprocess.Popen[bytes], words: list[str], **options: object) -> None:
        started.append([*words, *options["env"].values()])  # type: ignore[attr-defined]
        popen(self, words, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess.Popen, "__init__", noting)
    with pytest.raises(CameraNotFoundError) as caught:
        open_camera("rtsp://me:hunter2@127.0.0.1:1/x")
    assert started
    assert "hunter2" not in str(started) + str(caught.value)


def test_a_limit_of_the_machine_is_named_and_not_the_camera(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "CAMERA_FIRST_S", 0.0)
    camera = open_camera(f"fake:{pictures}?fps=30&unplug@10+60s", give_up_s=1.0)
    with camera:
        for _ in range(5):
            _next(camera)

        def refused(_: CaptureChild, __: int) -> subprocess.Popen[bytes]:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

        monkeypatch.setattr(CaptureChild, "_start", refused)
        with pytest.raises(SourceLostError) as caught:  # noqa: PT012
            while True:
                with contextlib.suppress(NoFrameYetError):
                    camera.read()
        reported = camera.take_health()
    assert "cannot be started (Resource temporarily unavailable: " in str(caught.value)
    assert "TasksMax=" in str(caught.value)
    assert "cable" not in str(caught.value)
    assert [health.what for health in reported] == ["lost", "lost"]
    assert "unplugged" in reported[0].detail
    assert "Resource temporarily unavailable" in reported[1].detail


def test_a_process_without_memory_for_frames_leaves_nothing_behind(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    started: list[subprocess.Popen[bytes]] = []
    start = CaptureChild._start

    def remembered(self: CaptureChild, speak: int) -> subprocess.Popen[bytes]:
        started.append(start(self, speak))
        return started[-1]

    monkeypatch.setattr(CaptureChild, "_start", remembered)
    monkeypatch.setattr(capture_process, "FrameReader", no_memory)
    before = descriptors()
    for _ in range(3):
        with pytest.raises(SourceNotFoundError, match="Cannot allocate memory"):
            open_camera(f"fake:{pictures}?fps=30")
    assert descriptors() == before
    assert len(started) == 3
    assert all(process.poll() is not None for process in started)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("give_up_s", float("nan")),
        ("give_up_s", -1.0),
        ("stall_s", 0.0),
        ("stall_s", float("nan")),
        ("frozen_s", -1.0),
        ("changed_s", float("nan")),
    ],
)
def test_seconds_that_are_none_are_refused(name: str, value: float, pictures: Path) -> None:
    with pytest.raises(SourceSpecError, match=f"{name}={value}; expected seconds"):
        open_camera(f"fake:{pictures}", **{name: value})  # type: ignore[arg-type]
