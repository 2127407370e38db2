"""Heat maps as values: how far their colours reach, and how much two of them agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host_tools.extras import require

# Single pixels beyond it would make the rest of a map pale; shap.image_plot cuts at 99.9.
_FULL_COLOUR_PERCENTILE = 99.5


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """What one method found about one class of one model on one picture.

    Attributes:
        values: ``(H, W)`` float32, a value per pixel of the model's input; above 0 speaks for the
            class, below 0 against it.
        evaluations: how many pictures the model was shown for it.
        seconds: how long it took.
        base_score: SHAP only: the class's score, 0..1, for the picture with all of it hidden;
            with the sum of ``values`` it makes the score of the picture itself.
    """

    values: NDArray[np.float32]
    evaluations: int
    seconds: float
    base_score: float | None = None


def full_colour(maps: Sequence[NDArray[np.float32]]) -> float:
    """The value that gets the deepest colour where several maps share one scale; above 0."""
    levels = [float(np.percentile(np.abs(values), _FULL_COLOUR_PERCENTILE)) for values in maps]
    largest = max(float(np.abs(values).max()) for values in maps)
    return max(levels) or largest or 1.0


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> float | None:
    """Spearman's rank correlation of two maps of one shape, -1..1.

    1: both order the places alike, whatever the strengths. None: one of them is the same everywhere
    and orders nothing.
    """
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    stats = require("scipy.stats")
    return float(stats.spearmanr(first.ravel(), second.ravel()).statistic)


def cell_edges(side: int, cells: int) -> NDArray[np.int64]:
    """Where ``cells`` nearly equal cells of a side of ``side`` pixels begin and end, ``(cells+1,)``.

    Every k-th edge of ``k * n`` cells is an edge of ``n`` cells.
    """
    return np.arange(cells + 1, dtype=np.int64) * side // cells
