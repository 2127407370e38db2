"""From scores to an answer: pure functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def top_k(scores: NDArray[np.float32], k: int) -> tuple[int, ...]:
    """Indices of the k highest of ``scores`` ``(C,)``, best first; ties keep label order.

    Raises:
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"top_k needs k of at least 1, got {k}")
    order = np.argsort(-scores, kind="stable")[:k]
    return tuple(int(i) for i in order)
