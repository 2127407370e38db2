"""``compare``: one pass over the pictures, every model asked about each, figures at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ValidationError
from host_tools.data.decode import Decoded, Unreadable
from host_tools.data.load import fingerprint
from host_tools.data.pictures import Picture
from host_tools.evaluate.calibration import calibration
from host_tools.evaluate.figures import top5
from host_tools.validate.gates import Verdict, judge, worst
from host_tools.validate.predictors import ArtifactPredictor, Predictor
from host_tools.validate.statistics import drop_interval, images_needed, mcnemar_p


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be lost, in points; None: no budget."""

    max_drop: float | None = None
    max_class_drop: float | None = None


@dataclass(frozen=True, slots=True)
class ClassResult:
    """Accuracy (0..1) on the ``n`` pictures of one class; a verdict where there is a budget."""

    label: str
    n: int
    reference: float
    artifact: float
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class ArtifactResult:
    """One artifact against the reference; accuracies 0..1, drops in points.

    ``top5`` is that of ``evaluate.figures``, ``ece`` of ``evaluate.calibration``.
    """

    path: str
    format: str
    size_bytes: int
    model_bytes: int
    accuracy: float
    top5: float | None
    ece: float | None
    drop_points: float
    drop_ci95: tuple[float, float]
    mcnemar_p: float
    agreement: float
    flips: int
    per_class: tuple[ClassResult, ...]
    verdict: Verdict | None
    images_needed: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Everything that was measured.

    Attributes:
        reference_path, accuracy, n: the reference, its accuracy, the number of pictures.
        artifacts: the results, in the order given.
        labels: the reference's labels.
        truth: ``(n,)`` int64 true label indices.
        reference_scores: ``(n, C)`` float32.
        pictures: which pictures, in the order of the rows.
        fingerprint: of exactly these pictures, see ``host_tools.data.load.fingerprint``.
        unreadable: pictures that were left out.
    """

    reference_path: str
    accuracy: float
    n: int
    artifacts: tuple[ArtifactResult, ...]
    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    reference_scores: NDArray[np.float32]
    pictures: tuple[Picture, ...]
    fingerprint: str
    unreadable: tuple[Unreadable, ...]

    @property
    def verdict(self) -> Verdict | None:
        """The worst verdict of all artifacts."""
        return worst(a.verdict for a in self.artifacts if a.verdict is not None)

    def to_json(self) -> dict[str, Any]:
        """The JSON object of ``edgecls validate --json``."""
        return {
            "schema": 1,
            "type": "validation",
            "reference": {
                "path": self.reference_path,
                "accuracy": self.accuracy,
                "top5": top5(self.reference_scores, self.truth),
                "ece": calibration(self.reference_scores, self.truth).ece,
                "n": self.n,
            },
            "artifacts": [
                {
                    "path": a.path,
                    "format": a.format,
                    "size_bytes": a.size_bytes,
                    "model_bytes": a.model_bytes,
                    "accuracy": a.accuracy,
                    "top5": a.top5,
                    "ece": a.ece,
                    "drop_points": a.drop_points,
                    "drop_ci95": list(a.drop_ci95),
                    "mcnemar_p": a.mcnemar_p,
                    "agreement": a.agreement,
                    "flips": a.flips,
                    "per_class": [
                        {
                            "label": c.label,
                            "n": c.n,
                            "reference": c.reference,
                            "artifact": c.artifact,
                            "verdict": c.verdict,
                        }
                        for c in a.per_class
                    ],
                    "verdict": a.verdict,
                    "images_needed": a.images_needed,
                }
                for a in self.artifacts
            ],
            "unreadable": [str(u.picture.path) for u in self.unreadable],
        }


def compare(
    reference: Predictor,
    artifacts: Sequence[ArtifactPredictor],
    pictures: Iterable[Decoded | Unreadable],
    classes: tuple[str, ...],
    budget: Budget,
) -> Comparison:
    """Asks every model about every picture.

    Args:
        reference: what the artifacts are measured against.
        artifacts: at least one.
        pictures: decoded, with ``picture.label`` an index into ``classes``.
        classes: of the data set; each must be a label of the models.
        budget: for the verdicts.

    Raises:
        ValidationError: different labels, a class that no label names, or no pictures.
    """
    truth_of = _label_indices(reference, artifacts, classes)
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
    scores = [predictor.scores() for predictor in (reference, *artifacts)]
    truth = np.array([truth_of[picture.label] for picture in kept], np.int64)
    answers = [part.argmax(axis=1) for part in scores]
    return Comparison(
        reference_path=reference.path,
        accuracy=float((answers[0] == truth).mean()),
        n=len(kept),
        artifacts=tuple(
            _measure(predictor, answers[0], part, truth, reference.labels, budget)
            for predictor, part in zip(artifacts, scores[1:], strict=True)
        ),
        labels=reference.labels,
        truth=truth,
        reference_scores=scores[0],
        pictures=tuple(kept),
        fingerprint=fingerprint(classes, [picture.label for picture in kept], digests),
        unreadable=tuple(unreadable),
    )


def _label_indices(
    reference: Predictor, artifacts: Sequence[ArtifactPredictor], classes: tuple[str, ...]
) -> list[int]:
    for other in artifacts:
        if other.labels != reference.labels:
            raise ValidationError(
                f"{other.path} and {reference.path} have different labels or another order of them; "
                "only models of the same classes can be compared"
            )
    unknown = [name for name in classes if reference.labels.count(name) != 1]
    if unknown:
        raise ValidationError(
            f"the data has the class {', '.join(unknown[:5])}, which is not exactly one label of "
            f"{reference.path} ({', '.join(reference.labels[:5])}, ...); the folders must be named "
            "like the labels (--labels FILE names a foreign model's)"
        )
    return [reference.labels.index(name) for name in classes]


def _measure(
    predictor: ArtifactPredictor,
    reference: NDArray[np.int64],
    scores: NDArray[np.float32],
    truth: NDArray[np.int64],
    labels: tuple[str, ...],
    budget: Budget,
) -> ArtifactResult:
    artifact, answer = predictor.artifact, scores.argmax(axis=1)
    right_before, right_after = reference == truth, answer == truth
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
        agreement=float((reference == answer).mean()),
        flips=int((reference != answer).sum()),
        per_class=per_class,
        verdict=worst(verdict for _, _, verdict in judged),
        images_needed=max(needed, default=None),
    )


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
