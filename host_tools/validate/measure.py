"""One artifact's answers against the reference's: figures, intervals, verdicts. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ValidationError
from edge_sdk.vision.preprocess import Preprocessing
from edge_sdk.vision.tensors import temper
from host_tools.data.load import fingerprint
from host_tools.data.pictures import Decoded, Picture, Unreadable
from host_tools.evaluate.figures import calibration, top5
from host_tools.predict import ArtifactPredictor, Predictor
from host_tools.validate.results import (
    ArtifactResult,
    Budget,
    ClassResult,
    ScoreDifference,
    Validation,
)
from host_tools.validate.statistics import drop_interval, images_needed, judge, mcnemar_p, worst


class ComparedModel(Protocol):
    """What must match before two models are compared."""

    @property
    def path(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def preprocessing(self) -> Preprocessing | None:
        """None: not known, as of scores that were saved without it."""
        ...


def check_labels(first: ComparedModel, others: Sequence[ComparedModel]) -> None:
    """Checks that the scores of all models are of the same classes.

    Raises:
        ValidationError: other labels, or another order of them.
    """
    for other in others:
        if other.labels != first.labels:
            raise ValidationError(
                f"{other.path} and {first.path} have different labels or another order of them"
                f"{_where(first.labels, other.labels)}; only models of the same classes can be "
                "compared (--labels FILE sets those of a third-party model)"
            )


def label_indices(model: ComparedModel, classes: Sequence[str]) -> list[int]:
    """The index of its label for each class of a data set.

    Raises:
        ValidationError: a class that is not exactly one label.
    """
    unknown = [name for name in classes if model.labels.count(name) != 1]
    if unknown:
        raise ValidationError(
            f"the data has the class {', '.join(unknown[:5])}, which is not exactly one label of "
            f"{model.path} ({', '.join(model.labels[:5])}, ...); the folders must be named "
            "like the labels (--labels FILE sets those of a third-party model)"
        )
    return [model.labels.index(name) for name in classes]


def check_preprocessing(first: ComparedModel, others: Sequence[ComparedModel]) -> None:
    """Checks that all models get the same pixels.

    A difference of size, crop or colours costs more points than a conversion does.
    Unknown preprocessing is not compared.

    Raises:
        ValidationError: two models have different preprocessing.
    """
    for other in others:
        if None not in (first.preprocessing, other.preprocessing) and (
            first.preprocessing != other.preprocessing
        ):
            raise ValidationError(
                f"{other.path} is given {words(other.preprocessing)}, {first.path} "
                f"{words(first.preprocessing)}: the drop would measure the preprocessing, not the "
                "conversion; compare models of the same preprocessing (--crop sets that of a "
                "third-party model), or add --any-preprocessing to compare them anyway"
            )


def words(how: Preprocessing | None) -> str:
    """A preprocessing in words."""
    if how is None:
        return "unknown pictures"
    colours = "RGB" if how.channels == 3 else "gray"
    return f"pictures of {how.width} x {how.height} {colours} pixels, {how.crop}"


def _where(first: tuple[str, ...], other: tuple[str, ...]) -> str:
    if len(first) != len(other):
        return f" ({len(other)} and {len(first)} of them)"
    i = next(i for i, (a, b) in enumerate(zip(first, other, strict=True)) if a != b)
    return f" (number {i} is {other[i]!r} and {first[i]!r})"


# Rows in one step where whole tables of scores would be copied.
_ROWS = 4096


def measure(
    predictor: ArtifactPredictor,
    reference: Predictor,
    truth: NDArray[np.int64],
    budget: Budget,
) -> ArtifactResult:
    """Compares the answers of both to the same pictures.

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
    # A class is a share of the pictures: more pictures of it need more of all.
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


def compare(
    reference: Predictor,
    artifacts: Sequence[ArtifactPredictor],
    pictures: Iterable[Decoded | Unreadable],
    classes: tuple[str, ...],
    budget: Budget,
    *,
    any_preprocessing: bool = False,
) -> Validation:
    """Runs every model on every picture.

    Args:
        reference: what the artifacts are measured against.
        artifacts: at least one.
        pictures: decoded, with ``picture.label`` an index into ``classes``.
        classes: of the data set; each must be a label of the models.
        budget: for the verdicts.
        any_preprocessing: allow models of different preprocessing.

    Raises:
        ValidationError: different labels or preprocessing, a class that no label names, or no
            pictures.
    """
    check_labels(reference, artifacts)
    if not any_preprocessing:
        check_preprocessing(reference, artifacts)
    truth_of = label_indices(reference, classes)
    kept: list[Picture] = []
    digests: list[str] = []
    unreadable: list[Unreadable] = []
    for item in pictures:
        if isinstance(item, Unreadable):
            unreadable.append(item)
            continue
        for predictor in (reference, *artifacts):
            predictor.see(item)
        kept.append(item.picture)
        digests.append(item.digest)
    if not kept:
        raise ValidationError("no picture to validate on; choose another --split or --data")
    truth = np.array([truth_of[picture.label] for picture in kept], np.int64)
    scores = reference.scores()
    return Validation(
        reference_path=reference.path,
        accuracy=float((scores.argmax(axis=1) == truth).mean()),
        n=len(kept),
        preprocessing=reference.preprocessing,
        artifacts=tuple(measure(predictor, reference, truth, budget) for predictor in artifacts),
        labels=reference.labels,
        truth=truth,
        reference_scores=scores,
        pictures=tuple(kept),
        fingerprint=fingerprint(classes, [picture.label for picture in kept], digests),
        unreadable=tuple(unreadable),
    )
