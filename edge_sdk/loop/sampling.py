"""The motion gate: where nothing has moved, the answer before still stands and nothing is computed.

Some thousand points of the picture are compared with the same points of the last picture that was
let through, so that a slow change adds up until it counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.types import Frame

# Points along the longer side. 64 x 36 of them take some tens of microseconds, and a thing of 1/30
# of the picture's width still covers several.
_POINTS = 64


@dataclass(frozen=True, slots=True)
class Motion:
    """When a picture counts as moved.

    Attributes:
        share: of the points that must have changed, above 0, below 1.
        levels: by how much a point must change to have changed, 1..255. A small sensor's noise at
            night has a standard deviation of 3 to 6 levels.
        refresh_s: seconds after which a picture is let through although nothing moved.
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
    """Decides frame by frame whether one is worth classifying."""

    def __init__(self, how: Motion) -> None:
        self._how = how
        self._last: NDArray[np.uint8] | None = None
        self._passed_s = 0.0

    def passes(self, frame: Frame, now_s: float) -> bool:
        """Whether something moved since the last frame that passed, or that is too long ago.

        Args:
            frame: in any format; one whose pixels are no picture passes, for others to refuse.
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
        # Without a wider type: the larger minus the smaller stays within 0..255.
        change = np.maximum(now, before) - np.minimum(now, before)
        moved = np.count_nonzero(change > self._how.levels)
        return bool(moved > self._how.share * change.size)


def _points(frame: Frame) -> NDArray[np.uint8] | None:
    pixels = frame.pixels
    if not isinstance(pixels, np.ndarray) or pixels.ndim not in (2, 3) or pixels.size == 0:
        return None
    if frame.format == "i420":  # brightness; the colours below move with it
        pixels = pixels[: pixels.shape[0] * 2 // 3]
    step = max(1, max(pixels.shape[:2]) // _POINTS)
    points = pixels[step // 2 :: step, step // 2 :: step]
    if points.ndim == 3:
        points = points[:, :, 1] if points.shape[2] >= 3 else points[:, :, 0]  # green is brightness
    return points.copy()
