"""The decoder: the right pixels of every kind of file, and never half a picture."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.errors import UnreadableImageError
from edge_sdk.vision.headers import read_header
from edge_sdk.vision.images import EXTENSIONS, decode_image, read_image

pytestmark = pytest.mark.computes

Pixels = NDArray[np.uint8]

# libjpeg and libwebp round differently from build to build; Pillow and OpenCV bring their own.
_LOSSY = 3


def _gradients(width: int = 53, height: int = 37) -> Pixels:
    """RGB pixels without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    red, green, blue = x * 255 // width, y * 255 // height, (x + 2 * y) * 80 // width
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def _noise(width: int = 23, height: int = 17) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def _encoded(ending: str, rgb: Pixels, *options: int) -> bytes:
    done, data = cv2.imencode(ending, np.ascontiguousarray(rgb[..., ::-1]), options)
    assert done
    return data.tobytes()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _gray_png(width: int, height: int, bits: int) -> bytes:
    """A black PNG, written without ever holding its pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width * bits + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = _chunk(b"IHDR", head) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def _extended_webp(rgb: Pixels) -> bytes:
    height, width = rgb.shape[:2]
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    head = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides
    body = head + _encoded(".webp", rgb, cv2.IMWRITE_WEBP_QUALITY, 101)[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _top_down_bmp(rgb: Pixels) -> bytes:
    upright = _encoded(".bmp", rgb[::-1])
    return upright[:22] + struct.pack("<i", -rgb.shape[0]) + upright[26:]


def _tiff(tags: list[tuple[int, int, int]], content: bytes) -> bytes:
    """A TIFF of (tag, type, value) entries; a value below zero points ``-value - 1`` into content."""
    begin = 8 + 2 + 12 * len(tags) + 4
    data = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, kind, value in tags:
        data += struct.pack("<HHII", tag, kind, 1, value if value >= 0 else begin - value - 1)
    return data + bytes(4) + content


_FORMATS: dict[str, Callable[[Pixels], bytes]] = {
    "jpeg": lambda rgb: _encoded(".jpg", rgb),
    "jpeg-progressive": lambda rgb: _encoded(".jpg", rgb, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "png": lambda rgb: _encoded(".png", rgb),
    "webp-lossy": lambda rgb: _encoded(".webp", rgb, cv2.IMWRITE_WEBP_QUALITY, 90),
    "webp-lossless": lambda rgb: _encoded(".webp", rgb, cv2.IMWRITE_WEBP_QUALITY, 101),
    "webp-extended": _extended_webp,
    "bmp": lambda rgb: _encoded(".bmp", rgb),
    "bmp-top-down": _top_down_bmp,
    "gif": lambda rgb: _encoded(".gif", rgb),
    "tiff-lzw": lambda rgb: _encoded(".tiff", rgb, cv2.IMWRITE_TIFF_COMPRESSION, 5),
    "tiff-plain": lambda rgb: _encoded(".tiff", rgb, cv2.IMWRITE_TIFF_COMPRESSION, 1),
}
_LOSSLESS = [
    name for name in _FORMATS if not name.startswith(("jpeg", "gif")) and name != "webp-lossy"
]


@pytest.mark.parametrize("name", _LOSSLESS)
def test_a_lossless_file_gives_back_its_pixels(name: str) -> None:
    frame = decode_image(_FORMATS[name](_gradients()), name=name)
    np.testing.assert_array_equal(frame.pixels, _gradients())


@pytest.mark.parametrize("name", [name for name in _FORMATS if name not in _LOSSLESS])
def test_a_lossy_file_gives_nearly_its_pixels_in_rgb_order(name: str) -> None:
    pixels = decode_image(_FORMATS[name](_gradients()), name=name).pixels
    assert pixels.shape == _gradients().shape
    error = np.abs(pixels.astype(int) - _gradients()).mean()
    # A GIF has 256 colours, and OpenCV's are far from the best.
    assert error < (20 if name == "gif" else 5)
    assert error < np.abs(pixels[..., ::-1].astype(int) - _gradients()).mean() / 2


def test_a_frame_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_FORMATS["png"](_gradients()))
    frame = read_image(path, index=7)
    assert (frame.format, frame.index, frame.timestamp_ns, frame.name) == (
        "rgb",
        7,
        None,
        str(path),
    )
    assert frame.pixels.dtype == np.uint8
    assert read_image(str(path)).index == 0


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(_FORMATS["png"](_gradients()))
    np.testing.assert_array_equal(read_image(path).pixels, _gradients())


def test_every_known_ending_is_of_a_format_that_is_read() -> None:
    for ending in EXTENSIONS:
        assert decode_image(_encoded(ending, _gradients()), name=ending).pixels.size


def test_sixteen_bits_are_reduced_to_their_upper_eight() -> None:
    wide = np.random.default_rng(0).integers(0, 2**16, (37, 53, 3), np.uint16)
    png = cv2.imencode(".png", wide)[1].tobytes()
    np.testing.assert_array_equal(decode_image(png, name="a").pixels, wide[..., ::-1] >> 8)


def test_gray_is_spread_over_three_channels() -> None:
    gray = _gradients()[..., 0]
    png = cv2.imencode(".png", gray)[1].tobytes()
    np.testing.assert_array_equal(decode_image(png, name="a").pixels, np.dstack([gray] * 3))


def _pillow(name: str) -> Any:
    return pytest.importorskip(f"PIL.{name}", reason="the extra [host] is not installed")


def _saved(picture: Any, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


def _translucent(picture: Any) -> Any:
    with_alpha = picture.copy()
    # From fully transparent to opaque, so that dropping differs from blending everywhere.
    ramp = np.tile(np.linspace(0, 255, picture.width, dtype=np.uint8), (picture.height, 1))
    with_alpha.putalpha(_pillow("Image").fromarray(ramp))
    return with_alpha


_KINDS: dict[str, tuple[Callable[[Any], bytes], int]] = {
    "jpeg": (lambda p: _saved(p, "JPEG"), _LOSSY),
    "jpeg-progressive": (lambda p: _saved(p, "JPEG", progressive=True), _LOSSY),
    "jpeg-gray": (lambda p: _saved(p.convert("L"), "JPEG"), _LOSSY),
    "jpeg-cmyk": (lambda p: _saved(p.convert("CMYK"), "JPEG"), _LOSSY),
    "png-gray": (lambda p: _saved(p.convert("L"), "PNG"), 0),
    "png-one-bit": (lambda p: _saved(p.convert("1"), "PNG"), 0),
    "png-palette": (lambda p: _saved(p.quantize(16), "PNG"), 0),
    "png-palette-transparent": (lambda p: _saved(p.quantize(16), "PNG", transparency=3), 0),
    "png-alpha": (lambda p: _saved(_translucent(p), "PNG"), 0),
    "png-gray-alpha": (lambda p: _saved(_translucent(p).convert("LA"), "PNG"), 0),
    "webp-lossy": (lambda p: _saved(p, "WEBP"), _LOSSY),
    "webp-alpha": (lambda p: _saved(_translucent(p), "WEBP", lossless=True, exact=True), 0),
    "webp-animated": (
        lambda p: _saved(p, "WEBP", lossless=True, save_all=True, append_images=[p.rotate(180)]),
        0,
    ),
    "bmp-palette": (lambda p: _saved(p.quantize(16), "BMP"), 0),
    "bmp-one-bit": (lambda p: _saved(p.convert("1"), "BMP"), 0),
    "bmp-alpha": (lambda p: _saved(_translucent(p), "BMP"), 0),
    "gif": (lambda p: _saved(p.quantize(32), "GIF"), 0),
    "gif-animated": (
        lambda p: _saved(
            p.quantize(32), "GIF", save_all=True, append_images=[p.rotate(180).quantize(32)]
        ),
        0,
    ),
    "tiff-lzw": (lambda p: _saved(p, "TIFF", compression="tiff_lzw"), 0),
    "tiff-jpeg": (lambda p: _saved(p, "TIFF", compression="jpeg"), _LOSSY),
    "tiff-palette": (lambda p: _saved(p.quantize(16), "TIFF"), 0),
    "tiff-cmyk": (lambda p: _saved(p.convert("CMYK"), "TIFF"), _LOSSY),
}


@pytest.mark.parametrize(("make", "tolerance"), _KINDS.values(), ids=_KINDS)
def test_pillow_sees_the_same_picture(make: Callable[[Any], bytes], tolerance: int) -> None:
    image = _pillow("Image")
    data = make(image.fromarray(_gradients()))
    expected = np.asarray(image.open(io.BytesIO(data)).convert("RGB"))
    pixels = decode_image(data, name="a").pixels
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_rotation_is_applied_as_pillow_does(format_: str, orientation: int) -> None:
    image = _pillow("Image")
    exif = image.Exif()
    exif[0x112] = orientation
    data = _saved(image.fromarray(_gradients()), format_, exif=exif)
    with image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(_pillow("ImageOps").exif_transpose(picture).convert("RGB"))
    pixels = decode_image(data, name="a").pixels
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= _LOSSY


_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}


@pytest.mark.parametrize(("orientation", "turn"), _TURNS.items(), ids=map(str, _TURNS))
def test_exif_rotation_is_applied_without_pillow_to_say_so(
    orientation: int, turn: Callable[[Pixels], Pixels]
) -> None:
    jpeg = _FORMATS["jpeg"](_gradients())
    entry = struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    plain = decode_image(jpeg, name="a").pixels
    np.testing.assert_array_equal(decode_image(turned, name="a").pixels, turn(plain))


@pytest.mark.parametrize("name", _FORMATS)
def test_a_cut_file_is_refused_at_every_length(name: str) -> None:
    data = _FORMATS[name](_noise())
    whole = decode_image(data, name=name).pixels
    survivors = []
    for length in range(len(data)):
        try:
            pixels = decode_image(data[:length], name=name).pixels
        except UnreadableImageError:
            continue
        survivors.append(length)
        np.testing.assert_array_equal(pixels, whole)
    # A JPEG has all its pixels without the two bytes of its end mark.
    end_bytes = 2 if name.startswith("jpeg") else 0
    assert survivors == [*range(len(data) - end_bytes, len(data))]


_JPEG_OPTIONS: dict[str, tuple[int, ...]] = {
    "baseline": (),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restart-marks": (cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    "progressive-restart-marks": (
        *(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        *(cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    ),
}


@pytest.mark.parametrize(
    "tail", [b"", b"\xff", bytes(100)], ids=["nothing", "half-a-mark", "zeros"]
)
@pytest.mark.parametrize("name", _JPEG_OPTIONS)
@pytest.mark.parametrize("picture", [_gradients(), _noise(160, 120)], ids=["gradients", "noise"])
def test_a_jpeg_with_all_its_pixels_needs_no_end_mark(
    picture: Pixels, name: str, tail: bytes
) -> None:
    data = _encoded(".jpg", picture, *_JPEG_OPTIONS[name])
    pixels = decode_image(data.removesuffix(b"\xff\xd9") + tail, name=name).pixels
    np.testing.assert_array_equal(pixels, decode_image(data, name=name).pixels)


@pytest.mark.parametrize("name", _JPEG_OPTIONS)
@settings(deadline=None, max_examples=60)
@given(lost=st.integers(1, 60) | st.integers(1, 5000))
def test_a_jpeg_without_end_mark_that_lost_pixels_is_refused(name: str, lost: int) -> None:
    data = _encoded(".jpg", _noise(64, 48), *_JPEG_OPTIONS[name])
    whole = decode_image(data, name=name).pixels
    body = data.removesuffix(b"\xff\xd9")
    try:
        pixels = decode_image(body[: max(len(body) - lost, 0)], name=name).pixels
    except UnreadableImageError:
        return
    # The bits that fill the last byte are no pixels.
    np.testing.assert_array_equal(pixels, whole)


def test_a_progressive_jpeg_that_lost_its_last_scans_whole_is_refused() -> None:
    data = _encoded(".jpg", _gradients(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    scans = [found.start() for found in re.finditer(b"\xff\xda", data)]
    tables = [found.start() for found in re.finditer(b"\xff\xc4", data)]
    assert len(scans) > 3
    for scan in scans[1:]:  # each has a table of its own before it, or none
        end = max((at for at in tables if scans[scans.index(scan) - 1] < at < scan), default=scan)
        with pytest.raises(UnreadableImageError, match="cut off"):
            decode_image(data[:end], name="a")


@pytest.mark.parametrize("name", _FORMATS)
@settings(deadline=None, max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_large_cut_file_is_refused_anywhere(name: str, share: float) -> None:
    data = _LARGE[name]
    with pytest.raises(UnreadableImageError):
        decode_image(data[: int((len(data) - 2) * share)], name=name)


@pytest.mark.parametrize("name", _FORMATS)
@settings(deadline=None, max_examples=80)
@given(
    flips=st.lists(
        st.tuples(st.integers(0, 63) | st.integers(0, 10**6), st.integers(0, 255)),
        min_size=1,
        max_size=8,
    )
)
def test_a_damaged_file_gives_a_picture_of_its_size_or_one_kind_of_error(
    name: str, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(_LARGE[name])
    for position, value in flips:
        data[position % len(data)] = value
    try:
        pixels = decode_image(bytes(data), name=name, max_pixels=200_000).pixels
    except UnreadableImageError:
        return
    header = read_header(bytes(data), name)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] == (3,)
    assert sorted(pixels.shape[:2]) == sorted((header.width, header.height))


_LARGE = {name: encode(_noise(160, 120)) for name, encode in _FORMATS.items()}


_UNREADABLE = {
    "empty": (b"", "empty"),
    "text-named-jpg": (b"Dear diary, this is no picture.", "not a picture"),
    "head-without-a-body": (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 5, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", b"not zlib")
        + _chunk(b"IEND", b""),
        "damaged",
    ),
}


@pytest.mark.parametrize(("content", "reason"), _UNREADABLE.values(), ids=_UNREADABLE)
def test_what_is_no_picture_is_refused_by_name(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason) as refused:
        read_image(path)
    assert refused.value.name == str(path)


@pytest.mark.parametrize("where", ["missing.jpg", "."], ids=["missing", "folder"])
def test_a_path_that_cannot_be_read_is_refused(where: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        read_image(tmp_path / where)


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV must not even be asked."""

    def decode(*_: object) -> None:
        pytest.fail("the file was given to the decoder")

    monkeypatch.setattr(cv2, "imdecode", decode)


