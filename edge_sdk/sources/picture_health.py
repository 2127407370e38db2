"""Whether a camera's pictures are what a camera gives: frozen, black, or of something else.

Pure arithmetic on a few thousand pixels of a frame, ten times a second at most. Each finding is told
once, and told to be over; none of them is a fault by itself, and night is none at all.

* **frozen**: the very same pixels for ``frozen_s`` seconds. A sensor's noise never repeats, so one
  frame in a thousand of a still life differs from the last. Where nothing can differ, since all is
  black or all is white, nothing is said.
* **black**: hardly anything brighter than 16 of 255 for two seconds. A sensor that amplifies its
  noise at night is brighter.
* **changed**: the picture had stood still for ``changed_s`` seconds, and now another one has: the
  camera was moved, turned or covered. Compared are pictures averaged over two seconds, coarse and
  freed from brightness and contrast, so whoever walks by, the sun and the lamps change nothing; a
  picture that never stands still is not judged, nor is a dark one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk.types import Frame, Health

_ROWS, _COLUMNS, _BLOCK = 48, 64, 4
_OVER_ROWS = np.kron(np.eye(_ROWS // _BLOCK), np.full(_BLOCK, 1 / _BLOCK)).astype(np.float32)
_OVER_COLUMNS = np.kron(np.eye(_COLUMNS // _BLOCK), np.full((_BLOCK, 1), 1 / _BLOCK)).astype(
    np.float32
)
_PERIOD_S = 0.1

_MIN_LOOKS = 10  # at one frame a second, ten seconds
_FLAT_RANGE = 3

# Black in the digital video standards, ITU-R BT.601; a share of stuck pixels is allowed.
_BLACK_MAX, _SEEN_MIN = 16, 24
_BLACK_SHARE = 0.01
_BLACK_S = 2.0

_MEAN_S = 2.0
_REFERENCE_S = 60.0  # the light of a day moves more slowly
_DARK_MEAN = 20.0
_FLAT_STD = 3.0
_STEADY, _ALIKE = 0.8, 0.5
_HOLD_OFF_S = 60.0
_DAMAGED_S = 60.0


def sample(frame: Frame) -> NDArray[np.uint8]:
    """An even grid of a frame's pixels, ``(48, 64) uint8``: brightness, or green in its place."""
    pixels = frame.pixels
    if frame.format == "i420":
        pixels = pixels[: max(1, pixels.shape[0] * 2 // 3)]  # no camera has one row, a driver might
    elif pixels.ndim == 3:
        pixels = pixels[:, :, min(1, pixels.shape[2] - 1)]
    height, width = pixels.shape
    grid: NDArray[np.uint8] = pixels[_places(height, width)]
    return grid


@functools.lru_cache(maxsize=8)
def _places(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows = (2 * np.arange(_ROWS) + 1) * height // (2 * _ROWS)
    columns = (2 * np.arange(_COLUMNS) + 1) * width // (2 * _COLUMNS)
    return rows[:, None], columns


class PictureHealth:
    """Looks at frames as they come.

    Args:
        frozen_s: seconds of the same picture that make it frozen; None: a still picture is fine.
        changed_s: seconds that a picture must stand still to count as one; None: it may change.
    """

    def __init__(self, frozen_s: float | None = 5.0, changed_s: float | None = 20.0) -> None:
        self._looked_s = -math.inf
        self._frozen = _Frozen(frozen_s)
        self._black = _Black()
        self._changed = _Changed(changed_s)

    @property
    def moving(self) -> bool:
        """The last two pictures that were looked at differ."""
        return self._frozen.moving

    def restart(self) -> None:
        """The camera was opened anew: what is going on has to last anew before it is told."""
        self._frozen.restart()
        self._black.restart()
        self._changed.restart()

    def see(self, frame: Frame, now_s: float) -> Sequence[Health]:
        """What is new about the pictures; mostly nothing.

        Args:
            frame: the newest; it is not kept.
            now_s: any clock that does not jump, in seconds.
        """
        passed_s = now_s - self._looked_s
        if passed_s < _PERIOD_S:
            return ()
        self._looked_s = now_s
        grid = sample(frame)
        found = self._black.look(grid, now_s)
        if not self._black.dark:
            found += self._frozen.look(grid, now_s)
            found += self._changed.look(grid, now_s, passed_s)
        return found


class DamagedFrames:
    """Frames that arrived damaged and were dropped: reported at once, then counted, once a minute.

    Attributes:
        count: all of them.
    """

    def __init__(self) -> None:
        self.count = self._reported = 0
        self._reported_s = -math.inf

    def see(self, reason: str, now_s: float) -> Health | None:
        """Counts one; what is to be reported about it and those before, mostly nothing.

        Args:
            reason: what is wrong with the frame.
            now_s: any clock that does not jump, in seconds.
        """
        self.count += 1
        if now_s - self._reported_s < _DAMAGED_S:
            return None
        new, self._reported = self.count - self._reported, self.count
        self._reported_s = now_s
        reason = reason.split(";")[0]  # what follows is advice about a file
        frames = "1 frame" if new == 1 else f"{new} frames"
        return Health(
            "damaged", f"{frames} dropped, {self.count} in all: {reason}; the stream goes on"
        )


class _Frozen:
    def __init__(self, after_s: float | None) -> None:
        self._after_s = after_s
        self._told = False
        self.restart()

    def restart(self) -> None:
        self._last: NDArray[np.uint8] | None = None
        self._since_s = 0.0
        self._looks = 0
        self._told = self.moving = False

    def look(self, grid: NDArray[np.uint8], now_s: float) -> list[Health]:
        if self._after_s is None:
            return []
        last, self._last = self._last, grid
        same = last is not None and np.array_equal(grid, last)
        self.moving = last is not None and not same
        if not same or int(np.ptp(grid)) < _FLAT_RANGE:  # the range only where it matters
            lasted_s, was = now_s - self._since_s, self._told
            self._since_s, self._looks, self._told = now_s, 0, False
            return [_over("frozen", lasted_s)] if was else []
        self._looks += 1
        if self._told or self._looks < _MIN_LOOKS or now_s - self._since_s < self._after_s:
            return []
        self._told = True
        return [
            Health(
                "frozen",
                f"the very same picture for {now_s - self._since_s:.1f} s; a camera's noise never "
                "repeats, so it hangs, or shows a recording",
            )
        ]


class _Black:
    def __init__(self) -> None:
        self._since_s: float | None = None
        self._told = False
        self.dark = False

    def restart(self) -> None:
        if not self._told:
            self._since_s = None

    def look(self, grid: NDArray[np.uint8], now_s: float) -> list[Health]:
        limit = _SEEN_MIN if self._told else _BLACK_MAX
        self.dark = int(np.count_nonzero(grid > limit)) <= _BLACK_SHARE * grid.size
        if not self.dark:
            since_s, was = self._since_s, self._told
            self._since_s, self._told = None, False
            return [_over("black", now_s - (since_s or now_s))] if was else []
        if self._since_s is None:
            self._since_s = now_s
        if self._told or now_s - self._since_s < _BLACK_S:
            return []
        self._told = True
        return [
            Health(
                "black",
                f"nothing in the picture is brighter than {_BLACK_MAX} of 255: night, a cover on the "
                "lens, or a sensor that sees nothing",
            )
        ]


class _Changed:
    def __init__(self, after_s: float | None) -> None:
        self._after_s = after_s
        self._mean: NDArray[np.float32] | None = None
        self._anchor: NDArray[np.float32] | None = None
        self._reference: NDArray[np.float32] | None = None
        self._since_s = 0.0
        self._quiet_until_s = -math.inf

    def restart(self) -> None:
        self._mean = None

    def look(self, grid: NDArray[np.uint8], now_s: float, passed_s: float) -> list[Health]:
        if self._after_s is None:
            return []
        coarse = _coarse(grid)
        if float(np.add.reduce(coarse, axis=None)) < _DARK_MEAN * coarse.size:
            self._mean = None
            return []
        if self._mean is None or self._anchor is None:
            self._mean = self._anchor = coarse
            self._since_s = now_s
            return []
        self._mean = self._mean + (coarse - self._mean) * -math.expm1(-passed_s / _MEAN_S)
        if _likeness(self._mean, self._anchor) < _STEADY:
            self._anchor, self._since_s = self._mean, now_s
        if now_s - self._since_s < self._after_s:
            return []
        return self._compare(now_s, passed_s)

    def _compare(self, now_s: float, passed_s: float) -> list[Health]:
        assert self._mean is not None
        if self._reference is None:
            self._reference = self._mean
            return []
        likeness = _likeness(self._mean, self._reference)
        if likeness >= _ALIKE:
            share = -math.expm1(-passed_s / _REFERENCE_S)
            self._reference = self._reference + (self._mean - self._reference) * share
            return []
        if now_s < self._quiet_until_s:
            return []
        self._reference = self._mean
        self._quiet_until_s = now_s + _HOLD_OFF_S
        return [
            Health(
                "changed",
                f"another picture than before for {now_s - self._since_s:.0f} s (correlation "
                f"{likeness:.2f}): was the camera moved, turned or covered?",
            )
        ]


def _coarse(grid: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(12, 16)`` means of blocks, 0..255."""
    means: NDArray[np.float32] = _OVER_ROWS @ grid.astype(np.float32) @ _OVER_COLUMNS
    return means


def _likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Pearson's correlation, -1..1; a picture without structure is like another such, and no other."""
    a, b = one.ravel(), other.ravel()
    a, b = a - np.add.reduce(a) / a.size, b - np.add.reduce(b) / b.size
    a_power, b_power = float(a @ a), float(b @ b)
    flat = _FLAT_STD**2 * a.size
    if a_power < flat or b_power < flat:
        return 1.0 if a_power < flat and b_power < flat else 0.0
    return float(a @ b) / math.sqrt(a_power * b_power)


def _over(what: str, lasted_s: float) -> Health:
    return Health("recovered", f"no longer {what}, after {max(0.0, lasted_s):.1f} s")
