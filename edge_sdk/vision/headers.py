"""Reads the header of an image file before it is decoded.

A picture of 236 kB can decode to hundreds of megabytes, and OpenCV silently fills the missing half
of a truncated JPEG with gray: so size and completeness are read from the bytes first. Layouts follow
the public specifications of the six formats.
"""

from __future__ import annotations

import re
import struct
from typing import Literal, NamedTuple

from edge_sdk.errors import UnreadableImageError

Kind = Literal["JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF"]


class ImageHeader(NamedTuple):
    """Properties of an image file, read without decoding.

    Attributes:
        kind: the format.
        width, height: in pixels, as stored, before EXIF rotation.
        complete: whether the end of the file is present.
        open_ended: a JPEG without its end mark, in which every scan has begun: the pixels may still
            be complete, which only decoding shows. ``complete`` is then False.
        bytes_per_pixel: peak memory of decoding, the ``(H, W, 3)`` result included.
        passes: how often the decoder passes over all samples of the picture: 1, except for JPEGs of
            several scans. A sample stored for every fourth pixel counts as a quarter.
    """

    kind: Kind
    width: int
    height: int
    complete: bool
    open_ended: bool = False
    bytes_per_pixel: float = 6.0
    passes: float = 1.0

    @property
    def memory_bytes(self) -> int:
        """Peak memory of decoding."""
        return round(self.width * self.height * self.bytes_per_pixel)


# Peak bytes per pixel of a process that decodes 24 megapixels with OpenCV 5.0, measured by
# tests/fuzz/pictures.py: 6.0 for JPEG, PNG, BMP and TIFF of 8 or 16 bits.
_WEBP_BYTES = 7.1
_GIF_BYTES = 12.2
# Coefficients of a JPEG with several scans are kept until the end, two bytes for each sample.
_COEFFICIENT_BYTES = 2
_RESULT_BYTES = 3
# More than any encoder writes, and few enough to read in a fraction of a second.
_MAX_SEGMENTS = 20_000
_MAX_CHUNKS = 200_000


def read_header(data: bytes, name: str) -> ImageHeader:
    """Reads the header of an image file.

    Raises:
        UnreadableImageError: empty, no known format, or a damaged header.
    """
    if not data:
        raise UnreadableImageError(name, "the file is empty")
    try:
        for magic, reader in _READERS:
            if data.startswith(magic) and (magic != b"RIFF" or data[8:12] == b"WEBP"):
                header = reader(data)
                if header.width > 0 and header.height > 0:
                    return header
                break
        else:
            raise UnreadableImageError(
                name,
                f"not a picture; JPEG, PNG, WebP, BMP, GIF and TIFF are supported, "
                f"whatever the file's extension (this one starts with {data[:8]!r})",
            )
    except (struct.error, IndexError, StopIteration) as error:
        raise UnreadableImageError(name, "its header is cut off or damaged") from error
    raise UnreadableImageError(name, "its header declares a picture without pixels")


# In entropy-coded data FF is followed by 00; FF FF is a fill byte, D0 to D7 restart an interval.
_SEGMENT = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)


def _jpeg(data: bytes) -> ImageHeader:
    position = 2
    frame: _JpegFrame | None = None
    for _ in range(_MAX_SEGMENTS):
        if data[position] != 0xFF:
            raise IndexError(position)
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0xD8 or marker == 0x01 or 0xD0 <= marker <= 0xD7:  # no length follows
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        # SOF0..SOF15 but for DHT (C4), JPG (C8) and DAC (CC), which share the range.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = _jpeg_frame(data, position)
        if marker == 0xDA:  # entropy-coded data, where FF D9 can only be the end of the image
            if frame is None:
                raise IndexError(position)
            return _jpeg_scans(data, position, frame)
        position += 2 + length
    raise IndexError(position)


class _JpegFrame(NamedTuple):
    """A SOF segment; ``shares``: samples per pixel of each component, by its number."""

    width: int
    height: int
    progressive: bool
    shares: dict[int, float]


def _jpeg_frame(data: bytes, at: int) -> _JpegFrame:
    height, width, count = struct.unpack_from(">HHB", data, at + 5)
    parts = [struct.unpack_from("BB", data, at + 10 + 3 * n) for n in range(count)]
    areas = {number: (factors >> 4) * (factors & 15) for number, factors in parts}
    most_across = max((factors >> 4 for _, factors in parts), default=1)
    most_down = max((factors & 15 for _, factors in parts), default=1)
    whole = most_across * most_down or 1
    shares = {number: area / whole for number, area in areas.items()}
    return _JpegFrame(width, height, data[at + 1] in _PROGRESSIVE, shares)


