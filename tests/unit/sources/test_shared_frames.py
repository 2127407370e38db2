from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import FrameError, SourceLostError
from edge_sdk.sources.shared_frames import Descriptors, FrameReader, FrameWriter
from edge_sdk.types import Frame, PixelFormat

# Writes pictures of one value each, as fast as it can, in sizes that change.
_WRITER = """
import sys
import numpy as np
from edge_sdk.sources.shared_frames import Descriptors, FrameWriter
from edge_sdk.types import Frame
writer = FrameWriter(Descriptors(*map(int, sys.argv[2:])))
for i in range(int(sys.argv[1])):
    rows = 100 + 100 * (i % 3)
    writer.write(Frame(np.full((rows, 640, 3), i % 251, np.uint8), index=i, timestamp_ns=i))
"""


@pytest.fixture
def shared() -> Iterator[Descriptors]:
    descriptors = Descriptors.new()
    yield descriptors
    descriptors.close()


def _frame(value: int, shape: tuple[int, ...] = (6, 8, 3), index: int = 0) -> Frame:
    return Frame(np.full(shape, value, np.uint8), index=index)


@given(
    st.sampled_from(["rgb", "bgr", "rgba", "gray", "i420"]),
    st.tuples(st.integers(1, 40).map(lambda n: 2 * n), st.integers(1, 40).map(lambda n: 2 * n)),
    st.integers(0, 2**53 - 1),
    st.none() | st.integers(0, 2**62),
    st.none() | st.integers(0, 2**62),
    st.text(max_size=200),
)
def test_a_frame_arrives_as_it_was_sent(
    format_: PixelFormat,
    size: tuple[int, int],
    index: int,
    stamp_ns: int | None,
    shown_ns: int | None,
    name: str,
) -> None:
    height, width = size
    shapes = {
        "rgba": (height, width, 4),
        "gray": (height, width),
        "i420": (height * 3 // 2, width),
    }
    shape = shapes.get(format_, (height, width, 3))
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    descriptors = Descriptors.new()
    try:
        reader = FrameReader(descriptors)
        FrameWriter(descriptors).write(Frame(pixels, format_, index, stamp_ns, name, shown_ns))
        frame = reader.take()
    finally:
        descriptors.close()
    assert frame is not None
    np.testing.assert_array_equal(frame.pixels, pixels)
    assert (frame.format, frame.index, frame.timestamp_ns, frame.presentation_ns) == (
        format_,
        index,
        stamp_ns,
        shown_ns,
    )
    assert frame.name == name


def test_a_name_that_is_no_unicode_arrives_too(shared: Descriptors) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    FrameWriter(shared).write(Frame(np.zeros((2, 2), np.uint8), "gray", name=name))
    frame = FrameReader(shared).take()
    assert frame is not None
    assert frame.name == name


def test_there_is_nothing_before_the_first_frame_and_nothing_twice(shared: Descriptors) -> None:
    reader, writer = FrameReader(shared), FrameWriter(shared)
    assert reader.take() is None
    writer.write(_frame(1))
    assert reader.take() is not None
    assert reader.take() is None


def test_the_newest_frame_wins_and_the_others_are_counted(shared: Descriptors) -> None:
    reader, writer = FrameReader(shared), FrameWriter(shared)
    for i in range(7):
        writer.write(_frame(i, index=i))
    frame = reader.take()
    assert frame is not None
    assert (frame.index, reader.dropped) == (6, 6)
    writer.write(_frame(7, index=7))
    reader.take()
    assert reader.dropped == 6


@given(st.lists(st.sampled_from(["write", "take"]), max_size=40))
def test_what_was_handed_out_stays_until_the_next_is(steps: list[str]) -> None:
    descriptors = Descriptors.new()
    try:
        reader, writer = FrameReader(descriptors), FrameWriter(descriptors)
        held, written, taken = None, 0, 0
        for step in steps:
            if step == "write":
                writer.write(_frame(written, index=written))
                written += 1
            elif (frame := reader.take()) is not None:
                held, taken = frame, taken + 1
                assert frame.index == written - 1
            if held is not None:
                assert np.all(held.pixels == held.index)
        newest_was_taken = held is not None and held.index == written - 1
        assert reader.dropped + taken == (held.index + 1 if held else 0)
        assert newest_was_taken or reader.take() is not None or not written
    finally:
        descriptors.close()


def test_larger_pictures_find_room_and_older_views_stay(shared: Descriptors) -> None:
    reader, writer = FrameReader(shared), FrameWriter(shared)
    writer.write(_frame(1, (48, 64, 3)))
    small = reader.take()
    for value in range(2, 9):
        writer.write(_frame(value, (480 * value, 640, 3)))
        assert small is not None
        assert np.all(small.pixels == 1)
    large = reader.take()
    assert large is not None
    assert large.pixels.shape == (480 * 8, 640, 3)
    assert np.all(large.pixels == 8)


def test_a_view_outlives_its_reader_and_cannot_be_written_to() -> None:
    descriptors = Descriptors.new()
    reader = FrameReader(descriptors)
    FrameWriter(descriptors).write(_frame(5))
    frame = reader.take()
    del reader
    descriptors.close()
    assert frame is not None
    assert np.all(frame.pixels == 5)
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0, 0] = 1


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.float32), np.zeros((0, 4, 3), np.uint8), np.zeros((1, 2, 2, 3), np.uint8)],
)
def test_what_is_no_picture_is_refused(shared: Descriptors, pixels: np.ndarray) -> None:
    with pytest.raises(FrameError, match="expected uint8"):
        FrameWriter(shared).write(Frame(pixels))


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [
        (64 + 40, "=i", 2**30),  # so many rows
        (64 + 40, "=i", -1),
        (64 + 36, "=i", 7),  # dimensions
        (64 + 32, "=i", 99),  # format
        (64 + 0, "=q", 2**62),  # number of publication
        (64 + 0, "=q", -1),
        (64 + 8, "=q", -5),  # index
        (64 + 8, "=q", 2**62),
        (64 + 52, "=H", 65535),  # length of the name
        (0, "=i", 12),  # slot
    ],
)
def test_a_damaged_description_is_an_error_and_no_crash(
    shared: Descriptors, offset: int, layout: str, value: int
) -> None:
    reader = FrameReader(shared)
    FrameWriter(shared).write(_frame(1))
    os.pwrite(shared.control, struct.pack(layout, value), offset)
    with pytest.raises(SourceLostError, match="damaged"):
        reader.take()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 63) | st.integers(0, 3 * 8192), st.binary(min_size=1, max_size=64)
        ),
        min_size=1,
        max_size=5,
    )
)
def test_rubbish_in_the_control_memory_gives_a_frame_or_one_kind_of_error(
    writes: list[tuple[int, bytes]],
) -> None:
    shared = Descriptors.new()
    try:
        reader, writer = FrameReader(shared), FrameWriter(shared)
        writer.write(_frame(1))
        for offset, rubbish in writes:
            os.pwrite(shared.control, rubbish, offset)
        try:
            frame = reader.take()
        except SourceLostError:
            return
        assert 0 <= reader.dropped < 2**33
        assert frame is None or frame.pixels.sum() >= 0  # every byte can be read
    finally:
        shared.close()


