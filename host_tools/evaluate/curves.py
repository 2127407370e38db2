"""How well scores rank pictures, whatever the threshold: ROC and precision-recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.extras import require

# Enough for a smooth curve, few enough for a page.
MOST_POINTS = 200


@dataclass(frozen=True, slots=True)
class RocCurve:
    """True positive rate over false positive rate, both rising from 0 to 1."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PrecisionRecallCurve:
    """Precision over recall, recall rising from 0 to 1."""

    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well the scores rank.

    Attributes:
        positive: with two classes, the index of the one that is looked for: the second, or the first
            where the split has less than half as many of it; None with more classes.
        roc_auc: area under the ROC curve, 0..1; with more than two classes the mean over those in
            the split of each against all others. None where the split has fewer than two.
        average_precision: of the positive class, 0..1; None with more classes, or where one of the
            two is missing.
        roc, pr: the curves, at most ``MOST_POINTS`` points; None where ``average_precision`` is.
    """

    positive: int | None
    roc_auc: float | None
    average_precision: float | None
    roc: RocCurve | None
    pr: PrecisionRecallCurve | None


def ranking(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> Ranking:
    """Areas and curves, as scikit-learn has them.

    Args:
        scores: ``(N, classes)`` probabilities.
        truth: ``(N,)`` label indices.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    metrics = require("sklearn.metrics")
    counts = np.bincount(truth, minlength=scores.shape[1])
    present = np.flatnonzero(counts)
    if scores.shape[1] != 2:
        areas = [metrics.roc_auc_score(truth == i, scores[:, i]) for i in _against_others(present)]
        return Ranking(None, float(np.mean(areas)) if areas else None, None, None, None)
    positive = 0 if 2 * counts[0] < counts[1] else 1
    if len(present) < 2:
        return Ranking(positive if len(truth) else None, None, None, None, None)
    wanted, score = truth == positive, scores[:, positive]
    fpr, tpr, _ = metrics.roc_curve(wanted, score)
    precision, recall, _ = metrics.precision_recall_curve(wanted, score)
    return Ranking(
        positive,
        float(metrics.roc_auc_score(wanted, score)),
        float(metrics.average_precision_score(wanted, score)),
        RocCurve(*_thinned(fpr, tpr)),
        PrecisionRecallCurve(*_thinned(recall[::-1], precision[::-1])),
    )


def _against_others(present: NDArray[np.int64]) -> NDArray[np.int64]:
    """Classes that can be told from others, which takes others."""
    return present if len(present) > 1 else present[:0]


def _thinned(*axes: NDArray[Any]) -> tuple[tuple[float, ...], ...]:
    """The same places of every axis, evenly spread; the ends stay."""
    kept = np.unique(np.linspace(0, len(axes[0]) - 1, MOST_POINTS).round().astype(int))
    return tuple(tuple(axis[kept].tolist()) for axis in axes)