def _jpeg_scans(data: bytes, at: int, frame: _JpegFrame) -> ImageHeader:
    """Reads the scans of a JPEG, the first of which begins at ``at``.

    Each scan is one pass of the decoder over the picture, with or without data. A missing scan makes a
    progressive picture coarser, which decoders accept.
    """
    coefficients = 64 if frame.progressive else 1
    missing = {(number, k) for number in frame.shares for k in range(coefficients)}
    samples, ended, segments, scans = 0.0, False, 0, 0
    found: re.Match[bytes] | None = _SEGMENT.match(data, at)
    while found is not None:
        at, segments = found.end(), segments + 1
        if found[1] == b"\xd9":
            ended = True
            break
        if segments > _MAX_SEGMENTS:
            raise IndexError(at)
        length = int.from_bytes(data[at : at + 2], "big") if found[1] != b"\xd8" else 0
        if at + length > len(data):
            break
        if found[1] == b"\xda":
            scans += 1
            if not 1 <= data[at + 2] <= 4:  # ITU-T T.81, B.2.3
                raise IndexError(at)
            numbers = data[at + 3 : at + 3 + 2 * data[at + 2] : 2]
            samples += sum(frame.shares.get(number, 1.0) for number in numbers)
            first, last, low_bit = data[at + length - 3 : at + length]
            # If the low four bits are not 0, later scans refine these coefficients.
            if not frame.progressive:
                missing -= {(number, 0) for number in numbers}
            elif low_bit & 15 == 0:
                missing -= {(n, k) for n in numbers for k in range(first, min(last, 63) + 1)}
        found = _SEGMENT.search(data, at + length)
    total = sum(frame.shares.values()) or 1.0
    kept = _COEFFICIENT_BYTES * total if scans > 1 or frame.progressive else 0.0
    return ImageHeader(
        "JPEG",
        frame.width,
        frame.height,
        complete=ended,
        open_ended=not ended and not missing,
        bytes_per_pixel=max(2.0 * _RESULT_BYTES, kept + _RESULT_BYTES),
        passes=max(1.0, samples / total),
    )


def _png(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from(">II", data, 16)
    # Chunk by chunk: for one that declares more bytes than the file has, OpenCV would reserve gigabytes.
    position = 8
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(data):
            break
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        position += 12 + length
        if kind == b"IEND":
            return ImageHeader("PNG", width, height, position <= len(data))
    return ImageHeader("PNG", width, height, complete=False)


def _webp(data: bytes) -> ImageHeader:
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    complete = len(data) >= riff_bytes + 8
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise IndexError(12)
    return ImageHeader("WebP", width, height, complete, bytes_per_pixel=_WEBP_BYTES)


def _bmp(data: bytes) -> ImageHeader:
    file_bytes, _, pixels_at, header_bytes = struct.unpack_from("<IIII", data, 2)
    if header_bytes == 12:  # the OS/2 header has 16-bit sides
        width, height = struct.unpack_from("<HH", data, 18)
        (bits,) = struct.unpack_from("<H", data, 24)
        packed = False
    else:
        width, height = struct.unpack_from("<ii", data, 18)
        (bits, compression) = struct.unpack_from("<HI", data, 28)
        packed = compression in (1, 2)  # run lengths: the size of the rows is unknown in advance
    width, height = abs(width), abs(height)
    row_bytes = (width * bits + 31) // 32 * 4
    needed = file_bytes if packed else pixels_at + row_bytes * height
    return ImageHeader("BMP", width, height, len(data) >= needed)


def _gif(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from("<HH", data, 6)
    complete = data.rstrip(b"\0").endswith(b";")
    return ImageHeader("GIF", width, height, complete, bytes_per_pixel=_GIF_BYTES)


def _tiff(data: bytes) -> ImageHeader:
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    sides: dict[int, int] = {}
    for entry in range(entries):
        at = directory + 2 + 12 * entry
        tag, field_type = struct.unpack_from(order + "HH", data, at)
        if tag in (256, 257):  # ImageWidth, ImageLength: SHORT (3) or LONG (4), once each
            if tag in sides or field_type not in (3, 4):
                raise IndexError(at)
            (sides[tag],) = struct.unpack_from(
                order + ("H" if field_type == 3 else "I"), data, at + 8
            )
    if len(sides) != 2:
        raise IndexError(directory)
    # OpenCV itself refuses a TIFF with strips past the end.
    return ImageHeader("TIFF", sides[256], sides[257], complete=True)


_READERS = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _webp),
    (b"BM", _bmp),
    (b"GIF8", _gif),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
)
