"""Reading ahead and chaining: every frame, in order, errors at their place."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.errors import NoFrameYetError, SourceLostError, UnreadableImageError
from edge_sdk.loop.run import run
from edge_sdk.ports import FrameSource
from edge_sdk.sources.folder import Chain, ReadAhead, open_files
from edge_sdk.sources.video import VideoSource
from edge_sdk.testing import FakeEngine, FakeSource
from edge_sdk.types import Frame, Tensor


class _OneBuffer:
    """A source that does what the port allows: each frame is written over by the next."""

    def __init__(self, frames: int) -> None:
        self._left = frames
        self._pixels = np.zeros((4, 4, 3), np.uint8)
        self.closed = 0

    def read(self) -> Frame | None:
        if not self._left:
            return None
        self._left -= 1
        self._pixels += 1
        return Frame(self._pixels, index=int(self._pixels[0, 0, 0]) - 1)

    def close(self) -> None:
        self.closed += 1


def _drained(source: FrameSource) -> list[object]:
    """What comes out: first pixels, and errors; a live pause is waited out."""
    seen: list[object] = []
    while True:
        try:
            frame = source.read()
        except NoFrameYetError:
            continue
        except UnreadableImageError as error:
            seen.append(error.name)
            continue
        if frame is None:
            return seen
        seen.append(int(frame.pixels[0, 0, 0]))


@given(script=st.lists(st.one_of(st.integers(0, 255), st.just("bad")), max_size=40))
@settings(deadline=None, max_examples=40)
def test_nothing_is_lost_and_the_order_is_kept(script: list[int | str]) -> None:
    source = FakeSource(
        UnreadableImageError("bad", "x")
        if isinstance(step, str)
        else Frame(np.full((2, 2, 3), step, np.uint8))
        for step in script
    )
    with ReadAhead(source, 2) as ahead:
        assert _drained(ahead) == script


def test_frames_that_are_written_over_are_kept_until_the_next_read() -> None:
    source = _OneBuffer(100)
    with ReadAhead(source) as ahead:
        for i in range(1, 101):
            frame = ahead.read()
            assert frame is not None
            if i % 10 == 0:
                time.sleep(0.002)  # the thread runs ahead meanwhile
            assert int(frame.pixels[3, 3, 2]) == i
        assert ahead.read() is None
    assert source.closed == 1


def test_sizes_may_change_in_the_middle() -> None:
    shapes = [(4, 6, 3), (8, 2, 3), (8, 2), (4, 6, 3)] * 5
    source = FakeSource(Frame(np.full(s, i, np.uint8)) for i, s in enumerate(shapes))
    with ReadAhead(source) as ahead:
        for i, shape in enumerate(shapes):
            frame = ahead.read()
            assert frame is not None
            assert frame.pixels.shape == shape
            assert (frame.pixels == i).all()


def test_what_ends_the_source_comes_after_its_last_frame_and_stays() -> None:
    lost = SourceLostError("gone")
    with ReadAhead(FakeSource([Frame(np.zeros((2, 2, 3), np.uint8)), lost])) as ahead:
        assert ahead.read() is not None
        for _ in range(3):
            with pytest.raises(SourceLostError):
                ahead.read()


def test_it_reads_no_further_ahead_than_asked() -> None:
    source = _OneBuffer(100)
    with ReadAhead(source, 3):
        time.sleep(0.2)
        assert 100 - source._left <= 3 + 2


@pytest.mark.parametrize(("most_bytes", "ahead"), [(48, 1), (95, 1), (96, 2), (1000, 4)])
def test_frames_that_are_ready_take_no_more_memory_than_is_allowed(
    most_bytes: int, ahead: int
) -> None:
    """Frames of 48 bytes; the one that is being handed over by the thread counts as ready."""
    decoded = threading.Semaphore(0)

    class Counting(_OneBuffer):
        def read(self) -> Frame | None:
            decoded.release()
            frame = super().read()
            return frame and Frame(frame.pixels.copy(), index=frame.index)

    source = Counting(50)
    with ReadAhead(source, 3, copies=False, most_bytes=most_bytes) as reader:
        for _ in range(ahead):
            assert decoded.acquire(timeout=20)
        assert not decoded.acquire(timeout=0.2)
        assert reader.read() is not None
        assert decoded.acquire(timeout=20)
        assert not decoded.acquire(timeout=0.2)
        assert _drained(reader) == list(range(2, 51))


def test_a_source_whose_frames_are_its_own_arrays_is_not_copied() -> None:
    frames = [Frame(np.full((4, 4, 3), i, np.uint8), "rgb", i) for i in range(5)]
    with ReadAhead(FakeSource(frames), copies=False) as reader:
        for frame in frames:
            got = reader.read()
            assert got is not None
            assert got.pixels is frame.pixels


def test_a_large_buffer_is_given_back_to_the_system() -> None:
    with ReadAhead(_OneBuffer(9), 1, most_bytes=100) as reader:  # three buffers of 33 bytes
        assert _drained(reader) == list(range(1, 10))
        assert max(reader._free.get().nbytes for _ in range(reader._free.qsize())) <= 33


def test_a_source_that_is_slow_is_said_to_be_within_half_a_second() -> None:
    gate = threading.Event()

    class Slow(_OneBuffer):
        def read(self) -> Frame | None:
            gate.wait(30)
            return super().read()

    with ReadAhead(Slow(1)) as ahead:
        began = time.monotonic()
        with pytest.raises(NoFrameYetError):
            ahead.read()
        assert time.monotonic() - began < 3
        gate.set()
        assert _drained(ahead) == [1]


def test_closing_in_the_middle_closes_the_source_and_ends_the_thread() -> None:
    source = _OneBuffer(1000)
    ahead = ReadAhead(source)
    assert ahead.read() is not None
    ahead.close()
    ahead.close()
    assert ahead.read() is None
    assert source.closed == 1
    assert not [t for t in threading.enumerate() if t.name == "edgecls-ahead"]


def test_a_source_that_cannot_be_closed_is_said_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(_OneBuffer):
        def close(self) -> None:
            raise KeyError("bug")

    source = ReadAhead(Broken(1))  # an exception that leaves the thread would fail this test
    source.close()
    assert not source._thread.is_alive()
    assert "could not be closed" in caplog.text


def test_a_frame_without_pixels_passes_for_others_to_refuse() -> None:
    with ReadAhead(FakeSource([Frame(None)])) as ahead:  # type: ignore[arg-type]
        frame = ahead.read()
    assert frame is not None
    assert frame.pixels is None


def test_a_frame_of_another_kind_is_never_a_buffer_for_the_next() -> None:
    odd = Frame(np.zeros((4, 4, 3), np.float64), "rgb", 0)  # type: ignore[arg-type]
    good = [Frame(np.full((4, 4, 3), i, np.uint8), "rgb", i) for i in range(1, 9)]
    with ReadAhead(FakeSource([odd, *good]), frames=1) as ahead:
        frames = [ahead.read() for _ in range(9)]
    assert [frame.pixels.dtype for frame in frames[1:] if frame] == [np.uint8] * 8


def test_a_chain_numbers_its_frames_through_and_closes_each_source() -> None:
    sources = [_OneBuffer(2), _OneBuffer(0), _OneBuffer(3)]
    openers: list[Callable[[], FrameSource]] = [lambda s=s: s for s in sources]  # type: ignore[misc]
    chain = Chain(openers)
    indices = []
    while (frame := chain.read()) is not None:
        indices.append(frame.index)
    assert indices == [0, 1, 2, 3, 4]
    assert [source.closed for source in sources] == [1, 1, 1]
    assert chain.read() is None


def test_a_chain_opens_a_source_when_it_is_its_turn() -> None:
    opened = []

    def opener(n: int) -> Callable[[], FrameSource]:
        def open_() -> FrameSource:
            opened.append(n)
            return _OneBuffer(1)

        return open_

    chain = Chain([opener(0), opener(1), opener(2)])
    assert opened == []
    chain.read()
    assert opened == [0]
    chain.read()
    chain.close()
    assert chain.read() is None
    assert opened == [0, 1]


def test_the_next_frame_is_read_while_this_one_is_classified(int8_artifact: Path) -> None:
    """No inference ends before another frame was read: one after the other would never end."""
    read, last = threading.Semaphore(0), 19

    class Counting(_OneBuffer):
        def read(self) -> Frame | None:
            read.release()
            return super().read()

    together = []

    def infer(_: Tensor) -> Tensor:
        if len(together) < last:
            together.append(read.acquire(timeout=20))
        return np.full((1, 10), 0.1, np.float32)

    with Classifier(Artifact.open(int8_artifact), FakeEngine(infer)) as classifier:
        source = ReadAhead(Counting(last + 1))
        read.acquire()  # of the frame that is classified first
        assert run(source, classifier, []).frames == last + 1
        source.close()
    assert together == [True] * last


def test_pictures_are_read_ahead_and_videos_are_not(
    digit_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    video = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    with open_files([digit_pictures]) as pictures:  # type: ignore[attr-defined]
        assert isinstance(pictures, ReadAhead)
    film = open_files([video])
    assert isinstance(film, VideoSource)
    film.close()
    both = open_files([video, digit_pictures, video])
    read = []
    while len(read) < 1000:
        try:
            frame = both.read()
        except NoFrameYetError:
            continue
        if frame is None:
            break
        read.append((frame.index, frame.name))
    assert [index for index, _ in read] == list(range(len(read)))
    assert [name for _, name in read].count(str(video)) == 6
    assert read[2][1] == read[-1][1] == str(video)
    assert not [thread for thread in threading.enumerate() if thread.name == "edgecls-ahead"]
