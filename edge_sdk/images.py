"""Image files into frames: the one decoder of the project.

Every picture anywhere (training, calibration, validation, the device) is decoded here, so that
all see the same pixels: EXIF orientation applied, 16 bits reduced to 8, palettes and CMYK expanded,
gray spread over three channels, alpha dropped as Pillow's ``convert("RGB")`` and Keras do (but for
TIFF and GIF, whose transparent pixels come as OpenCV makes them).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

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
    if not header.complete:
        raise UnreadableImageError(name, f"the {header.kind} file is cut off; copy it again")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise UnreadableImageError(name, f"OpenCV cannot decode it ({error.err})") from error
    if pixels is None:
        raise UnreadableImageError(name, f"a {header.kind} file by its head, but damaged inside")
    return Frame(pixels.astype(np.uint8, copy=False), "rgb", index, None, name)
