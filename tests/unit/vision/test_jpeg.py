"""Damage inside a JPEG: heard from the decoder, refused by name, and nothing else is refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.errors import UnreadableImageError
from edge_sdk.vision import jpeg as jpegwarnings
from edge_sdk.vision.images import decode_image, read_image
from edge_sdk.vision.jpeg import damage, decode_with_warning, warnings_are_captured

_PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
_RESTARTS = (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
_SAMPLING = cv2.IMWRITE_JPEG_SAMPLING_FACTOR
_END = b"\xff\xd9"


def _picture(seed: int = 1, width: int = 160, height: int = 120) -> NDArray[np.uint8]:
    small = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    pixels: NDArray[np.uint8] = cv2.resize(small, (width, height)).astype(np.uint8)
    return pixels


def _jpeg(pixels: NDArray[np.uint8], *options: int) -> bytes:
    return cv2.imencode(".jpg", pixels, options)[1].tobytes()


def _cmyk() -> bytes:
    image = pytest.importorskip("PIL.Image", reason="the extra [host] is not installed")
    import io

    file = io.BytesIO()
    image.fromarray(_picture()).convert("CMYK").save(file, "JPEG")
    return file.getvalue()


_KINDS = {
    "baseline": lambda: _jpeg(_picture()),
    "4:4:4": lambda: _jpeg(_picture(), _SAMPLING, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "gray": lambda: _jpeg(_picture()[..., 0]),
    "restart marks": lambda: _jpeg(_picture(), *_RESTARTS),
    "progressive": lambda: _jpeg(_picture(), *_PROGRESSIVE),
    "progressive 4:4:4": lambda: _jpeg(
        _picture(), *_PROGRESSIVE, _SAMPLING, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    ),
    "progressive gray": lambda: _jpeg(_picture()[..., 0], *_PROGRESSIVE),
    "CMYK": _cmyk,
}


def test_the_decoder_is_heard_here() -> None:
    assert warnings_are_captured()


@pytest.mark.parametrize("kind", _KINDS)
def test_a_sound_jpeg_is_read(kind: str) -> None:
    assert decode_image(_KINDS[kind](), name=kind).pixels.shape == (120, 160, 3)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_jpeg_cut_in_half_with_its_end_mark_put_back_is_refused(kind: str) -> None:
    data = _KINDS[kind]()
    begin = data.find(b"\xff\xda")
    cut = data[: (begin + len(data)) // 2].rstrip(b"\xff") + _END
    with pytest.raises(UnreadableImageError, match="damaged inside"):
        decode_image(cut, name="a.jpg")


@pytest.mark.parametrize("kind", _KINDS)
def test_a_jpeg_with_a_zeroed_sector_is_refused(kind: str) -> None:
    data = _KINDS[kind]()
    begin = data.find(b"\xff\xda") + 20
    middle = (begin + len(data)) // 2
    sector = min(512, (len(data) - middle) // 2)
    with pytest.raises(UnreadableImageError, match="damaged inside"):
        decode_image(data[:middle] + bytes(sector) + data[middle + sector :], name="a.jpg")


def test_the_reason_is_the_decoder_s_own(tmp_path: Path) -> None:
    data = _KINDS["baseline"]()
    path = tmp_path / "half.jpg"
    path.write_bytes(data[: len(data) // 2] + _END)
    with pytest.raises(UnreadableImageError) as caught:
        read_image(path)
    assert caught.value.name == str(path)
    assert "premature end of data segment" in caught.value.reason
    assert "copy it again" in caught.value.reason


@pytest.mark.parametrize("padding", [bytes(4), b"\xff" * 3, bytes(1), bytes(300)])
def test_padding_before_the_end_mark_is_no_damage(padding: bytes) -> None:
    data = _KINDS["baseline"]().removesuffix(_END)
    assert decode_image(data + padding + _END, name="a").pixels.shape == (120, 160, 3)


def test_other_bytes_before_the_end_mark_are_damage_in_a_file_and_padding_in_a_camera_s_frame() -> (
    None
):
    data = _KINDS["baseline"]().removesuffix(_END) + b"\x5a\xa5\x5a\xa5" + _END
    with pytest.raises(UnreadableImageError, match="extraneous"):
        decode_image(data, name="a")
    assert decode_image(data, name="a", live=True).pixels.shape == (120, 160, 3)


def test_many_bytes_left_over_are_damage_in_a_camera_s_frame_too() -> None:
    data = _KINDS["baseline"]().removesuffix(_END) + b"\x5a\xa5" * 50 + _END
    with pytest.raises(UnreadableImageError, match="extraneous"):
        decode_image(data, name="a", live=True)


@pytest.mark.parametrize(
    ("warning", "harm"),
    [
        ("", ""),
        ("Corrupt JPEG data: premature end of data segment", "premature end of data segment"),
        ("Corrupt JPEG data: bad Huffman code", "bad Huffman code"),
        ("Corrupt JPEG data: bad arithmetic code", "bad arithmetic code"),
        (
            "Corrupt JPEG data: found marker 0xd5 instead of RST3",
            "found marker 0xd5 instead of RST3",
        ),
        ("Premature end of JPEG file", "Premature end of JPEG file"),
        (
            "Inconsistent progression sequence for component 1 coefficient 3",
            "Inconsistent progression sequence for component 1 coefficient 3",
        ),
        (
            "Corrupt JPEG data: 12 extraneous bytes before marker 0xc4",
            "12 extraneous bytes before marker 0xc4",
        ),
        ("Corrupt JPEG data: 12 extraneous bytes before marker 0xe1", ""),
        ("Corrupt JPEG data: 3 extraneous bytes before marker 0xfe", ""),
        ("Corrupt JPEG data: bad ICC marker", ""),
        ("Warning: unknown JFIF revision number 9.01", ""),
        ("Unknown Adobe color transform code 7", ""),
        ("Invalid SOS parameters for sequential JPEG", ""),
    ],
)
def test_what_a_warning_says_about_the_pixels(warning: str, harm: str) -> None:
    assert damage(warning, b"") == harm


def test_threads_that_decode_at_once_are_told_apart() -> None:
    sound = [np.frombuffer(_jpeg(_picture(seed)), np.uint8) for seed in range(4)]
    half = _KINDS["baseline"]()
    torn = np.frombuffer(half[: len(half) // 2] + _END, np.uint8)
    jobs = [torn if k % 7 == 3 else sound[k % 4] for k in range(600)]

    def judge(data: NDArray[np.uint8]) -> bool:
        return bool(damage(decode_with_warning(lambda: cv2.imdecode(data, cv2.IMREAD_COLOR))[1]))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(judge, jobs)) == [data is torn for data in jobs]


def test_a_decoder_that_raises_leaves_the_next_one_its_turn() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            decode_with_warning(fail)
    assert decode_with_warning(lambda: 5) == (5, "")


def test_a_warning_while_another_picture_is_being_decoded_is_not_its_own() -> None:
    data = _KINDS["baseline"]()
    torn = np.frombuffer(data[: len(data) // 2] + _END, np.uint8)
    started, go_on = threading.Event(), threading.Event()
    calls = []

    def slow() -> int:
        calls.append(1)
        started.set()
        go_on.wait(30)
        return 7

    results = []
    thread = threading.Thread(target=lambda: results.append(decode_with_warning(slow)))
    thread.start()
    assert started.wait(30)
    other = threading.Thread(
        target=lambda: results.append(
            decode_with_warning(lambda: cv2.imdecode(torn, 1) is not None)
        )
    )
    other.start()
    # The other one has printed by now, or waits for its turn alone; both are distinguished.
    go_on.set()
    thread.join(30)
    other.join(30)
    warnings = {str(value): warning for value, warning in results}
    assert warnings["7"] == ""
    assert "premature end" in warnings["True"]


_ELSEWHERE = """
import ctypes, os, sys, threading
import cv2, numpy as np
from edge_sdk.vision.jpeg import decode_with_warning
libc = ctypes.CDLL(None)
stderr = ctypes.c_void_p.in_dll(libc, "stderr")
before = stderr.value
def decode():
    libc.fprintf(ctypes.c_void_p(stderr.value), b"a driver speaks\\n")
    print("Python speaks", file=sys.stderr, flush=True)
    return 1
