"""Saved frames, read back by the reader of training data."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.errors import SinkSpecError, WriteError
from edge_sdk.sinks.save_frames import SaveFrames, Wanted, file_name, folder_name, open_save_frames
from edge_sdk.types import Frame, FrameRecord, HealthRecord, Ranked
from edge_sdk.vision.images import read_image

_RNG = np.random.default_rng(1)


def _picture(seed: int = 0, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """Flat patches, which JPEG keeps."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (size[0] // 16, size[1] // 16, 3), np.uint8)
    return np.asarray(patches.repeat(16, 0).repeat(16, 1))


def _record(
    score: float = 0.4, label: str | None = "cat", second: float = 0.1, frame: int = 0, ts: str = ""
) -> FrameRecord:
    top = (Ranked("dog" if label is None else label, score), Ranked("bird", second))
    when = ts or "2026-03-14T15:09:26.535+00:00"
    return FrameRecord(when, frame, "cam", label, score, top, 1, 2, 3, 4, None, "m")


def _open(folder: Path, wanted: Wanted | None = None, **options: Any) -> SaveFrames:
    settings = {"min_interval_s": 0.0, "min_free_bytes": 0, **options}
    return SaveFrames(folder, wanted or Wanted(), **settings)


def _see(sink: SaveFrames, frame: Frame, record: FrameRecord) -> None:
    before = sink.statistics
    sink.see(frame, record)
    end = time.monotonic() + 20  # one at a time: a busy thread passes frames over
    while sink.statistics == before and not sink._jobs.empty() and time.monotonic() < end:
        time.sleep(0.005)


def _see_all(folder: Path, count: int, **options: Any) -> SaveFrames:
    sink = _open(folder, **options)
    for i in range(count):
        saved = sink.statistics.saved
        sink.see(Frame(_picture(i), index=i), _record(frame=i))
        end = time.monotonic() + 2
        while not sink._jobs.empty() or (
            sink.statistics.saved == saved
            and sink.statistics.no_room + sink.statistics.same_scene + sink.statistics.failed == 0
            and time.monotonic() < end
        ):
            time.sleep(0.002)
    sink.close()
    return sink


