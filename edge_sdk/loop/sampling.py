"""Sampling: which frames of a source are classified, which parts of them, and the motion gate.

The motion gate compares some thousand points of the picture with the same points of the last picture
that passed, so that a slow change adds up until it counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import FrameError
from edge_sdk.types import Frame


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in fractions of the picture, independent of its size.

    Attributes:
        x, y: its left and upper edge, from 0 up to 1.
        width, height: above 0; the rectangle ends within the picture.
        name: its name in records; empty: its four numbers.
    """

    x: float
    y: float
    width: float
    height: float
    name: str = ""

    def __post_init__(self) -> None:
        # Fractions typed with few digits may add up to slightly more than 1.
        fits = all(0 <= a < 1 and b > 0 and a + b <= 1.001 for a, b in self._sides())
        if not fits:
            raise ValueError(
                f"{self.x:g},{self.y:g},{self.width:g},{self.height:g} is not within the picture; "
                "expected X,Y,WIDTH,HEIGHT as fractions of it, as in 0.25,0,0.5,1 for the middle half"
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
    if last <= first:  # narrower than a pixel: the pixel of its middle
        first = min(int((start + length / 2) * size), size - 1)
        last = first + 1
    return first, last


def parse_region(text: str) -> Region:
    """Parses ``X,Y,WIDTH,HEIGHT`` or ``NAME=X,Y,WIDTH,HEIGHT``, in fractions of the picture.

    Raises:
        ValueError: something else, or a rectangle that is not within the picture.
    """
    name, _, numbers = text.rpartition("=")
    try:
        x, y, width, height = map(float, numbers.split(","))
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no region; expected X,Y,WIDTH,HEIGHT as fractions of the picture, as in "
            "0.25,0,0.5,1, optionally with NAME= before it"
        ) from error
    return Region(x, y, width, height, name.strip())


def view(frame: Frame, region: Region) -> Frame:
    """The part of a frame within a region, as a frame.

    Its pixels are a view of the frame's, except for ``i420``, whose three planes are copied (with
    even sides, which its half-sized colour planes need).

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


# Points along the longer side. 64 x 36 of them take some tens of microseconds, and an object of 1/30 of
# the picture's width still covers several.
_POINTS = 64


@dataclass(frozen=True, slots=True)
class Motion:
    """When a picture counts as changed.

    Attributes:
        share: fraction of the points that must change, above 0, below 1.
        levels: by how much a point must differ to count as changed, 1..255. A small sensor's noise at
            night has a standard deviation of 3 to 6 levels.
        refresh_s: seconds after which a picture passes although nothing moved.
    """

    share: float = 0.005
    levels: int = 25
    refresh_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or not 1 <= self.levels <= 255 or not self.refresh_s > 0:
            raise ValueError(
                "a motion gate needs 0 < share < 1, 1 <= levels <= 255 and refresh_s above 0, got "
                f"{self.share}, {self.levels} and {self.refresh_s}"
            )


class MotionGate:
    """Decides for each frame whether to classify it."""

    def __init__(self, how: Motion) -> None:
        self._how = how
        self._last: NDArray[np.uint8] | None = None
        self._passed_s = 0.0

    def passes(self, frame: Frame, now_s: float) -> bool:
        """Whether something moved since the last frame that passed, or ``refresh_s`` is over.

        Args:
            frame: in any format; an invalid one passes, and is refused later.
            now_s: monotonic time in seconds, from any zero.
        """
        points = _points(frame)
        if (
            points is not None
            and self._last is not None
            and points.shape == self._last.shape
            and now_s - self._passed_s < self._how.refresh_s
            and not self._moved(points, self._last)
        ):
            return False
        self._last, self._passed_s = points, now_s
        return True

    def _moved(self, now: NDArray[np.uint8], before: NDArray[np.uint8]) -> bool:
        # No wider dtype needed: maximum minus minimum stays within 0..255.
        change = np.maximum(now, before) - np.minimum(now, before)
        moved = np.count_nonzero(change > self._how.levels)
        return bool(moved > self._how.share * change.size)


def _points(frame: Frame) -> NDArray[np.uint8] | None:
    pixels = frame.pixels
    if not isinstance(pixels, np.ndarray) or pixels.ndim not in (2, 3) or pixels.size == 0:
        return None
    if frame.format == "i420":  # the brightness plane alone
        pixels = pixels[: pixels.shape[0] * 2 // 3]
    step = max(1, max(pixels.shape[:2]) // _POINTS)
    points = pixels[step // 2 :: step, step // 2 :: step]
    if points.ndim == 3:
        points = (
            points[:, :, 1] if points.shape[2] >= 3 else points[:, :, 0]
        )  # green, for brightness
    return points.copy()


@dataclass(frozen=True, slots=True)
class Attention:
    """Which frames and which parts of them are classified.

    Attributes:
        every: classify the first of so many frames, at least 1.
        max_fps: classify at most so many frames per second; None: no limit.
        regions: classify these parts, each with its own answer; empty: the whole picture.
        motion: classify only where something moved; None: always.
    """

    every: int = 1
    max_fps: float | None = None
    regions: tuple[Region, ...] = ()
    motion: Motion | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every needs at least 1, got {self.every}")
        if self.max_fps is not None and not self.max_fps > 0:
            raise ValueError(f"max_fps needs a number above 0, got {self.max_fps}")
        names = [str(region) for region in self.regions]
        if len(set(names)) < len(names):
            raise ValueError(f"each region needs a name of its own, got {', '.join(names)}")


class Pace:
    """Applies ``every`` and ``max_fps``. Time is monotonic, in seconds, from any zero."""

    def __init__(self, attention: Attention) -> None:
        self._every = attention.every
        self._period_s = 1 / attention.max_fps if attention.max_fps else 0.0
        self._due_s: float | None = None
        self._frames = 0

    def wait_s(self, now_s: float) -> float:
        """Seconds to wait before the next frame is read, so that it is a new one."""
        return 0.0 if self._due_s is None else max(0.0, self._due_s - now_s)

    def takes(self, now_s: float) -> bool:
        """Counts a frame and returns whether to classify it."""
        taken = self._frames % self._every == 0
        self._frames += 1
        if taken and self._period_s:
            # At fixed times, so that the rate is reached; a missed time is not made up for.
            due_s = now_s if self._due_s is None else self._due_s
            self._due_s = max(due_s + self._period_s, now_s)
        return taken
