"""What the pixels of some pictures are like on the whole: enough to tell a foreign set from one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.data.load import Subset

# A mean over so many pictures is within a twentieth of the standard deviation over single ones;
# more would only take time.
_SAMPLE = 500
_BATCH = 64
_NUMBERS = ("std", "picture_mean_std", "red_less_blue_std", "lowest", "highest")

_Batch = NDArray[np.uint8] | NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class PixelStatistics:
    """Of model input pixels, 0..255 where they are what they should be.

    Attributes:
        mean: of each channel: R, G, B, or the one of a gray model.
        std: standard deviation of all pixels and channels together; the order of the channels does
            not change it.
        picture_mean_std: standard deviation, over the pictures, of a picture's mean.
        red_less_blue_std: standard deviation, over the pictures, of a picture's mean red less its
            mean blue; 0 for gray models.
        lowest, highest: of all pixels.
    """

    mean: tuple[float, ...]
    std: float
    picture_mean_std: float
    red_less_blue_std: float
    lowest: float
    highest: float

    @property
    def overall_mean(self) -> float:
        """Of all pixels and channels together."""
        return sum(self.mean) / len(self.mean)

    @property
    def red_less_blue(self) -> float:
        """Mean red less mean blue."""
        return self.mean[0] - self.mean[-1]

    def to_json(self) -> dict[str, Any]:
        """As an artifact's provenance records it; see ``statistics_from``."""
        return {
            "mean": [round(value, 3) for value in self.mean],
            "std": round(self.std, 3),
            "picture_mean_std": round(self.picture_mean_std, 3),
            "red_less_blue_std": round(self.red_less_blue_std, 3),
            "lowest": self.lowest,
            "highest": self.highest,
        }


def statistics_from(recorded: Mapping[str, Any]) -> PixelStatistics:
    """What ``to_json`` recorded.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    return PixelStatistics(
        tuple(float(value) for value in recorded["mean"]),
        *(float(recorded[key]) for key in _NUMBERS),
    )


def statistics_of(pixels: _Batch) -> PixelStatistics:
    """Of ``(N, H, W, C)`` pixels of any number type, N of at least 1."""
    return _statistics(lambda rows: pixels[rows], np.arange(len(pixels)))


def statistics_of_split(subset: Subset, seed: int = 0) -> PixelStatistics | None:
    """Of up to 500 pictures of a split, drawn with ``seed``; None where it is empty."""
    if not len(subset):
        return None
    rows = np.arange(len(subset))
    if len(rows) > _SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _SAMPLE, replace=False))
    return _statistics(subset.pixels, rows)


def _statistics(
    pixels: Callable[[NDArray[np.int64]], _Batch], rows: NDArray[np.int64]
) -> PixelStatistics:
    means, squares, lowest, highest = [], [], np.inf, -np.inf
    for start in range(0, len(rows), _BATCH):
        batch = pixels(rows[start : start + _BATCH])
        lowest, highest = min(lowest, float(batch.min())), max(highest, float(batch.max()))
        exact = batch.astype(np.float64)
        means.append(exact.mean(axis=(1, 2)))
        squares.append(np.square(exact).mean(axis=(1, 2)))
    by_picture = np.concatenate(means)
    mean = by_picture.mean(axis=0)
    variance = np.concatenate(squares).mean() - mean.mean() ** 2
    return PixelStatistics(
        tuple(mean.tolist()),
        float(np.sqrt(max(variance, 0.0))),
        float(by_picture.mean(axis=1).std()),
        float((by_picture[:, 0] - by_picture[:, -1]).std()),
        lowest,
        highest,
    )