def _kept(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_an_uncertain_frame_is_kept_where_training_looks_for_it(tmp_path: Path) -> None:
    sink = _open(tmp_path / "kept")
    pixels = _picture()
    sink.see(Frame(pixels.copy()), _record(0.4))
    sink.see(Frame(_picture(1)), _record(0.9))
    sink.write(HealthRecord("T", "cam", "black", "x"))
    sink.close()
    (name,) = _kept(tmp_path / "kept")
    assert name == "cat/20260314T150926.535Z_0.40_cat_bird_f0.jpg"
    read = read_image(tmp_path / "kept" / name)
    assert np.abs(read.pixels.astype(int) - pixels).mean() < 8  # colours in the right order
    assert sink.statistics.saved == 1


@pytest.mark.parametrize("format_", ["rgb", "bgr", "rgba", "gray", "i420"])
def test_every_format_of_a_camera(format_: str, tmp_path: Path) -> None:
    rgb = _picture(3)
    pixels = {
        "rgb": rgb,
        "bgr": rgb[..., ::-1],
        "rgba": np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
        "gray": rgb[..., 0],
        "i420": np.full((48 * 3 // 2, 64), 128, np.uint8),
    }[format_]
    sink = _open(tmp_path)
    sink.see(Frame(np.ascontiguousarray(pixels), format_), _record())  # type: ignore[arg-type]
    sink.close()
    (name,) = _kept(tmp_path)
    read = read_image(tmp_path / name).pixels
    assert read.shape[:2] == (48, 64)
    if format_ in ("rgb", "bgr", "rgba"):
        assert np.abs(read.astype(int) - rgb).mean() < 8


def test_the_frame_is_copied(tmp_path: Path) -> None:
    sink = _open(tmp_path)
    frame = Frame(_picture(5))
    wanted = frame.pixels.copy()
    sink.see(frame, _record())
    frame.pixels[:] = 0  # the camera's next one
    sink.close()
    (name,) = _kept(tmp_path)
    assert np.abs(read_image(tmp_path / name).pixels.astype(int) - wanted).mean() < 8


@pytest.mark.parametrize(
    ("wanted", "score", "second", "kept"),
    [
        (Wanted(0.6), 0.59, 0.1, True),
        (Wanted(0.6), 0.6, 0.1, False),
        (Wanted(None, 0.2), 0.5, 0.4, True),
        (Wanted(None, 0.2), 0.5, 0.3, False),
        (Wanted(0.3, 0.2), 0.5, 0.4, True),
        (Wanted(None, None, 1.0), 0.99, 0.0, True),
    ],
)
def test_which_frames_are_wanted(
    wanted: Wanted, score: float, second: float, kept: bool, tmp_path: Path
) -> None:
    sink = _open(tmp_path, wanted)
    sink.see(Frame(_picture()), _record(score, second=second))
    sink.close()
    assert bool(_kept(tmp_path)) == kept


def test_the_same_scene_is_kept_once_whatever_the_noise(tmp_path: Path) -> None:
    sink = _open(tmp_path)
    scene = _picture(7, (480, 640)).astype(float) * 0.8 + 20
    for i in range(30):
        noisy = np.clip(scene + _RNG.normal(0, 6, scene.shape), 0, 255).astype(np.uint8)
        _see(sink, Frame(noisy, index=i), _record(frame=i))
    moved = scene.copy()
    moved[100:260, 200:280] = 20, 200, 20  # a bottle
    _see(sink, Frame(moved.astype(np.uint8), index=100), _record(frame=100))
    sink.close()
    assert sink.statistics.saved == 2
    assert sink.statistics.same_scene >= 25


def test_pictures_keep_their_distance_in_time(tmp_path: Path) -> None:
    sink = _see_all(tmp_path, 3, min_interval_s=60.0)
    assert sink.statistics.saved == 1


def test_so_many_an_hour_are_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = _open(tmp_path, Wanted(None, None, 60.0))
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for i in range(3):
        for second in range(0, 60, 7):
            monkeypatch.setattr(time, "monotonic", lambda t=now + 60 * i + second: t)
            sink.see(
                Frame(_picture(10 * i + second), index=i), _record(0.99, frame=100 * i + second)
            )
            while not sink._jobs.empty():
                time.sleep(0.001)
            time.sleep(0.01)
    sink.close()
    assert sink.statistics.saved == 3


def test_the_quota_holds_is_said_once_and_nothing_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sorted.jpg").write_bytes(b"x" * 3000)
    sink = _see_all(tmp_path, 6, max_bytes=6000)
    assert sink.statistics.saved >= 1
    assert sink.statistics.no_room >= 1
    assert "mine/sorted.jpg" in _kept(tmp_path)
    assert sum((tmp_path / n).stat().st_size for n in _kept(tmp_path)) < 6000 + 3000
    assert [health.what for health in sink.take_health()] == ["no room for pictures"]
    assert sink.name == tmp_path.name


def test_it_goes_on_when_somebody_has_tidied_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old.jpg").write_bytes(b"x" * 9000)
    monkeypatch.setattr("edge_sdk.sinks.save_frames._RESCAN_S", 0.0)
    sink = _open(tmp_path, max_bytes=9000)
    sink.see(Frame(_picture(1)), _record())
    assert sink.statistics.no_room == 1
    (tmp_path / "old.jpg").unlink()
    end = time.monotonic() + 20
    while not sink.statistics.saved and time.monotonic() < end:
        sink.see(Frame(_picture(2)), _record())
        time.sleep(0.01)
    sink.close()
    assert sink.statistics.saved == 1
    reported = [health.what for health in sink.take_health()]
    assert reported == ["no room for pictures", "room for pictures again"]
    assert sink.take_health() == []


def test_a_full_folder_is_not_counted_by_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old.jpg").write_bytes(b"x" * 9000)
    monkeypatch.setattr("edge_sdk.sinks.save_frames._RESCAN_S", 0.0)
    sink = _open(tmp_path, max_bytes=9000)
    counted: list[str] = []

    def count(_: Path) -> int:
        counted.append(threading.current_thread().name)
        return 9000

    monkeypatch.setattr("edge_sdk.sinks.save_frames._used_bytes", count)
    for _ in range(10):
        sink.see(Frame(_picture(2)), _record())
        time.sleep(0.01)
    sink.close()
    assert set(counted) == {"edgecls-save"}
    assert sink.statistics.saved == 0


def test_a_picture_that_cannot_be_made_does_not_end_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Frame) -> bytes:
        raise ValueError("bug")

    sink = _open(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("edge_sdk.sinks.save_frames._jpeg", broken)
        _see(sink, Frame(_picture(1)), _record())
        end = time.monotonic() + 20
        while not sink.statistics.failed and time.monotonic() < end:
            time.sleep(0.01)
    sink.see(Frame(_picture(2)), _record())
    sink.close()
    assert (sink.statistics.failed, sink.statistics.saved) == (1, 1)


def test_the_disk_keeps_some_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 999, 999))
    sink = _open(tmp_path, min_free_bytes=1000)
    sink.see(Frame(_picture()), _record())
    sink.close()
    assert sink.statistics == sink.statistics.__class__(0, 0, 1, 0)


def test_a_disk_that_fails_is_reported_and_never_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    sink = _open(tmp_path)
    with monkeypatch.context() as dying:
        dying.setattr(shutil, "disk_usage", fails)
        sink.see(Frame(_picture()), _record())
        (health,) = sink.take_health()
        assert health.what == "picture not kept"
        assert "Input/output error" in health.detail
    sink.see(Frame(_picture(1)), _record())
    sink.close()
    assert (sink.statistics.failed, sink.statistics.saved) == (1, 1)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_folder_that_cannot_be_made_on_a_full_disk_is_made_later(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    with monkeypatch.context() as full:
        full.setattr(Path, "mkdir", refuses)
        sink = _open(tmp_path / "a" / "b")
    sink.see(Frame(_picture()), _record())
    sink.close()
    assert sink.statistics.saved == 1


def test_a_disk_that_refuses_costs_the_picture_and_not_the_loop(tmp_path: Path) -> None:
    (tmp_path / "cat").touch()  # a file where the folder should be
    sink = _see_all(tmp_path, 3)
    assert sink.statistics.failed >= 1
    (health,) = sink.take_health()
    assert health.what == "picture not kept"
    assert "cat" in health.detail
    assert _kept(tmp_path) == ["cat"]


def test_a_disk_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.sinks.save_frames._CLOSE_S", 0.2)
    go_on = threading.Event()

    def hangs(_: Frame) -> bytes:
        assert go_on.wait(20)
        return b""

    monkeypatch.setattr("edge_sdk.sinks.save_frames._jpeg", hangs)
    sink = _open(tmp_path)
    for i in range(3):  # one is being written, one waits
        sink.see(Frame(_picture(i)), _record())
        time.sleep(0.05)
    began = time.monotonic()
    sink.close()
    assert time.monotonic() - began < 5
    go_on.set()


def test_a_clock_set_back_overwrites_nothing(tmp_path: Path) -> None:
    for i in range(3):
        sink = _open(tmp_path)
        sink.see(Frame(_picture(i)), _record())
        sink.close()
    assert len(_kept(tmp_path)) == 3


@pytest.mark.parametrize(
    ("label", "layout", "folder"),
    [
        ("cat", "by-label", "cat"),
        ("größe 2", "by-label", "größe 2"),
        ("../../etc", "by-label", "_.._.._etc"),
        ("", "by-label", "_"),
        (".hidden", "by-label", "_.hidden"),
        ("a\0b\n", "by-label", "a_b_"),
        (None, "by-label", "unsorted"),
        ("cat", "unsorted", "unsorted"),
    ],
)
def test_folders_of_labels(label: str | None, layout: str, folder: str, tmp_path: Path) -> None:
    sink = open_save_frames(tmp_path / "deep" / "kept", layout=layout)  # type: ignore[arg-type]
    sink._min_free_bytes = 0
    sink.see(Frame(_picture()), _record(label=label))
    sink.close()
    (name,) = _kept(tmp_path)
    assert Path(name).parts[:-1] == ("deep", "kept", folder)


def test_long_labels_and_odd_times_give_file_names() -> None:
    assert len(folder_name("ü" * 300).encode()) <= 121
    name = file_name(_record(label="../x" * 50, ts="yesterday / noon"))
    assert "/" not in name
    assert len(name) < 120
    assert file_name(_record(ts="9999-12-31T23:59:59+00:00")).startswith("99991231T235959.000Z")


def test_training_reads_what_was_kept(tmp_path: Path) -> None:
    folders = pytest.importorskip(
        "host_tools.data.layouts.folders", reason="the extra [host] is not installed"
    )
    for i, label in enumerate(["cat", "dog", "cat"]):
        sink = _open(tmp_path)
        sink.see(Frame(_picture(i), index=i), _record(label=label, frame=i))
        sink.close()
    found = folders.read(tmp_path)
    assert found.classes == ("cat", "dog")
    assert len(found.pictures) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"below_score": 1.5},
        {"below_score": float("nan")},
        {"below_margin": -0.1},
        {"per_hour": 0},
        {"per_hour": 1e6},
        {"max_bytes": 0},
        {"below_score": None},
    ],
)
def test_wishes_that_make_no_sense(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SinkSpecError):
        open_save_frames(tmp_path, **options)


def test_a_folder_that_cannot_be_and_a_closed_sink(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot be created"):
        SaveFrames(tmp_path / "file" / "kept")
    sink = _open(tmp_path / "kept")
    sink.close()
    sink.close()
    with pytest.raises(WriteError, match="closed"):
        sink.see(Frame(_picture()), _record())