assert decode_with_warning(decode) == (1, "")
assert ctypes.c_void_p.in_dll(libc, "stderr").value == before
half = cv2.imencode(".jpg", np.arange(4096, dtype=np.uint8).reshape(64, 64))[1]
half = np.concatenate([half[: half.size // 2], np.array([255, 217], np.uint8)])
print(decode_with_warning(lambda: cv2.imdecode(half, 1).shape)[1])
if (child := os.fork()) == 0:
    print("child:", decode_with_warning(lambda: cv2.imdecode(half, 1).shape)[1], flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_without_that_c_library_pictures_are_read_and_one_warning_is_logged(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setattr(jpegwarnings, "_StderrCapture", refuse)
    jpegwarnings._stderr_capture.cache_clear()
    try:
        assert not warnings_are_captured()
        assert decode_image(_KINDS["baseline"](), name="a").pixels.shape == (120, 160, 3)
        assert [r.getMessage()[:40] for r in caplog.records] == [
            "damage inside JPEG files cannot be detec"
        ]
    finally:
        jpegwarnings._stderr_capture.cache_clear()


def test_what_others_print_to_standard_error_is_still_printed_and_the_warning_is_not() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ELSEWHERE],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stderr.split("\n")) == ["", "Python speaks", "a driver speaks"]
    first, second = done.stdout.splitlines()
    assert "premature end" in first or "Huffman" in first
    assert second == f"child: {first}"


def test_most_damage_in_the_middle_of_a_jpeg_is_seen() -> None:
    """1,000 pictures of which 64 to 512 bytes were overwritten; a decoder may fall into step again."""
    chance = random.Random(5)
    refused = 0
    sources = [_jpeg(_picture(seed), *(_PROGRESSIVE if seed % 2 else ())) for seed in range(20)]
    for turn in range(1000):
        data = bytearray(sources[turn % 20])
        size = chance.choice((64, 128, 512))
        at = chance.randrange(data.find(b"\xff\xda") + 20, len(data) - size - 2)
        data[at : at + size] = bytes(size) if turn % 3 else chance.randbytes(size)
        try:
            decode_image(bytes(data), name="a")
        except UnreadableImageError:
            refused += 1
    assert refused >= 950
