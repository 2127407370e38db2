"""Video files: every frame to the end, with its time, and what damaged files do."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.errors import SourceNotFoundError, UnreadableImageError
from edge_sdk.sources.specification import open_source
from edge_sdk.sources.video import VideoSource

_FRAMES = 40


def _pictures() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (_FRAMES, 48, 64, 3), np.uint8))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures of noise at 25 a second, without loss."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 25, (64, 48))
    for picture in _pictures():
        writer.write(picture)
    writer.release()
    return path


def test_every_frame_comes_once_in_order_with_its_time(clip: Path) -> None:
    source = VideoSource(clip)
    for i, picture in enumerate(_pictures()):
        frame = source.read()
        assert frame is not None
        np.testing.assert_array_equal(frame.pixels, picture)
        assert (frame.format, frame.index, frame.name) == ("bgr", i, str(clip))
        assert frame.presentation_ns == i * 40_000_000
        assert frame.timestamp_ns is None
    assert [source.read(), source.read()] == [None, None]


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"this is no video" * 100, lambda data: data[:200]],
    ids=["empty", "text", "a head alone"],
)
def test_what_is_no_video_is_refused(
    damage: Callable[[bytes], bytes], clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / "broken.avi"
    path.write_bytes(damage(clip.read_bytes()))
    with pytest.raises(UnreadableImageError, match=r"broken\.avi"):
        open_source(str(path))


def test_a_file_that_is_cut_off_gives_what_there_is_and_says_so_once(
    clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / "half.avi"
    data = clip.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = VideoSource(path)
    read = 0
    with pytest.raises(UnreadableImageError, match="of 40 frames"):  # noqa: PT012
        while source.read() is not None:
            read += 1
    assert 15 <= read <= 21
    assert [source.read(), source.read()] == [None, None]


def _mjpeg_avi(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, size)
    for picture in _pictures():
        writer.write(cv2.resize(picture, size))
    writer.release()
    return path


def _frame_places(data: bytes | bytearray) -> list[int]:
    """Where the frames of an AVI begin."""
    return [found.end() - 2 for found in re.finditer(rb"(?s)00dc....\xff\xd8", data)]


def test_frames_of_motion_jpeg_are_read_with_their_times(tmp_path: Path) -> None:
    source = VideoSource(_mjpeg_avi(tmp_path / "a.avi"))
    for i in range(_FRAMES):
        frame = source.read()
        assert frame is not None
        assert (frame.format, frame.index, frame.pixels.shape) == ("rgb", i, (48, 64, 3))
        assert frame.presentation_ns == i * 40_000_000
    assert source.read() is None


def test_a_damaged_frame_of_motion_jpeg_is_named_and_the_next_one_read(tmp_path: Path) -> None:
    path = _mjpeg_avi(tmp_path / "a.avi")
    data = bytearray(path.read_bytes())
    places = _frame_places(data)
    assert len(places) == _FRAMES
    for number in (3, 20):
        end = places[number + 1] - 8
        middle = (places[number] + end) // 2
        data[middle : end - 40] = bytes(end - 40 - middle)
    path.write_bytes(data)
    source = VideoSource(path)
    read, damaged, reasons = [], [], []
    for number in range(_FRAMES):
        try:
            frame = source.read()
            assert frame is not None
            read.append(frame.index)
        except UnreadableImageError as error:
            damaged.append(number)
            reasons.append(error.reason)
    assert damaged == [3, 20]
    assert all("damaged inside" in reason for reason in reasons)
    assert read == [number for number in range(_FRAMES) if number not in damaged]
    assert source.read() is None


def test_a_video_whose_frames_are_too_large_is_refused(clip: Path, tmp_path: Path) -> None:
    for path in (clip, _mjpeg_avi(tmp_path / "a.avi")):
        with pytest.raises(UnreadableImageError, match="64 x 48 pixels are more than the limit"):
            VideoSource(path, max_pixels=3000)
        VideoSource(path, max_pixels=3072).close()


def test_ffmpeg_and_opencv_say_nothing_themselves(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    (tmp_path / "half.avi").write_bytes(data[: len(data) // 2])
    (tmp_path / "head.avi").write_bytes(data[:200])
    code = (
        "import sys; from edge_sdk import VideoSource\n"
        "from edge_sdk.errors import UnreadableImageError\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        source = VideoSource(path)\n"
        "        while source.read(): pass\n"
        "    except UnreadableImageError: print('refused')"
    )
    paths = [str(tmp_path / name) for name in ("half.avi", "head.avi")]
    ran = subprocess.run(
        [sys.executable, "-c", code, *paths],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.stdout, ran.stderr) == ("refused\nrefused\n", "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="nowhere"):
        VideoSource(tmp_path / "nowhere.mp4")
    with pytest.raises(SourceNotFoundError):
        VideoSource(tmp_path)


def test_a_real_recording_is_read_to_its_end(public_data: Path) -> None:
    source = VideoSource(public_data / "video" / "bottle-detection.mp4")
    shown: list[int] = []
    while (frame := source.read()) is not None:
        assert frame.pixels.shape == (360, 640, 3)
        assert frame.presentation_ns is not None
        shown.append(frame.presentation_ns)
    assert len(shown) == 1189
    assert shown == sorted(set(shown))
