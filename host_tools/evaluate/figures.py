"""Every figure of one model on one split, from its scores and the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.evaluate.robustness import Robustness
from host_tools.extras import require

# Guo et al. 2017, "On calibration of modern neural networks", and most work since.
BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers with ``low`` < score <= ``high``.

    Attributes:
        low, high: 0..1.
        n: how many.
        confidence: their mean score, None without any.
        accuracy: the share of them that is right, None without any.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Figures of calibration; all of them None, and no bins, without pictures.

    Attributes:
        ece: expected calibration error, 0..1: the mean distance of confidence and accuracy over the
            bins, each counting as many times as it has answers (Guo et al. 2017, equation 3).
        mce: maximum calibration error, 0..1: the largest such distance of any bin that has answers.
        brier: mean squared distance of the scores from the truth, summed over the classes, so 0..2
            (Brier 1950); with two classes it is twice the score that is often meant.
        bins: of equal width, the lowest first.
    """

    ece: float | None
    mce: float | None
    brier: float | None
    bins: tuple[Bin, ...]


def calibration(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> Calibration:
    """Measures the highest score of each picture against whether it was right.

    Args:
        scores: ``(N, classes)`` probabilities.
        truth: ``(N,)`` label indices.
    """
    if not len(truth):
        return Calibration(None, None, None, ())
    # Quantised scores may add up to a little more than 1.
    confidence = np.clip(scores.max(axis=1).astype(np.float64), 0, 1)
    right = scores.argmax(axis=1) == truth
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    sums = np.bincount(place, confidence, BINS)
    hits = np.bincount(place, right, BINS)
    used = counts > 0
    gaps = np.abs(hits - sums)[used] / counts[used]
    wanted = np.zeros(scores.shape)
    wanted[np.arange(len(truth)), truth] = 1
    return Calibration(
        ece=float((gaps * counts[used]).sum() / len(truth)),
        mce=float(gaps.max()),
        brier=float(((scores - wanted) ** 2).sum(axis=1).mean()),
        bins=tuple(
            Bin(
                float(edges[i]),
                float(edges[i + 1]),
                int(counts[i]),
                float(sums[i] / counts[i]) if used[i] else None,
                float(hits[i] / counts[i]) if used[i] else None,
            )
            for i in range(BINS)
        ),
    )


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
        positive: with two classes, the index of the positive one: the second, or the first
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
    """Classes that have both pictures and other classes' pictures in the split."""
    return present if len(present) > 1 else present[:0]


def _thinned(*axes: NDArray[Any]) -> tuple[tuple[float, ...], ...]:
    """The same places of every axis, evenly spread; the ends stay."""
    kept = np.unique(np.linspace(0, len(axes[0]) - 1, MOST_POINTS).round().astype(int))
    return tuple(tuple(axis[kept].tolist()) for axis in axes)


MOST_CONFUSED = 20

# The 97.5 % point of the standard normal distribution: two-sided 95 %.
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class, figures 0..1.

    Attributes:
        label, n: its name, and its pictures in the split.
        precision: share of the answers naming it that are right; None where it is never answered.
        recall: share of its pictures that are answered so; None without pictures.
        f1: their harmonic mean; None without pictures that were never answered either.
    """

    label: str
    n: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Averages:
    """Means over the classes that the split has; a class that is never answered has precision 0."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Confused:
    """``n`` pictures of one class were taken for another."""

    truth: str
    answer: str
    n: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The ``evaluation`` of ``report.json``; without pictures every figure is None or empty.

    Attributes:
        split, n: which pictures, and how many.
        accuracy: share of right answers, 0..1.
        accuracy_ci95: its 95 % interval, see ``wilson_interval``.
        top5: share whose truth is among the five highest scores; None with up to five classes.
        log_loss: mean negative natural logarithm of the truth's score.
        labels: names of the C classes.
        confusion: C rows (truth) of C counts (answers).
        per_class: in the order of the labels.
        macro: every class of the split counts alike.
        weighted: every class counts as many times as it has pictures.
        positive: with two classes the one that the curves look for, see ``Ranking``.
        roc_auc, average_precision, roc, pr: see ``Ranking``.
        calibration: see there.
        confused: pairs of classes, the most frequent mistake first, at most ``MOST_CONFUSED``.
        robustness: on corrupted pictures; None where that was not measured.
    """

    split: str
    n: int
    accuracy: float | None
    accuracy_ci95: tuple[float, float] | None
    top5: float | None
    log_loss: float | None
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    per_class: tuple[ClassFigures, ...]
    macro: Averages
    weighted: Averages
    positive: str | None
    roc_auc: float | None
    average_precision: float | None
    roc: RocCurve | None
    pr: PrecisionRecallCurve | None
    calibration: Calibration
    confused: tuple[Confused, ...]
    robustness: Robustness | None = None


def evaluate(
    scores: NDArray[np.float32], truth: NDArray[np.int64], labels: tuple[str, ...], split: str
) -> Evaluation:
    """All figures that scores can give.

    Args:
        scores: ``(N, C)`` probabilities; N may be 0.
        truth: ``(N,)`` label indices.
        labels: C names, at least two.
        split: which pictures these are.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        ValueError: the shapes do not fit, or a score is NaN.
    """
    if scores.shape != (len(truth), len(labels)) or len(labels) < 2:
        raise ValueError(f"{scores.shape} scores, {len(truth)} truths and {len(labels)} labels")
    if not np.isfinite(scores).all():
        raise ValueError("scores that are not numbers")
    answers = scores.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (truth, answers), 1)
    ranked = ranking(scores, truth)
    right = int(confusion.trace())
    return Evaluation(
        split=split,
        n=len(truth),
        accuracy=right / len(truth) if len(truth) else None,
        accuracy_ci95=wilson_interval(right, len(truth)) if len(truth) else None,
        top5=top5(scores, truth),
        log_loss=_log_loss(scores, truth),
        labels=labels,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        per_class=_per_class(truth, answers, labels),
        macro=_averages(truth, answers, "macro"),
        weighted=_averages(truth, answers, "weighted"),
        positive=None if ranked.positive is None else labels[ranked.positive],
        roc_auc=ranked.roc_auc,
        average_precision=ranked.average_precision,
        roc=ranked.roc,
        pr=ranked.pr,
        calibration=calibration(scores, truth),
        confused=_most_confused(confusion, labels),
    )


def top5(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> float | None:
    """The share of pictures whose truth is among the five highest scores.

    Of equal scores the lower index comes first, as it does for ``argmax``: the share is never below
    the accuracy.

    Returns:
        0..1; None without pictures, and with up to five classes.
    """
    if not len(truth) or scores.shape[1] <= 5:
        return None
    own = scores[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(scores.shape[1]) < truth[:, None]
    before = (scores > own) | ((scores == own) & earlier)
    return float((before.sum(axis=1) < 5).mean())


def wilson_interval(right: int, n: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927; recommended by Brown, Cai and DasGupta 2001).

    Args:
        right, n: ``right`` of ``n``, which is at least 1.
        z: normal quantile of the two-sided level; 95 % by default.

    Returns:
        Lower and upper end, 0..1.
    """
    share, spread = right / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    # The share itself is always within the interval; rounding must not exclude it.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _log_loss(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> float | None:
    if not len(truth):
        return None
    # A softmax in half precision is 1 to about a thousandth. A score of 0 counts as the smallest
    # step of its own precision, which scikit-learn takes from its type.
    shares = scores / scores.sum(axis=1, keepdims=True)
    metrics = require("sklearn.metrics")
    return float(metrics.log_loss(truth, shares, labels=range(scores.shape[1])))


def _per_class(
    truth: NDArray[np.int64], answers: NDArray[np.int64], labels: tuple[str, ...]
) -> tuple[ClassFigures, ...]:
    if not len(truth):
        return tuple(ClassFigures(label, 0, None, None, None) for label in labels)
    metrics = require("sklearn.metrics")
    precision, recall, f1, n = metrics.precision_recall_fscore_support(
        truth, answers, labels=range(len(labels)), zero_division=np.nan
    )
    return tuple(
        ClassFigures(label, int(n[i]), _known(precision[i]), _known(recall[i]), _known(f1[i]))
        for i, label in enumerate(labels)
    )


def _averages(truth: NDArray[np.int64], answers: NDArray[np.int64], average: str) -> Averages:
    if not len(truth):
        return Averages(None, None, None)
    metrics = require("sklearn.metrics")
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, answers, labels=np.unique(truth), average=average, zero_division=0
    )
    return Averages(float(precision), float(recall), float(f1))


def _known(figure: Any) -> float | None:
    return None if np.isnan(figure) else float(figure)


def _most_confused(confusion: NDArray[np.int64], labels: tuple[str, ...]) -> tuple[Confused, ...]:
    mistakes = confusion * (1 - np.eye(len(labels), dtype=np.int64))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = zip(*np.unravel_index(order, mistakes.shape), strict=True)
    return tuple(
        Confused(labels[i], labels[j], int(mistakes[i, j])) for i, j in pairs if mistakes[i, j]
    )
