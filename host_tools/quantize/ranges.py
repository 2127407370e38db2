"""How far the ranges of a network's activations still move when more pictures are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host_tools.quantize.activations import Observed


@dataclass(frozen=True, slots=True)
class RangeGrowth:
    """The range of one activation tensor.

    Attributes:
        tensor: the layer that computes it.
        half: lowest and highest value over the first half of the pictures, zero included as
            TensorFlow Lite's quantiser does.
        whole: over all of them.
    """

    tensor: str
    half: tuple[float, float]
    whole: tuple[float, float]

    @property
    def share(self) -> float:
        """The part of the whole range that the first half of the pictures did not show, 0..1."""
        width = self.whole[1] - self.whole[0]
        return 1 - (self.half[1] - self.half[0]) / width if width > 0 else 0.0


def range_growth(observed: Mapping[str, Observed]) -> tuple[RangeGrowth, ...]:
    """How much of each range the second half of the pictures added.

    The black and the white picture at the end count for both halves.

    Args:
        observed: of at least two pictures and these two, in the order of their draw.

    Returns:
        Per tensor, the least settled one first.
    """
    found = [
        RangeGrowth(
            name,
            _range(_first_half(one.lowest), _first_half(one.highest)),
            _range(one.lowest, one.highest),
        )
        for name, one in observed.items()
    ]
    return tuple(sorted(found, key=lambda growth: -growth.share))


def _first_half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    pictures = len(values) - 2
    return np.concatenate([values[: pictures // 2], values[-2:]])


def _range(lowest: NDArray[np.float32], highest: NDArray[np.float32]) -> tuple[float, float]:
    return min(0.0, float(lowest.min())), max(0.0, float(highest.max()))