@pytest.mark.parametrize("which", ["control", "pixels"])
def test_neither_side_can_cut_the_memory_off(shared: Descriptors, which: str) -> None:
    reader = FrameReader(shared)
    FrameWriter(shared).write(_frame(1))
    descriptor = getattr(shared, which)
    for size in (0, 4096, 1 << 40):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
        with pytest.raises(PermissionError):
            os.truncate(f"/proc/self/fd/{descriptor}", size)
    frame = reader.take()
    assert frame is not None
    assert (frame.pixels == 1).all()


def test_no_frame_is_torn_while_another_process_writes(shared: Descriptors) -> None:
    n = 3000
    reader = FrameReader(shared)
    child = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(n), *map(str, shared)], pass_fds=tuple(shared)
    )
    seen = -1
    try:
        give_up = time.monotonic() + 60
        while seen < n - 1 and time.monotonic() < give_up:
            frame = reader.take()
            if frame is None:
                assert child.poll() in (None, 0)
                continue
            assert frame.index > seen
            seen = frame.index
            for _ in range(2):  # the writer goes on in between
                assert frame.pixels.shape[0] == 100 + 100 * (seen % 3)
                assert np.all(frame.pixels == seen % 251)
    finally:
        child.kill()
        child.wait()
    assert seen == n - 1
    assert reader.dropped > 0


def test_a_writer_that_was_killed_does_not_keep_the_lock(shared: Descriptors) -> None:
    reader = FrameReader(shared)
    code = (
        "import fcntl, os, signal\n"
        f"fcntl.lockf({shared.control}, fcntl.LOCK_EX, 1)\n"
        "print('held', flush=True)\n"
        "signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], pass_fds=tuple(shared), stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        FrameWriter.__init__(writer := FrameWriter.__new__(FrameWriter), shared)
        began = time.monotonic()
        assert reader.take() is None  # never blocks for long
        assert time.monotonic() - began < 2
        child.kill()
    writer.write(_frame(3))
    assert reader.take() is not None
