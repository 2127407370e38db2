"""Decodes image files into frames; the only decoder of the project.

Training, calibration, validation and the device all decode here, so that they see the same pixels:
EXIF orientation applied, 16 bits reduced to 8, palettes and CMYK expanded, gray repeated in three
channels, alpha dropped as Pillow's ``convert("RGB")`` and Keras do (except in TIFF and GIF, whose
transparent pixels are as OpenCV decodes them).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import UnreadableImageError
from edge_sdk.files import read_file
from edge_sdk.types import Frame
from edge_sdk.vision.headers import ImageHeader, read_header
from edge_sdk.vision.jpeg import damage, decode_with_warning
from edge_sdk.vision.limits import MAX_PIXELS as MAX_PIXELS
from edge_sdk.vision.limits import DecodingRoom, file_bytes

# The usual extensions of the supported formats.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

_ROOM = DecodingRoom()
_END_OF_IMAGE = b"\xff\xd9"


def read_image(path: str | Path, *, index: int = 0, max_pixels: int = MAX_PIXELS) -> Frame:
    """Reads one picture.

    Args:
        path: a JPEG, PNG, WebP, BMP, GIF (first picture) or TIFF file.
        index: becomes ``Frame.index``.
        max_pixels: limit on width times height, checked before decoding; limits on memory and work
            follow from it, see ``edge_sdk.vision.limits``.

    Returns:
        A frame of ``(H, W, 3)`` uint8 pixels in RGB order, ``name`` set to the path.

    Raises:
        UnreadableImageError: missing, not a picture, truncated, damaged or too large.
    """
    try:
        data = read_file(path, file_bytes(max_pixels))
    except OSError as error:
        raise UnreadableImageError(
            str(path), f"cannot be read ({error.strerror or error})"
        ) from error
    return decode_image(data, name=str(path), index=index, max_pixels=max_pixels)


def decode_image(
    data: bytes,
    *,
    name: str,
    index: int = 0,
    max_pixels: int = MAX_PIXELS,
    most_bytes: int | None = None,
    live: bool = False,
) -> Frame:
    """Decodes the bytes of an image file; arguments and errors as for ``read_image``.

    Args:
        data: the file.
        name: becomes ``Frame.name``.
        index: becomes ``Frame.index``.
        max_pixels: as for ``read_image``.
        most_bytes: limit on decoding memory; None: 9 bytes for each of ``max_pixels``.
        live: a camera's frame, whose padding at the end may have any value.
    """
    header = read_header(data, name)
    with _ROOM.take(header, name, max_pixels, most_bytes):
        if header.open_ended:  # as every viewer does; libjpeg warns if a pixel is missing
            data += _END_OF_IMAGE
        elif not header.complete:
            raise UnreadableImageError(name, f"the {header.kind} file is cut off; copy it again")
        pixels, harm = _decode(data, header, name, live)
    if pixels is None:
        raise UnreadableImageError(
            name,
            f"the {header.kind} file is damaged inside; copy it again",
        )
    if harm and header.open_ended:
        raise UnreadableImageError(name, f"the {header.kind} file is cut off; copy it again")
    if harm:
        raise UnreadableImageError(
            name, f"the {header.kind} file is damaged inside ({harm}); copy it again"
        )
    return Frame(pixels.astype(np.uint8, copy=False), "rgb", index, None, name)


def _decode(
    data: bytes, header: ImageHeader, name: str, live: bool
) -> tuple[NDArray[np.uint8] | None, str]:
    """The pixels, None if decoding failed, and the decoder's warning about damage."""
    content = np.frombuffer(data, np.uint8)

    def decode() -> NDArray[np.uint8] | None:
        # cv2's stubs omit None, which it returns for undecodable data.
        pixels: NDArray[np.uint8] | None = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)  # type: ignore[assignment]
        return pixels

    try:
        if header.kind != "JPEG":
            return decode(), ""
        pixels, warning = decode_with_warning(decode)
    except cv2.error as error:
        raise UnreadableImageError(name, f"OpenCV cannot decode it ({error.err})") from error
    return pixels, damage(warning, None if live else data) if warning else ""
