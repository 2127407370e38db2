"""The fake camera behaves like a camera, and plays its scripted faults."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_sdk.errors import (
    CameraNotFoundError,
    SourceLostError,
    SourceNotFoundError,
    SourceSpecError,
)
from edge_sdk.sources.fake import FakeCamera
from edge_sdk.sources.specification import SourceSpec, open_source, parse_source
from edge_sdk.types import Frame


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures of 8 x 6 pixels, the i-th of gray value 10 * i + 50."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(10):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((6, 8, 3), 10 * i + 50, np.uint8))
    return folder


def _frame(camera: FakeCamera) -> Frame:
    frame = camera.read()
    assert frame is not None
    return frame


def _value(camera: FakeCamera) -> int:
    return int(_frame(camera).pixels[0, 0, 0])


def test_pictures_come_in_order_and_again_from_the_start(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=max")
    assert [_value(camera) for _ in range(12)] == [*range(50, 150, 10), 50, 60]


def test_frames_are_as_old_as_the_queue_is_long(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=200&queue=100ms")
    ages_ms = []
    for _ in range(10):
        stamp_ns = _frame(camera).timestamp_ns
        assert stamp_ns is not None
        ages_ms.append((time.monotonic_ns() - stamp_ns) / 1e6)
    assert min(ages_ms) >= 100


def test_without_loop_it_ends(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=max&loop=no")
    assert len([_frame(camera) for _ in range(10)]) == 10
    assert [camera.read(), camera.read()] == [None, None]


def test_frames_come_at_the_rate_with_the_time_of_their_beat(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=50")
    before = time.monotonic()
    stamps = [_frame(camera).timestamp_ns or 0 for _ in range(11)]
    assert time.monotonic() - before >= 0.2
    steps = np.diff(stamps)
    assert steps.min() >= 20_000_000
    assert not (steps % 20_000_000).any()  # a loaded machine may miss beats, not shift them
    assert stamps[-1] <= time.monotonic_ns()


def test_whoever_reads_late_misses_frames_and_gets_a_fresh_one(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=20")
    first = _frame(camera)
    time.sleep(0.31)
    late = _frame(camera)
    assert late.timestamp_ns is not None
    assert first.timestamp_ns is not None
    assert late.timestamp_ns - first.timestamp_ns >= 300_000_000
    assert late.index == 1


def test_pictures_of_any_size_are_brought_to_one(tmp_path: Path) -> None:
    for i, shape in enumerate([(6, 8, 3), (60, 80, 3), (5, 50)]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full(shape, 100, np.uint8))
    camera = FakeCamera(tmp_path, "fps=max")
    assert {_frame(camera).pixels.shape for _ in range(5)} == {(6, 8, 3)}
    camera = FakeCamera(tmp_path, "fps=max&size=32x24")
    assert {_frame(camera).pixels.shape for _ in range(5)} == {(24, 32, 3)}


def test_pictures_that_cannot_be_read_are_left_out(
    pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (pictures / "0a.png").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        camera = FakeCamera(pictures, "fps=max")
        assert [_value(camera) for _ in range(3)] == [50, 60, 70]
    assert "0a.png" in caplog.text


def test_there_must_be_something_to_play(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for path in (tmp_path, tmp_path / "broken.png", tmp_path / "nowhere"):
        with pytest.raises(SourceNotFoundError):
            FakeCamera(path)


@pytest.mark.parametrize("script", ["stal@3", "queue=100", "queue=0.1s", "queue=-1ms"])
def test_a_script_that_cannot_be_read_is_refused(pictures: Path, script: str) -> None:
    with pytest.raises(SourceSpecError, match=re.escape(script.partition("@")[0])):
        FakeCamera(pictures, script)


def test_a_video_is_played(tmp_path: Path) -> None:
    path = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"FFV1"), 25, (8, 6))
    for i in range(5):
        writer.write(np.full((6, 8, 3), 10 * i, np.uint8))
    writer.release()
    camera = FakeCamera(path, "fps=max")
    assert [_value(camera) for _ in range(7)] == [0, 10, 20, 30, 40, 0, 10]
    assert _frame(camera).format == "bgr"
    camera.close()
    assert FakeCamera(path, "fps=max&size=4x4").read().format == "rgb"  # type: ignore[union-attr]


def test_a_frozen_camera_repeats_its_picture_with_new_times(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=100&freeze@3+4")
    frames = [_frame(camera) for _ in range(9)]
    camera = FakeCamera(pictures, "fps=100&freeze@3+4")
    assert [_value(camera) for _ in range(9)] == [50, 60, 70, 70, 70, 70, 70, 80, 90]
    stamps = [frame.timestamp_ns or 0 for frame in frames]
    assert stamps == sorted(set(stamps))


def test_a_camera_may_be_frozen_from_the_first_frame(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=max&freeze@0")
    assert [_value(camera) for _ in range(5)] == [50] * 5


def test_a_dark_picture_has_noise(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=max&black@1+3")
    looks = [_frame(camera).pixels.copy() for _ in range(5)]
    assert [look.mean() > 30 for look in looks] == [True, False, False, False, True]
    assert max(look.max() for look in looks[1:4]) <= 4
    assert not np.array_equal(looks[1], looks[2])


def test_a_swapped_scene_is_very_different(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=max&swap@2+2")
    assert [_value(camera) for _ in range(6)] == [50, 60, 255 - 70, 255 - 80, 90, 100]


def test_pictures_are_not_changed_by_the_faults(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=max&swap@2+4&freeze@3+2")
    assert [_value(camera) for _ in range(20)][10:] == [*range(130, 150, 10), *range(50, 130, 10)]


def test_a_stall_blocks_until_the_camera_is_closed(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=max&stall@2")
    _frame(camera), _frame(camera)
    answers: list[Frame | None] = []
    thread = threading.Thread(target=lambda: answers.append(camera.read()))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    camera.close()
    thread.join(5)
    assert answers == [None]
    assert camera.read() is None


def test_a_stall_may_pass(pictures: Path) -> None:
    camera = FakeCamera(pictures, "fps=max&stall@2+0.2s")
    _frame(camera), _frame(camera)
    before = time.monotonic()
    assert _value(camera) == 70
    assert time.monotonic() - before >= 0.2


def test_an_unplugged_camera_is_lost_and_away_and_back(pictures: Path) -> None:
    spec = parse_source(f"fake:{pictures}?fps=max&unplug@3+0.4s&black@5+2")
    camera = _open(spec)
    for _ in range(3):
        _frame(camera)
    for _ in range(3):
        with pytest.raises(SourceLostError, match="unplugged"):
            camera.read()
    camera.close()
    with pytest.raises(CameraNotFoundError, match="unplugged"):
        open_source(spec)
    time.sleep(0.45)
    camera = _open(spec)
    dark = [_frame(camera).pixels.mean() < 5 for _ in range(5)]
    assert dark == [False, True, True, False, False]  # frames 4 to 8 of all openings
    camera.close()


def _open(spec: SourceSpec) -> FakeCamera:
    camera = open_source(spec)
    assert isinstance(camera, FakeCamera)
    return camera


def _read_until_lost(spec: SourceSpec, count: multiprocessing.Queue[int]) -> None:
    camera, read = _open(spec), 0
    try:
        while True:
            _frame(camera)
            read += 1
    except SourceLostError:
        count.put(read)
        count.close()
        count.join_thread()
        os.kill(os.getpid(), 9)  # as a supervisor ends a child


def test_what_has_happened_is_known_to_the_next_process(pictures: Path) -> None:
    spec = parse_source(f"fake:{pictures}?fps=max&unplug@5+0.1s&unplug@8+0.1s")
    context = multiprocessing.get_context("spawn")
    counts = []
    for _ in range(2):
        queue = context.Queue()
        process = context.Process(target=_read_until_lost, args=(spec, queue))
        process.start()
        counts.append(queue.get(timeout=60))
        process.join(60)
        time.sleep(0.11)
    assert counts == [5, 2]
    camera = _open(spec)
    assert [_frame(camera).index for _ in range(30)] == list(range(30))


def test_without_a_memory_every_opening_starts_anew(pictures: Path) -> None:
    for _ in range(2):
        camera = FakeCamera(pictures, "fps=max&unplug@1+0s")
        _frame(camera)
        with pytest.raises(SourceLostError):
            camera.read()


def test_the_memory_is_removed_at_the_end_of_the_program(pictures: Path) -> None:
    code = (
        "from edge_sdk import open_source, parse_source; import os\n"
        f"spec = parse_source('fake:{pictures}?fps=max'); camera = open_source(spec)\n"
        "camera.read(); assert os.path.exists(spec.memory); print(spec.memory)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not Path(ran.stdout.strip()).exists()


def test_what_a_killed_program_left_is_removed_by_the_next(pictures: Path) -> None:
    code = (
        "from edge_sdk import open_source, parse_source; import os, signal\n"
        f"spec = parse_source('fake:{pictures}?fps=max'); camera = open_source(spec)\n"
        "camera.read(); print(spec.memory, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    left = Path(killed.stdout.strip())
    assert left.exists()
    mine = parse_source(f"fake:{pictures}")
    with contextlib.closing(open_source(mine)):
        assert not left.exists()
        parse_source(f"fake:{pictures}")
        assert Path(mine.memory).exists()


def test_a_hundred_openings_leave_no_descriptor(pictures: Path) -> None:
    spec = parse_source(f"fake:{pictures}?fps=max&unplug@2+0s&repeat=4")

    def cycle() -> None:
        camera = _open(spec)
        with contextlib.suppress(SourceLostError):
            while True:
                camera.read()
        camera.close()

    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    cycle()
    before = held()
    for _ in range(100):
        cycle()
    assert held() == before
