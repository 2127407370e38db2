"""What an image file says of itself before it is decoded.

A picture of 236 kB can decode to hundreds of megabytes, and OpenCV fills the missing half of a
cut JPEG with gray in silence: so size and completeness are read from the bytes first. Layouts
follow the public specifications of the six formats.
"""

from __future__ import annotations

import re
import struct
from typing import Literal, NamedTuple

from edge_sdk.errors import UnreadableImageError

Kind = Literal["JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF"]


class ImageHeader(NamedTuple):
    """What the bytes say without being decoded.

    Attributes:
        kind: the format.
        width, height: in pixels, as stored, before EXIF rotation.
        complete: whether the end is there.
        open_ended: a JPEG without its end mark, in which every scan has begun: the pixels may be
            complete all the same, which only decoding shows. ``complete`` is then False.
    """

    kind: Kind
    width: int
    height: int
    complete: bool
    open_ended: bool = False


def read_header(data: bytes, name: str) -> ImageHeader:
    """Reads the header of an image file.

    Raises:
        UnreadableImageError: empty, no known format, or the header itself is damaged.
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
                f"not a picture; JPEG, PNG, WebP, BMP, GIF and TIFF are read, "
                f"whatever the file's name ends in (this one starts with {data[:8]!r})",
            )
    except (struct.error, IndexError, StopIteration) as error:
        raise UnreadableImageError(name, "its header is cut off or damaged") from error
    raise UnreadableImageError(name, "its header names a picture without pixels")


def _jpeg(data: bytes) -> ImageHeader:
    position, size, frame_at = 2, None, 0
    while True:
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
            size, frame_at = struct.unpack_from(">HH", data, position + 5), position
        position += 2 + length
        if marker == 0xDA:  # entropy-coded data, in which FF D9 can only be the end of the image
            if size is None:
                raise IndexError(position)
            complete = data.find(b"\xff\xd9", position) >= 0
            open_ended = not complete and _all_scans_begun(data, frame_at, position - 2 - length)
            return ImageHeader("JPEG", size[1], size[0], complete, open_ended)


# In entropy-coded data FF is followed by 00; FF FF is a fill byte, D0 to D7 restart an interval.
_SEGMENT = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


def _all_scans_begun(data: bytes, frame_at: int, scan_at: int) -> bool:
    """Whether the scans of a JPEG say something final about every coefficient it has.

    A progressive JPEG that lost its last scans whole still decodes, to a coarser picture.

    Args:
        data: the file.
        frame_at: where its SOF segment begins.
        scan_at: where its first SOS segment begins.
    """
    progressive = data[frame_at + 1] in (0xC2, 0xC6, 0xCA, 0xCE)
    components = data[frame_at + 10 : frame_at + 10 + 3 * data[frame_at + 9] : 3]
    missing = {(name, k) for name in components for k in range(64 if progressive else 1)}
    found: re.Match[bytes] | None = _SEGMENT.match(data, scan_at)
    while found is not None and found.end() + 2 <= len(data):
        at = found.end()
        (length,) = struct.unpack_from(">H", data, at)
        if at + length > len(data):
            return False
        if found[1] == b"\xda":
            names = data[at + 3 : at + 3 + 2 * data[at + 2] : 2]
            first, last, low_bit = struct.unpack_from("3B", data, at + length - 3)
            if not progressive:
                missing -= {(name, 0) for name in names}
            elif low_bit & 15 == 0:  # no further bit of these coefficients is to come
                missing -= {(name, k) for name in names for k in range(first, last + 1)}
        found = _SEGMENT.search(data, at + length)
    return not missing


def _png(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from(">II", data, 16)
    # Chunk by chunk: one that claims to be longer than the file would have OpenCV reserve gigabytes.
    position = 8
    while position + 12 <= len(data):
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
    return ImageHeader("WebP", width, height, complete)


def _bmp(data: bytes) -> ImageHeader:
    file_bytes, _, pixels_at, header_bytes = struct.unpack_from("<IIII", data, 2)
    if header_bytes == 12:  # the OS/2 header has 16-bit sides
        width, height = struct.unpack_from("<HH", data, 18)
        (bits,) = struct.unpack_from("<H", data, 24)
        packed = False
    else:
        width, height = struct.unpack_from("<ii", data, 18)
        (bits, compression) = struct.unpack_from("<HI", data, 28)
        packed = compression in (1, 2)  # run lengths: the size of the rows is not known beforehand
    width, height = abs(width), abs(height)
    row_bytes = (width * bits + 31) // 32 * 4
    needed = file_bytes if packed else pixels_at + row_bytes * height
    return ImageHeader("BMP", width, height, len(data) >= needed)


def _gif(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from("<HH", data, 6)
    return ImageHeader("GIF", width, height, data.rstrip(b"\0").endswith(b";"))


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
    # OpenCV itself refuses a TIFF whose strips reach past the end.
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
