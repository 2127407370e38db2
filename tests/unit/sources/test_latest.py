"""Newest frame wins, and what was handed out stays as it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.classifier import Classifier
from edge_sdk.errors import FrameError, NoFrameYetError, SourceLostError, UnreadableImageError
from edge_sdk.ports import LiveSource
from edge_sdk.sources.latest import LatestFrame
from edge_sdk.testing import FakeSource
from edge_sdk.types import Frame

_SHAPE = (48, 64, 3)


class _Camera:
    """Overwrites one buffer with every frame, as drivers do; gives as many as it is allowed."""

    def __init__(self) -> None:
        self.pixels = np.zeros(_SHAPE, np.uint8)
        self.allowed = threading.Semaphore(0)
        self.read_so_far = 0
        self.closed = threading.Event()
        self.closed_by: int | None = None
        self.error: Exception | None = None

    def read(self) -> Frame | None:
        self.allowed.acquire()
        if self.error is not None:
            raise self.error
        self.pixels[:] = self.read_so_far % 256
        frame = Frame(self.pixels, "bgr", self.read_so_far, time.monotonic_ns(), "cam")
        self.read_so_far += 1
        return frame

    def close(self) -> None:
        self.closed_by = threading.get_ident()
        self.closed.set()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _give(latest: LatestFrame, camera: _Camera, count: int) -> None:
    """Lets the camera give frames and waits until the thread has taken the last one in."""
    target = camera.read_so_far + count
    camera.allowed.release(count)
    _until(lambda: camera.read_so_far == target)
    _until(lambda: latest._newest is not None and latest._newest[1].index == target - 1)


def _frame(latest: LatestFrame) -> Frame:
    frame = latest.read()
    assert frame is not None
    return frame


@pytest.fixture
def camera() -> _Camera:
    return _Camera()


def test_it_is_a_live_source(camera: _Camera) -> None:
    latest = LatestFrame(camera)
    assert isinstance(latest, LiveSource)
    assert list(latest.take_health()) == []
    camera.allowed.release(2)
    latest.close()


def test_the_newest_frame_wins_and_the_others_are_counted(camera: _Camera) -> None:
    with LatestFrame(camera) as latest:
        _give(latest, camera, 5)
        assert (_frame(latest).index, latest.dropped) == (4, 4)
        _give(latest, camera, 1)
        assert (_frame(latest).index, latest.dropped) == (5, 4)
        _give(latest, camera, 3)
        assert (_frame(latest).index, latest.dropped) == (8, 6)
        camera.allowed.release()


def test_a_frame_stays_as_it_is_while_the_camera_goes_on(camera: _Camera) -> None:
    with LatestFrame(camera) as latest:
        for _ in range(4):
            _give(latest, camera, 1)
            frame = _frame(latest)
            kept = frame.pixels.copy()
            _give(latest, camera, 7)
            np.testing.assert_array_equal(frame.pixels, kept)
            assert (frame.pixels == frame.index).all()
            newer = _frame(latest)
            assert (newer.pixels == newer.index).all()
        camera.allowed.release()


def test_no_buffer_is_made_after_the_first_three(camera: _Camera) -> None:
    with LatestFrame(camera) as latest:
        seen = set()
        for _ in range(20):
            _give(latest, camera, 2)
            seen.add(_frame(latest).pixels.ctypes.data)
        assert len(seen) <= 3
        camera.allowed.release()


def test_what_a_frame_says_of_itself_is_kept(camera: _Camera) -> None:
    with LatestFrame(camera) as latest:
        _give(latest, camera, 1)
        frame = _frame(latest)
        assert (frame.format, frame.name, frame.pixels.shape) == ("bgr", "cam", _SHAPE)
        assert frame.timestamp_ns is not None
        camera.allowed.release()


def test_without_a_new_frame_the_reader_is_told_within_half_a_second(camera: _Camera) -> None:
    with LatestFrame(camera) as latest:
        _give(latest, camera, 1)
        _frame(latest)
        before = time.monotonic()
        with pytest.raises(NoFrameYetError):
            latest.read()
        assert time.monotonic() - before >= 0.35
        _give(latest, camera, 1)
        assert _frame(latest).index == 1
        camera.allowed.release()


def test_the_last_frame_comes_before_the_end() -> None:
    latest = LatestFrame(FakeSource([Frame(np.zeros(_SHAPE, np.uint8), index=7)]))
    assert _frame(latest).index == 7
    assert [latest.read(), latest.read()] == [None, None]


def test_an_error_in_the_thread_is_raised_where_somebody_reads(camera: _Camera) -> None:
    latest = LatestFrame(camera)
    _give(latest, camera, 1)
    camera.error = SourceLostError("unplugged")
    camera.allowed.release()
    assert camera.closed.wait(20)
    assert _frame(latest).index == 0
    for _ in range(3):
        with pytest.raises(SourceLostError, match="unplugged"):
            latest.read()
    latest.close()
    assert latest.read() is None


def test_a_bug_in_a_source_is_not_swallowed(camera: _Camera) -> None:
    camera.error = ZeroDivisionError("a bug")
    camera.allowed.release()
    with pytest.raises(ZeroDivisionError):
        LatestFrame(camera).read()


def test_a_picture_that_cannot_be_read_does_not_end_it(camera: _Camera) -> None:
    latest = LatestFrame(FakeSource([UnreadableImageError("a.png", "cut off")]))
    with pytest.raises(UnreadableImageError):
        latest.read()
    assert latest.read() is None


def test_an_empty_slot_of_the_source_is_waited_over() -> None:
    frame = Frame(np.zeros(_SHAPE, np.uint8), index=3)
    latest = LatestFrame(FakeSource([NoFrameYetError("wait"), NoFrameYetError("wait"), frame]))
    assert _frame(latest).index == 3


def test_a_frame_without_pixels_is_a_lost_source_and_no_bug() -> None:
    broken = Frame(None, "bgr", 0, None, "cam")  # type: ignore[arg-type]
    latest = LatestFrame(FakeSource([broken]))
    _until(lambda: latest._ended)
    with pytest.raises(SourceLostError, match="cam: returned None, expected an array"):
        latest.read()
    latest.close()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "bool"])
def test_a_frame_of_another_kind_passes_for_the_classifier_to_refuse(
    dtype: str, int8_artifact: Path
) -> None:
    odd = Frame(np.ones(_SHAPE, dtype), name="depth")
    with LatestFrame(FakeSource([odd])) as latest, Classifier.open(int8_artifact) as classifier:
        frame = _frame(latest)
        with pytest.raises(FrameError, match=f"uint8 pixels in 0..255, got {dtype}"):
            classifier.classify(frame)


def test_pictures_may_change_their_size() -> None:
    class Zoom(_Camera):
        def read(self) -> Frame | None:
            frame = super().read()
            assert frame is not None
            side = 10 + frame.index
            return Frame(np.full((side, side, 3), frame.index, np.uint8), index=frame.index)

    camera = Zoom()
    with LatestFrame(camera) as latest:
        for side in range(10, 15):
            _give(latest, camera, 1)
            assert _frame(latest).pixels.shape == (side, side, 3)
        camera.allowed.release()


def test_closing_closes_the_source_in_its_own_thread(camera: _Camera) -> None:
    latest = LatestFrame(camera)
    thread = latest._thread
    camera.allowed.release(1)
    latest.close()
    camera.allowed.release(1)
    assert camera.closed.wait(20)
    assert camera.closed_by == thread.ident
    thread.join(20)
    latest.close()


def test_closing_does_not_wait_for_a_driver_that_hangs(
    camera: _Camera, caplog: pytest.LogCaptureFixture
) -> None:
    latest = LatestFrame(camera)
    before = time.monotonic()
    latest.close()
    assert time.monotonic() - before < 10
    assert "hangs" in caplog.text
    assert latest.read() is None
    assert not camera.closed.is_set()
    camera.allowed.release()
    assert camera.closed.wait(20)


def test_a_reader_that_waits_is_woken_by_close(camera: _Camera) -> None:
    latest = LatestFrame(camera)
    answers: list[object] = []

    def read() -> None:
        try:
            answers.append(latest.read())
        except NoFrameYetError as error:
            answers.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    latest.close()
    reader.join(20)
    assert len(answers) == 1
    camera.allowed.release()


def test_a_slow_reader_of_a_fast_camera_sees_whole_pictures() -> None:
    class Fast(_Camera):
        def read(self) -> Frame | None:
            if self.read_so_far >= 3000:
                return None
            self.allowed.release()
            return super().read()

    latest = LatestFrame(Fast())
    indices = []
    while (frame := latest.read()) is not None:
        assert frame.pixels.min() == frame.pixels.max() == frame.index % 256
        indices.append(frame.index)
    assert indices == sorted(set(indices))
    assert indices[-1] == 2999
    assert len(indices) + latest.dropped == 3000
