"""Rows of scores as they come in: what a validation keeps of every picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FIRST = 64


class Rows:
    """One ``(N, columns)`` float32 array that grows in place: as much memory as it needs, hardly more.

    100,000 pictures of 1,000 classes are 400 MB, of ten classes 4 MB.
    """

    def __init__(self, columns: int) -> None:
        self._kept = np.empty((_FIRST, columns), np.float32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: NDArray[np.float32]) -> None:
        """Takes ``(n, columns)`` more."""
        needed = self._count + len(rows)
        if needed > len(self._kept):
            # A quarter more than needed. What ``all`` gave before is a part of the old array.
            bigger = np.empty((needed + needed // 4, self._kept.shape[1]), np.float32)
            bigger[: self._count] = self._kept[: self._count]
            self._kept = bigger
        self._kept[self._count : needed] = rows
        self._count = needed

    def all(self) -> NDArray[np.float32]:
        """``(N, columns)``, all that came in so far."""
        return self._kept[: self._count]