@pytest.mark.parametrize(
    "name", [name for name in _FORMATS if not name.startswith(("tiff", "jpeg"))]
)
def test_a_cut_file_is_refused_before_it_is_decoded(name: str, no_decoder: None) -> None:
    # OpenCV 4 fills the missing half of some formats with gray, and calls that a picture.
    data = _LARGE[name]
    with pytest.raises(UnreadableImageError, match="cut off"):
        decode_image(data[: len(data) * 3 // 4], name=name)


@pytest.mark.parametrize("bits", [1, 8])
def test_a_bomb_is_refused_before_it_is_decoded(bits: int, no_decoder: None) -> None:
    bomb = _gray_png(9000, 9000, bits)
    assert len(bomb) < 100_000
    with pytest.raises(UnreadableImageError, match=r"9000 x 9000 .* 64 megapixels"):
        decode_image(bomb, name="a")


def test_a_chunk_longer_than_its_file_is_refused_before_it_is_decoded(no_decoder: None) -> None:
    # OpenCV reserves, and touches, as many gigabytes as the length says.
    png = _gray_png(5, 5, 8)
    length = png.index(b"IDAT") - 4
    hostile = png[:length] + struct.pack(">I", 0x7FFF0000) + png[length + 4 :]
    with pytest.raises(UnreadableImageError):
        decode_image(hostile, name="a")


def test_the_limit_of_pixels_can_be_chosen() -> None:
    png = _gray_png(50, 40, 8)
    assert decode_image(png, name="a", max_pixels=2000).pixels.shape == (40, 50, 3)
    with pytest.raises(UnreadableImageError, match="--max-megapixels"):
        decode_image(png, name="a", max_pixels=1999)


def test_the_limit_of_pixels_holds_for_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_gray_png(50, 40, 8))
    with pytest.raises(UnreadableImageError, match="50 x 40"):
        read_image(path, max_pixels=1999)


_SIDE = 200
_SIZES = {
    "once": ([(256, 4, _SIDE), (257, 4, _SIDE)], b""),
    "twice": ([(256, 4, _SIDE), (256, 4, 3), (257, 4, _SIDE)], b""),
    "in-64-bits": ([(256, 16, -1), (257, 16, -9)], struct.pack("<QQ", _SIDE, _SIDE)),
}


@pytest.mark.parametrize(("sizes", "wide"), _SIZES.values(), ids=_SIZES)
def test_a_tiff_cannot_hide_its_size(sizes: list[tuple[int, int, int]], wide: bytes) -> None:
    packed = zlib.compress(bytes(_SIDE * _SIDE))
    rest = [
        (258, 3, 8),  # bits
        (259, 3, 8),  # deflate
        (262, 3, 1),  # black is zero
        (273, 4, -1 - len(wide)),
        (277, 3, 1),  # channels
        (278, 4, _SIDE),  # all rows in one strip
        (279, 4, len(packed)),
    ]
    with pytest.raises(UnreadableImageError):
        decode_image(_tiff(sizes + rest, wide + packed), name="a", max_pixels=_SIDE * _SIDE - 1)
