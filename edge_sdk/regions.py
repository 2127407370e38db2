"""Regions of interest: rectangles of the picture that are classified instead of all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import FrameError
from edge_sdk.types import Frame


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in shares of the picture, so that it fits every size of it.

    Attributes:
        x, y: its left and upper edge, from 0 up to 1.
        width, height: above 0; the rectangle ends within the picture.
        name: what records call it; empty: its four numbers.
    """

    x: float
    y: float
    width: float
    height: float
    name: str = ""

    def __post_init__(self) -> None:
        # Shares typed with few digits may add up to a little more than 1.
        fits = all(0 <= a < 1 and b > 0 and a + b <= 1.001 for a, b in self._sides())
        if not fits:
            raise ValueError(
                f"{self.x:g},{self.y:g},{self.width:g},{self.height:g} is no part of a picture; "
                "expected X,Y,WIDTH,HEIGHT in shares of it, as in 0.25,0,0.5,1 for the middle half"
            )

    def _sides(self) -> tuple[tuple[float, float], tuple[float, float]]:
        return (self.x, self.width), (self.y, self.height)

    def __str__(self) -> str:
        return self.name or f"{self.x:g},{self.y:g},{self.width:g},{self.height:g}"

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """``(left, top, right, bottom)`` within a picture of that size; never empty."""
        left, right = _edges(self.x, self.width, width)
        top, bottom = _edges(self.y, self.height, height)
        return left, top, right, bottom


def _edges(start: float, length: float, size: int) -> tuple[int, int]:
    first, last = round(start * size), min(round((start + length) * size), size)
    if last <= first:  # narrower than a pixel: the one that its middle is in
        first = min(int((start + length / 2) * size), size - 1)
        last = first + 1
    return first, last


def parse_region(text: str) -> Region:
    """Reads ``X,Y,WIDTH,HEIGHT`` or ``NAME=X,Y,WIDTH,HEIGHT``, all in shares of the picture.

    Raises:
        ValueError: something else, or a rectangle that is not within the picture.
    """
    name, _, numbers = text.rpartition("=")
    try:
        x, y, width, height = map(float, numbers.split(","))
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no region; expected X,Y,WIDTH,HEIGHT in shares of the picture, as in "
            "0.25,0,0.5,1, with NAME= before it at will"
        ) from error
    return Region(x, y, width, height, name.strip())


def view(frame: Frame, region: Region) -> Frame:
    """The part of a frame within a region, as a frame of its own.

    Its pixels are a view of the frame's, but for ``i420``, whose three planes make a small copy
    (of even size, which its half-sized colours need).

    Raises:
        FrameError: the frame is no picture.
    """
    pixels = frame.pixels
    if not isinstance(pixels, np.ndarray) or pixels.ndim < 2 or pixels.size == 0:
        kind = getattr(pixels, "shape", type(pixels).__name__)
        raise FrameError(f"a frame needs pixels of a height and a width, got {kind}")
    if frame.format == "i420":
        return replace(frame, pixels=_i420(pixels, region))
    left, top, right, bottom = region.pixels(pixels.shape[1], pixels.shape[0])
    return replace(frame, pixels=pixels[top:bottom, left:right])


def _i420(pixels: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
    rows, width = int(pixels.shape[0]), int(pixels.shape[1])
    pixels = pixels.reshape(rows, width)
    if rows % 3 or width % 2:
        raise FrameError(f"an i420 frame needs (H * 3 / 2, W) pixels, got {pixels.shape}")
    height = rows // 3 * 2
    # In steps of two pixels: the colours are half as wide and high as the brightness.
    left, top, right, bottom = region.pixels(width // 2, height // 2)
    flat, area = pixels.reshape(-1), height * width
    planes = [pixels[:height][2 * top : 2 * bottom, 2 * left : 2 * right]]
    for start in (area, area + area // 4):
        plane = flat[start : start + area // 4].reshape(height // 2, width // 2)
        planes.append(plane[top:bottom, left:right])
    cut = np.concatenate([plane.reshape(-1) for plane in planes])
    return cut.reshape((bottom - top) * 3, (right - left) * 2)
