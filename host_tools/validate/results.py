"""The results of a validation, and their JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.plain import to_plain
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.data.pictures import Picture, Unreadable
from host_tools.evaluate.figures import calibration, top5
from host_tools.validate.statistics import Verdict, worst


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
class ScoreDifference:
    """How far two models' probabilities lie apart, before any temperature that rescales them.

    Attributes:
        mean: mean of |p - q| over all pictures and all classes, 0..1.
        largest: the largest |p - q| of any picture and class, 0..1.
    """

    mean: float
    largest: float


@dataclass(frozen=True, slots=True, eq=False)
class ArtifactResult:
    """One artifact against the reference; accuracies 0..1, drops in points.

    ``top5`` is that of ``evaluate.figures``, ``ece`` of ``evaluate.calibration``. ``flipped`` are
    the rows whose answer is another than the reference's, ``(flips,)`` int64, and
    ``flipped_scores`` the artifact's scores of these, ``(flips, C)`` float32.
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
    score_difference: ScoreDifference
    preprocessing: Preprocessing
    per_class: tuple[ClassResult, ...]
    verdict: Verdict | None
    images_needed: int | None
    flipped: NDArray[np.int64]
    flipped_scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Everything that was measured.

    Attributes:
        reference_path, accuracy, n: the reference, its accuracy, the number of pictures.
        preprocessing: the reference's; None for scores that were saved without.
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
    preprocessing: Preprocessing | None
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
                "preprocess": _preprocess_json(self.preprocessing),
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
                    "score_difference": {
                        "mean": a.score_difference.mean,
                        "max": a.score_difference.largest,
                    },
                    "preprocess": _preprocess_json(a.preprocessing),
                    "per_class": to_plain(a.per_class),
                    "verdict": a.verdict,
                    "images_needed": a.images_needed,
                }
                for a in self.artifacts
            ],
            "unreadable": [str(u.picture.path) for u in self.unreadable],
        }


def _preprocess_json(how: Preprocessing | None) -> dict[str, Any] | None:
    if how is None:
        return None
    colour = "rgb" if how.channels == 3 else "gray"
    return {"width": how.width, "height": how.height, "color": colour, "crop": how.crop}
