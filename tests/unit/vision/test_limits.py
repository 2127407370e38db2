"""Limits on pixels, memory and work: known before a picture is decoded, following the machine."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_sdk.errors import UnreadableImageError
from edge_sdk.machine.board import System
from edge_sdk.vision.headers import ImageHeader, read_header
from edge_sdk.vision.images import decode_image, read_image
from edge_sdk.vision.limits import MAX_PIXELS, DecodingRoom, capture_bytes, check_pixels, file_bytes


def _machine(root: Path, available_bytes: int, group_limit: int | None = None) -> System:
    files = {"proc/meminfo": f"MemTotal: 9000000 kB\nMemAvailable: {available_bytes // 1024} kB\n"}
    if group_limit is not None:
        files |= {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": str(group_limit),
            "sys/fs/cgroup/memory.current": "0",
        }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return System(root, lambda _: None)


def _header(megapixels: float, bytes_per_pixel: float = 6.0, passes: float = 1.0) -> ImageHeader:
    width = round(megapixels * 1000)
    return ImageHeader("JPEG", width, 1000, True, False, bytes_per_pixel, passes)


def _take(room: DecodingRoom, header: ImageHeader, max_pixels: int = MAX_PIXELS) -> None:
    with room.take(header, "a", max_pixels):
        pass


def _refused(room: DecodingRoom, header: ImageHeader, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        _take(room, header, max_pixels)
    return caught.value.reason


def test_pixels_are_limited() -> None:
    check_pixels(8000, 8000, "a", MAX_PIXELS)
    with pytest.raises(UnreadableImageError, match="--max-megapixels"):
        check_pixels(8000, 8001, "a", MAX_PIXELS)


def test_a_picture_takes_half_of_the_memory_that_is_left_at_most(tmp_path: Path) -> None:
    room = DecodingRoom(_machine(tmp_path, 400_000_000))
    _take(room, _header(33.0))
    reason = _refused(room, _header(34.0))
    assert "204 MB of memory" in reason
    assert "half of the 400 MB" in reason


def test_the_limit_of_the_control_group_counts(tmp_path: Path) -> None:
    room = DecodingRoom(_machine(tmp_path, 8_000_000_000, group_limit=256_000_000))
    _take(room, _header(21.0))
    assert "256 MB" in _refused(room, _header(22.0))


def test_a_camera_s_frame_is_taken_on_any_machine(tmp_path: Path) -> None:
    _take(DecodingRoom(_machine(tmp_path, 0)), _header(5.0))


def test_where_the_memory_is_not_known_the_pixels_decide(tmp_path: Path) -> None:
    room = DecodingRoom(System(tmp_path, lambda _: None))
    _take(room, _header(64.0))
    _take(room, _header(64.0, 9.0))


def test_a_format_that_takes_much_memory_has_to_be_smaller(tmp_path: Path) -> None:
    room = DecodingRoom(System(tmp_path, lambda _: None))
    _take(room, _header(47.0, 12.2))
    assert "576 MB allowed" in _refused(room, _header(48.0, 12.2))
    _take(room, _header(48.0, 12.2), 2 * MAX_PIXELS)


def test_work_is_limited_to_sixteen_passes_over_the_largest_picture(tmp_path: Path) -> None:
    room = DecodingRoom(System(tmp_path, lambda _: None))
    _take(room, _header(64.0, passes=16.0))
    assert "expected 16 times at most" in _refused(room, _header(64.0, passes=17.0))
    _take(room, _header(1.0, passes=1024.0))
    assert "1025 times" in _refused(room, _header(1.0, passes=1025.0))


def test_a_second_picture_waits_until_there_is_room(tmp_path: Path) -> None:
    room = DecodingRoom(_machine(tmp_path, 400_000_000))
    inside, waited = threading.Event(), []

    def second() -> None:
        with room.take(_header(30.0), "b", MAX_PIXELS):
            waited.append(not inside.is_set())

    thread = threading.Thread(target=second)
    with room.take(_header(30.0), "a", MAX_PIXELS):
        inside.set()
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        inside.clear()
    thread.join(30)
    assert waited == [True]


def test_room_is_given_back_after_an_error(tmp_path: Path) -> None:
    room = DecodingRoom(_machine(tmp_path, 400_000_000))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), room.take(_header(33.0), "a", MAX_PIXELS):
            raise ZeroDivisionError


def _gif(width: int, height: int) -> bytes:
    """A picture of one pixel on a canvas of any size, in 35 bytes."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00;"


