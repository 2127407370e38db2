"""Image files into frames: the one decoder of the project.

Every picture anywhere (training, calibration, validation, the device) is decoded here, so that
all see the same pixels: EXIF orientation applied, 16 bits reduced to 8, palettes and CMYK expanded,
gray spread over three channels, alpha dropped as Pillow's ``convert("RGB")`` and Keras do (but for
TIFF and GIF, whose transparent pixels come as OpenCV makes them).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import UnreadableImageError
from edge_sdk.imageheader import read_header
from edge_sdk.types import Frame

# Above the 64 megapixels of the largest camera sold for a Raspberry Pi, below a decompression bomb.
MAX_PIXELS = 64_000_000

# The formats whose headers we read, by the endings people give them.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def read_image(path: str | Path, *, index: int = 0, max_pixels: int = MAX_PIXELS) -> Frame:
    """Reads one picture.

    Args:
        path: a JPEG, PNG, WebP, BMP, GIF (first picture) or TIFF file.
        index: becomes ``Frame.index``.
        max_pixels: width times height above which the file is refused unread.

    Returns:
        A frame of ``(H, W, 3)`` uint8 pixels in RGB order, ``name`` set to the path.

    Raises:
        UnreadableImageError: missing, not a picture, truncated, damaged or too large.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImageError(
            str(path), f"cannot be read ({error.strerror or error})"
        ) from error
    return decode_image(data, name=str(path), index=index, max_pixels=max_pixels)


def decode_image(data: bytes, *, name: str, index: int = 0, max_pixels: int = MAX_PIXELS) -> Frame:
    """Decodes the bytes of an image file; arguments and errors as for ``read_image``."""
    header = read_header(data, name)
    if header.width * header.height > max_pixels:
        raise UnreadableImageError(
            name,
            f"{header.width} x {header.height} pixels are more than the limit of "
            f"{max_pixels / 1e6:g} megapixels; raise it with --max-megapixels if the picture is meant",
        )
    if header.open_ended:
        pixels = _decode_open_ended(data, name)
    elif header.complete:
        pixels = _decode(data, name)
    else:
        raise _cut_off(header.kind, name)
    if pixels is None:
        raise UnreadableImageError(name, f"a {header.kind} file by its head, but damaged inside")
    return Frame(pixels, "rgb", index, None, name)


def _decode(data: bytes, name: str) -> NDArray[np.uint8] | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise UnreadableImageError(name, f"OpenCV cannot decode it ({error.err})") from error
    return None if pixels is None else pixels.astype(np.uint8, copy=False)


_END = b"\xff\xd9"
# Without a mark in it. Where bits are missing the decoder takes zeros, so the first one is a 1.
_NOISE = b"\xa7" + hashlib.shake_128(b"edgecls").digest(255).replace(b"\xff", b"\xfe")


def _decode_open_ended(data: bytes, name: str) -> NDArray[np.uint8] | None:
    """Decodes a JPEG without its end mark, which every viewer shows, where no pixel is missing.

    Some cameras and cut transfers leave the last two bytes off. Where pixels are missing too, the
    decoder makes them of whatever follows; so the picture is complete if it is the same whether an
    end or noise follows.
    """
    data = data.rstrip(b"\xff")  # half an end mark
    pixels = _decode(data + _END, name)
    other = _decode(data + _noise_after(data) + _END, name)
    if pixels is None or other is None or not np.array_equal(pixels, other):
        raise _cut_off("JPEG", name)
    return pixels


def _noise_after(data: bytes) -> bytes:
    """Noise that goes on where ``data`` ends, with the restart marks that its decoder may wait for."""
    scan = data[data.rfind(b"\xff\xda") :]
    last = max((scan.rfind(bytes((0xFF, 0xD0 + n))), n) for n in range(8))
    first = last[1] + 1 if last[0] >= 0 else 0
    return _NOISE + b"".join(bytes((0xFF, 0xD0 + (first + n) % 8)) + _NOISE for n in range(16))


def _cut_off(kind: str, name: str) -> UnreadableImageError:
    return UnreadableImageError(name, f"the {kind} file is cut off; copy it again")
