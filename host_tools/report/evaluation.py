"""Figures of one model on one split, ready for ``report.json``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def evaluate(
    truth: NDArray[np.int64], answers: NDArray[np.int64], labels: tuple[str, ...], split: str
) -> dict[str, Any]:
    """Accuracy and confusion matrix.

    Args:
        truth, answers: ``(N,)`` label indices.
        labels: C names.
        split: which pictures these are.

    Returns:
        ``accuracy`` 0..1 (None without pictures), ``confusion`` as C rows (truth) of C counts.
    """
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (truth, answers), 1)
    return {
        "split": split,
        "n": len(truth),
        "accuracy": float((truth == answers).mean()) if len(truth) else None,
        "labels": list(labels),
        "confusion": confusion.tolist(),
    }