def test_a_gif_of_35_bytes_and_64_megapixels_is_refused_undecoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UnreadableImageError, match="781 MB of memory"):
        decode_image(_gif(8000, 8000), name="a.gif")


def _many_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive gray JPEG of empty blocks whose last scan comes again and again."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content

    data = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    data += segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    data += segment(0xC4, b"\0\1" + bytes(15) + b"\0")
    data += segment(0xC4, b"\x10\0\2" + bytes(14) + b"\xe0\0")
    blocks = -(-width // 8) * (-(-height // 8))
    data += segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8))
    runs, rest = divmod(blocks, 16384)
    bits = ("00" + "0" * 14) * runs + "01" * rest
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return data + (segment(0xDA, b"\1\1\0\1\x3f\0") + scan) * scans + b"\xff\xd9"


def test_scans_are_counted() -> None:
    header = read_header(_many_scans(256, 256, 12), "a")
    assert header == ImageHeader("JPEG", 256, 256, True, False, 6.0, 13.0)


@pytest.mark.parametrize("sampling", [0x111111, 0x221111, 0x211111])
def test_an_ordinary_progressive_jpeg_is_far_from_the_limit(sampling: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    options = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling)
    header = read_header(cv2.imencode(".jpg", pixels, options)[1].tobytes(), "a")
    assert 4 < header.passes < 8
    assert header.bytes_per_pixel == pytest.approx(9.0 if sampling == 0x111111 else 7.0, abs=1)


def test_a_jpeg_of_a_thousand_scans_is_refused_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _many_scans(1024, 1024, 1000)
    assert len(data) < 200_000
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UnreadableImageError, match=r"1001 times over 1\.0 megapixels"):
        decode_image(data, name="a.jpg", max_pixels=25_000_000)


def test_a_few_scans_more_than_usual_are_read() -> None:
    assert decode_image(_many_scans(64, 64, 30), name="a.jpg").pixels.shape == (64, 64, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff\xd8" * 3_000_000,
        b"\xff\xd8" + b"\xff\xfe\0\2" * 1_000_000,
        _many_scans(8, 8, 1),
        _many_scans(8, 8, 1)[:-2] + b"\xff\xda\0\2" * 1_000_000,
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
        + struct.pack(">II", 8, 8)
        + bytes(9)
        + bytes(12) * 1_000_000,
    ],
    ids=["starts", "comments", "sound", "scans", "chunks"],
)
def test_a_file_of_nothing_but_segments_is_looked_through_in_a_bounded_number_of_steps(
    data: bytes,
) -> None:
    # Without a bound these take seconds each; the number of steps is what is limited.
    try:
        header = read_header(data, "a")
    except UnreadableImageError:
        return
    assert header.complete is (len(data) < 1000)


def test_limits_follow_max_pixels() -> None:
    assert file_bytes(1_000_000) == 10_000_000
    reason = _refused(DecodingRoom(), _header(2.0), 1_000_000)
    assert "limit of 1 megapixels" in reason


def test_a_file_that_no_picture_of_the_allowed_size_can_be_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    with path.open("wb") as file:
        file.truncate(file_bytes(MAX_PIXELS) + 1)
    with pytest.raises(UnreadableImageError, match="577 MB at most"):
        read_image(path)


def test_what_a_capture_process_may_take() -> None:
    assert capture_bytes(MAX_PIXELS, None) == capture_bytes(MAX_PIXELS, 10**11) == 1_024_000_000
    assert capture_bytes(MAX_PIXELS, 300_000_000) == 300_000_000
    assert capture_bytes(MAX_PIXELS, 0) == capture_bytes(1, None) == 128_000_000
