"""How a median would have come out on another day like this one: blocks of runs, drawn anew.

Runs of one session share what the machine did at the time, so runs are no independent values.
Blocks are resampled instead, and whole stretches of blocks (the moving-block bootstrap, Künsch 1989,
Annals of Statistics 17), which keeps slow drift in the result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Values among which medians are looked for; beyond so many runs they lie closer than noise.
_GRID = 1024


def resampled_medians(
    values: NDArray[np.float64],
    block: NDArray[np.int64],
    draws: int,
    chance: np.random.Generator,
) -> NDArray[np.float64]:
    """Medians of all values, with stretches of blocks drawn anew each time.

    A stretch is ``n ** (1/2)`` blocks long, more than the ``n ** (1/3)`` that suffices for short
    memories (Hall, Horowitz and Jing 1995, Biometrika 82), since a machine drifts over seconds; the
    last block is followed by the first.

    Args:
        values, block: ``(n,)`` each, in the order of time.
        draws: how many medians.
        chance: where chance comes from.

    Returns:
        ``(draws,)``.
    """
    parts = [np.sort(values[block == number]) for number in np.unique(block)]
    n = len(parts)
    length = max(1, round(n**0.5))
    starts = chance.integers(0, n, (draws, -(-n // length), 1))
    drawn = ((starts + np.arange(length)) % n).reshape(draws, -1)[:, :n]
    cells = np.arange(draws)[:, None] * n + drawn
    times = np.bincount(cells.ravel(), minlength=draws * n).reshape(draws, n).astype(float)
    # How many of each block are no larger than each of many values; of a draw that sum grows with the
    # value, so its median is found by halving.
    ordered = np.sort(values)
    grid = ordered[np.unique(np.linspace(0, len(ordered) - 1, _GRID).round().astype(int))]
    below = np.stack([np.searchsorted(part, grid, side="right") for part in parts], axis=1)
    half = times @ np.array([len(part) for part in parts]) / 2
    low, high = np.zeros(draws, np.int64), np.full(draws, len(grid) - 1)
    while (low < high).any():
        middle = (low + high) // 2
        enough = (times * below[middle]).sum(axis=1) >= half
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    medians: NDArray[np.float64] = grid[low]
    return medians
