"""One artifact's answers against the reference's: figures, intervals, verdicts. Pure arithmetic."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.vision.tensors import temper
from host_tools.evaluate.calibration import calibration
from host_tools.evaluate.figures import top5
from host_tools.predict import ArtifactPredictor, Predictor
from host_tools.validate.gates import judge, worst
from host_tools.validate.results import ArtifactResult, Budget, ClassResult, ScoreDifference
from host_tools.validate.statistics import drop_interval, images_needed, mcnemar_p

# Rows in one step where whole tables of scores would be copied.
_ROWS = 4096


def measure(
    predictor: ArtifactPredictor,
    reference: Predictor,
    truth: NDArray[np.int64],
    budget: Budget,
) -> ArtifactResult:
    """Compares what both have answered to the same pictures.

    Args:
        predictor, reference: both have seen the same pictures.
        truth: ``(N,)`` label indices.
        budget: for the verdicts.
    """
    artifact, labels = predictor.artifact, reference.labels
    before, scores = reference.scores(), predictor.scores()
    expected, answer = before.argmax(axis=1), scores.argmax(axis=1)
    flipped = np.flatnonzero(expected != answer)
    right_before, right_after = expected == truth, answer == truth
    outcome = _outcome(right_before, right_after)
    per_class = tuple(
        _measure_class(labels[i], right_before[truth == i], right_after[truth == i], budget)
        for i in np.unique(truth)
    )
    gates = [(outcome, budget.max_drop)]
    gates += [
        (_outcome(right_before[truth == i], right_after[truth == i]), budget.max_class_drop)
        for i in np.unique(truth)
    ]
    judged = [(o, limit, judge(o.interval, limit)) for o, limit in gates if limit is not None]
    # A class is a share of the pictures: to see more of it, more of all are needed.
    needed = [
        math.ceil(count * outcome.n / o.n)
        for o, limit, verdict in judged
        if verdict == "inconclusive"
        and (count := images_needed(o.lost, o.won, o.n, limit / 100)) is not None
    ]
    return ArtifactResult(
        path=predictor.path,
        format=artifact.format,
        size_bytes=len(artifact.data),
        model_bytes=artifact.model_bytes,
        accuracy=float(right_after.mean()),
        top5=top5(scores, truth),
        ece=calibration(scores, truth).ece,
        drop_points=outcome.drop,
        drop_ci95=outcome.interval,
        mcnemar_p=mcnemar_p(outcome.lost, outcome.won),
        agreement=float((expected == answer).mean()),
        flips=len(flipped),
        score_difference=score_difference(
            before, scores, (reference.temperature, predictor.temperature)
        ),
        preprocessing=artifact.preprocessing,
        per_class=per_class,
        verdict=worst(verdict for _, _, verdict in judged),
        images_needed=max(needed, default=None),
        flipped=flipped,
        flipped_scores=scores[flipped],
    )


def score_difference(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    temperatures: tuple[float, float] = (1.0, 1.0),
) -> ScoreDifference:
    """How far two models' ``(N, C)`` probabilities lie apart.

    Args:
        first, second: of the same N pictures, at least one.
        temperatures: that the scores of each have been tempered with, which is undone.
    """
    total, largest = 0.0, 0.0
    for start in range(0, len(first), _ROWS):
        one, other = (
            temper(scores[start : start + _ROWS], 1 / temperature)
            for scores, temperature in zip((first, second), temperatures, strict=True)
        )
        apart = np.abs(one - other)
        total += float(apart.sum(dtype=np.float64))
        largest = max(largest, float(apart.max()))
    return ScoreDifference(total / first.size, largest)


def _measure_class(
    label: str, before: NDArray[np.bool_], after: NDArray[np.bool_], budget: Budget
) -> ClassResult:
    outcome = _outcome(before, after)
    limit = budget.max_class_drop
    return ClassResult(
        label,
        len(before),
        float(before.mean()),
        float(after.mean()),
        None if limit is None else judge(outcome.interval, limit),
    )


class _Outcome(NamedTuple):
    """Drop and its 95 % interval in points, discordant pictures, and all of them."""

    drop: float
    interval: tuple[float, float]
    lost: int
    won: int
    n: int


def _outcome(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> _Outcome:
    lost, won, n = int((before & ~after).sum()), int((~before & after).sum()), len(before)
    low, high = drop_interval(lost, won, n)
    return _Outcome(100 * (lost - won) / n, (100 * low, 100 * high), lost, won, n)
