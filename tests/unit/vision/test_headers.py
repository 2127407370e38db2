"""Sizes from the headers alone, against what the encoders were given and what Pillow reads."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import UnreadableImageError
from edge_sdk.vision.headers import ImageHeader, read_header

_WIDTH, _HEIGHT = 53, 37


def _encoded(ending: str, *options: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (_HEIGHT, _WIDTH, 3), np.uint8)
    done, data = cv2.imencode(ending, noise, options)
    assert done
    return data.tobytes()


def _webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _extended_webp() -> bytes:
    sides = (_WIDTH - 1).to_bytes(3, "little") + (_HEIGHT - 1).to_bytes(3, "little")
    lossless = _encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 101)[12:]
    body = b"WEBP" + _webp_chunk(b"VP8X", bytes(4) + sides) + lossless
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _bmp(height: int = _HEIGHT) -> bytes:
    row = bytes((_WIDTH * 3 + 3) // 4 * 4)
    pixels = row * abs(height)
    file_header = b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, _WIDTH, height, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    return file_header + info + pixels


def _os2_bmp() -> bytes:
    pixels = bytes((_WIDTH * 3 + 3) // 4 * 4) * _HEIGHT
    header = struct.pack("<IHHIIHHHH", 26 + len(pixels), 0, 0, 26, 12, _WIDTH, _HEIGHT, 1, 24)
    return b"BM" + header + pixels


def _run_length_bmp() -> bytes:
    palette = b"".join(bytes((i, i, i, 0)) for i in range(256))
    runs = b"".join(bytes((_WIDTH, y, 0, 0)) for y in range(_HEIGHT)) + b"\0\1"
    begin = 54 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, _WIDTH, _HEIGHT, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", begin + len(runs), 0, 0, begin) + info + palette + runs


def _tiff(order: str, sides_type: int) -> bytes:
    pixels = bytes(_WIDTH * _HEIGHT)
    entries = 9
    begin = 8 + 2 + 12 * entries + 4
    tags = [
        (256, sides_type, _WIDTH),
        (257, sides_type, _HEIGHT),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, begin),
        (277, 3, 1),
        (278, 4, _HEIGHT),
        (279, 4, len(pixels)),
    ]
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, entries)
    for tag, kind, value in tags:
        stored = struct.pack(order + ("HH" if kind == 3 else "I"), value, *[0] * (kind == 3))
        data += struct.pack(order + "HHI", tag, kind, 1) + stored
    return data + bytes(4) + pixels


def _fill_bytes_before_markers(jpeg: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xff" + jpeg[2:]


_FILES = {
    "jpeg": ("JPEG", _encoded(".jpg")),
    "jpeg-progressive": ("JPEG", _encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    "jpeg-restart-markers": ("JPEG", _encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
    "jpeg-fill-bytes": ("JPEG", _fill_bytes_before_markers(_encoded(".jpg"))),
    "png": ("PNG", _encoded(".png")),
    "webp-lossy": ("WebP", _encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 80)),
    "webp-lossless": ("WebP", _encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 101)),
    "webp-extended": ("WebP", _extended_webp()),
    "bmp": ("BMP", _bmp()),
    "bmp-top-down": ("BMP", _bmp(-_HEIGHT)),
    "bmp-os2": ("BMP", _os2_bmp()),
    "bmp-run-length": ("BMP", _run_length_bmp()),
    "gif": ("GIF", _encoded(".gif")),
    "tiff": ("TIFF", _encoded(".tiff")),
    "tiff-little-short": ("TIFF", _tiff("<", 3)),
    "tiff-little-long": ("TIFF", _tiff("<", 4)),
    "tiff-big-short": ("TIFF", _tiff(">", 3)),
    "tiff-big-long": ("TIFF", _tiff(">", 4)),
}
_JPEG = _FILES["jpeg"][1]
_PNG = _FILES["png"][1]


@pytest.mark.parametrize(("kind", "data"), _FILES.values(), ids=_FILES)
def test_the_header_tells_format_and_size(kind: str, data: bytes) -> None:
    assert read_header(data, "a picture")[:4] == (kind, _WIDTH, _HEIGHT, True)


@pytest.mark.parametrize("data", [data for _, data in _FILES.values()], ids=_FILES)
def test_pillow_reads_the_same_size(data: bytes) -> None:
    image = pytest.importorskip("PIL.Image", reason="the extra [host] is not installed")
    header = read_header(data, "a picture")
    with image.open(io.BytesIO(data)) as picture:
        assert (header.width, header.height) == picture.size


def test_an_animated_webp_has_the_size_of_its_canvas() -> None:
    image = pytest.importorskip("PIL.Image", reason="the extra [host] is not installed")
    first, second = (image.new("RGB", (_WIDTH, _HEIGHT), colour) for colour in ("red", "blue"))
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=[second])
    assert b"ANIM" in file.getvalue()
    assert read_header(file.getvalue(), "a")[:4] == ("WebP", _WIDTH, _HEIGHT, True)


def test_the_size_is_the_stored_one_before_exif_rotation() -> None:
    image = pytest.importorskip("PIL.Image", reason="the extra [host] is not installed")
    exif = image.Exif()
    exif[0x112] = 6
    file = io.BytesIO()
    image.new("RGB", (_WIDTH, _HEIGHT)).save(file, "JPEG", exif=exif)
    header = read_header(file.getvalue(), "a")
    assert (header.width, header.height) == (_WIDTH, _HEIGHT)


def test_a_thumbnail_inside_a_jpeg_is_not_taken_for_it() -> None:
    thumbnail = cv2.imencode(".jpg", np.zeros((5, 7, 3), np.uint8))[1].tobytes()
    exif = b"Exif\0\0" + thumbnail
    picture = _JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + _JPEG[2:]
    assert read_header(picture, "a") == ImageHeader("JPEG", _WIDTH, _HEIGHT, True)
    # The thumbnail's own end does not make up for the picture's.
    assert not read_header(picture[:-2], "a").complete


# TIFF alone is left to OpenCV, which refuses strips that reach past the end.
@pytest.mark.parametrize(
    "data",
    [data for kind, data in _FILES.values() if kind != "TIFF"],
    ids=[name for name, (kind, _) in _FILES.items() if kind != "TIFF"],
)
@pytest.mark.parametrize("share", [0.5, 0.75, 0.95])
def test_a_cut_file_is_incomplete(data: bytes, share: float) -> None:
    assert not read_header(data[: int(len(data) * share)], "a").complete


_HEADLESS = {
    "nothing": b"",
    "text": b"This is not a picture.",
    "text-that-starts-like-a-bmp": b"BM, said the driver",
    "jpeg-magic-only": _JPEG[:3],
    "jpeg-without-size": b"\xff\xd8\xff\xda\0\x02" + b"data",
    "jpeg-lost-between-markers": b"\xff\xd8\xff\xe0\0\x04ab" + b"no marker",
    "png-magic-only": _PNG[:8],
    "png-without-pixels": _PNG[:16] + bytes(8) + _PNG[24:],
    "riff-that-is-sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
    "bmp-without-pixels": _bmp()[:18] + bytes(8) + _bmp()[26:],
    "gif-magic-only": b"GIF89a",
    "tiff-directory-far-away": b"II*\0" + struct.pack("<I", 10**6),
    "tiff-without-size": b"II*\0" + struct.pack("<IH", 8, 0) + bytes(4),
}


@pytest.mark.parametrize("data", _HEADLESS.values(), ids=_HEADLESS)
def test_what_has_no_size_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(UnreadableImageError, match=r"^holiday\.jpg: ") as refused:
        read_header(data, "holiday.jpg")
    assert refused.value.name == "holiday.jpg"
    assert refused.value.reason


def test_a_text_file_is_told_what_would_be_read() -> None:
    with pytest.raises(UnreadableImageError, match="JPEG, PNG, WebP, BMP, GIF and TIFF"):
        read_header(b"hello, world", "a.jpg")


@given(
    magic=st.sampled_from(
        [b"\xff\xd8\xff", _PNG[:8], b"RIFF\x40\0\0\0WEBPVP8", b"BM", b"GIF89a", b"II*\0", b"MM\0*"]
    ),
    rest=st.binary(max_size=200),
)
def test_any_bytes_give_a_size_or_one_kind_of_error(magic: bytes, rest: bytes) -> None:
    try:
        header = read_header(magic + rest, "a")
    except UnreadableImageError:
        return
    assert header.width > 0
    assert header.height > 0


def test_only_the_head_of_a_png_is_decompressed_for_its_size() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 90_000, 8, 0, 0, 0, 0))
    png = _PNG[:8] + head + chunk(b"IDAT", b"not even zlib") + chunk(b"IEND", b"")
    assert read_header(png, "a") == ImageHeader("PNG", 100_000, 90_000, True)
