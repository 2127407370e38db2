"""Checks a camera's pictures: frozen, black, or of another scene.

Pure arithmetic on a few thousand pixels of a frame, ten times a second at most. Each finding is
reported once, and so is its end. None of them alone means a fault; night is normal.

* **frozen**: identical pixels for ``frozen_s`` seconds. A sensor's noise never repeats, so even in a
  static scene one frame in a thousand differs from the last. An all-black or all-white picture cannot
  differ and is not reported.
* **black**: hardly any pixel brighter than 16 of 255 for two seconds. A sensor that amplifies its noise
  at night is brighter.
* **changed**: after ``changed_s`` seconds of one still picture there are as many of another one: the
  camera was moved, turned or covered. It compares coarse pictures, averaged over two seconds and
  normalised in brightness and contrast, so that people walking by, sun and lamps have no effect. A
  picture that is never still is not checked, nor is a dark one.
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

# Black level of digital video, ITU-R BT.601; a fraction of stuck pixels is allowed.
_BLACK_MAX, _SEEN_MIN = 16, 24
_BLACK_SHARE = 0.01
_BLACK_S = 2.0

_MEAN_S = 2.0
_REFERENCE_S = 60.0  # daylight changes more slowly
_DARK_MEAN = 20.0
_FLAT_STD = 3.0
_STEADY, _ALIKE = 0.8, 0.5
_HOLD_OFF_S = 60.0
_DAMAGED_S = 60.0


def sample(frame: Frame) -> NDArray[np.uint8]:
    """An even grid of a frame's pixels, ``(48, 64) uint8``: brightness, or green instead."""
    pixels = frame.pixels
    if frame.format == "i420":
        pixels = pixels[: max(1, pixels.shape[0] * 2 // 3)]  # a faulty driver may deliver one row
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
    """Checks the frames of a camera.

    Args:
        frozen_s: seconds of identical pictures that count as frozen; None: no check.
        changed_s: seconds that a picture must be still to be compared; None: no check.
    """

    def __init__(self, frozen_s: float | None = 5.0, changed_s: float | None = 20.0) -> None:
        self._looked_s = -math.inf
        self._frozen = _Frozen(frozen_s)
        self._black = _Black()
        self._changed = _Changed(changed_s)

    @property
    def moving(self) -> bool:
        """Whether the last two sampled pictures differ."""
        return self._frozen.moving

    def restart(self) -> None:
        """Resets the durations after the camera was reopened: findings are reported only afterwards."""
        self._frozen.restart()
        self._black.restart()
        self._changed.restart()

    def see(self, frame: Frame, now_s: float) -> Sequence[Health]:
        """New findings about the pictures; usually none.

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
        """Counts a damaged frame; returns a report when one is due.

        Args:
            reason: what is wrong with the frame.
            now_s: any clock that does not jump, in seconds.
        """
        self.count += 1
        if now_s - self._reported_s < _DAMAGED_S:
            return None
        new, self._reported = self.count - self._reported, self.count
        self._reported_s = now_s
        reason = reason.split(";")[0]  # the rest is advice about a file
        frames = "1 frame" if new == 1 else f"{new} frames"
        return Health(
            "damaged", f"{frames} dropped, {self.count} in all: {reason}; the stream continues"
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
        if not same or int(np.ptp(grid)) < _FLAT_RANGE:  # the range only if needed
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
                f"identical pictures for {now_s - self._since_s:.1f} s; a sensor's noise never repeats, "
                "so the camera hangs or plays a recording",
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
                f"no pixel is brighter than {_BLACK_MAX} of 255: night, a covered lens or a sensor fault",
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
                f"{likeness:.2f}): check whether the camera was moved, turned or covered",
            )
        ]


def _coarse(grid: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(12, 16)`` means of blocks, 0..255."""
    means: NDArray[np.float32] = _OVER_ROWS @ grid.astype(np.float32) @ _OVER_COLUMNS
    return means


def _likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Pearson's correlation, -1..1; between uniform pictures 1, between a uniform and another one 0."""
    a, b = one.ravel(), other.ravel()
    a, b = a - np.add.reduce(a) / a.size, b - np.add.reduce(b) / b.size
    a_power, b_power = float(a @ a), float(b @ b)
    flat = _FLAT_STD**2 * a.size
    if a_power < flat or b_power < flat:
        return 1.0 if a_power < flat and b_power < flat else 0.0
    return float(a @ b) / math.sqrt(a_power * b_power)


def _over(what: str, lasted_s: float) -> Health:
    return Health("recovered", f"no longer {what}, after {max(0.0, lasted_s):.1f} s")
