"""An array whose rows lie in several files, for data sets that one disk cannot hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class SplitRows:
    """Rows of several arrays, one array after the other; read by row number as one array would be.

    Args:
        parts: ``(n, H, W, C)`` uint8 each, alike but for ``n``.
    """

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        self._parts = tuple(parts)
        # Where each part ends.
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: int | slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """One row, where it lies; or a copy of several, in the order asked for.

        Raises:
            IndexError: there is no such row.
        """
        if isinstance(chosen, int | np.integer):
            row = int(chosen) + (len(self) if chosen < 0 else 0)
            if not 0 <= row < len(self):
                raise IndexError(f"row {chosen} of {len(self)}")
            part = int(np.searchsorted(self._ends, row, side="right"))
            pixels: NDArray[np.uint8] = self._parts[part][row - self._start(part)]
            return pixels
        rows: NDArray[np.int64] = np.arange(len(self))[chosen]
        found: NDArray[np.uint8] = np.empty((len(rows), *self.shape[1:]), np.uint8)
        where = np.searchsorted(self._ends, rows, side="right")
        for part in np.unique(where).tolist():
            here = where == part
            found[here] = self._parts[part][rows[here] - self._start(part)]
        return found

    def __array__(self, dtype: None = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return self[:]

    def _start(self, part: int) -> int:
        return int(self._ends[part]) - len(self._parts[part])
