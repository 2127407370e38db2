"""Which answers changed, which way, and how harmful that is. Pure, from a finished comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.decision import top_k
from edge_sdk.records import SCHEMA
from edge_sdk.types import Ranked
from host_tools.data.pictures import Picture
from host_tools.validate.results import ArtifactResult, Comparison

Way = Literal["right_to_wrong", "wrong_to_wrong", "wrong_to_right"]
# The most harmful first.
WAYS: tuple[Way, ...] = ("right_to_wrong", "wrong_to_wrong", "wrong_to_right")
_TOP = 3


@dataclass(frozen=True, slots=True)
class Said:
    """What one model says of a picture.

    Attributes:
        topk: its three best labels.
        margin: the best score less the second best, 0..1.
        truth_score: of the true class, 0..1.
    """

    topk: tuple[Ranked, ...]
    margin: float
    truth_score: float


@dataclass(frozen=True, slots=True, eq=False)
class Flip:
    """A picture that the artifact answers differently than the reference.

    Attributes:
        picture: which.
        path: of its file from the data folder; never more of the path than that.
        truth: its label.
        way: which way it flipped.
        reference, artifact: what each says.
    """

    picture: Picture
    path: str
    truth: str
    way: Way
    reference: Said
    artifact: Said

    def to_json(self) -> dict[str, Any]:
        """An entry of ``flips.json``."""
        return {
            "path": self.path,
            "truth": self.truth,
            "way": self.way,
            "reference": _said_json(self.reference),
            "artifact": _said_json(self.artifact),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """All flips of one artifact, the most harmful first."""

    result: ArtifactResult
    flips: tuple[Flip, ...]

    @property
    def counts(self) -> dict[Way, int]:
        """How many flipped each way."""
        return {way: sum(flip.way == way for flip in self.flips) for way in WAYS}


def find_changed(comparison: Comparison, root: Path) -> tuple[Changed, ...]:
    """The flips of every artifact.

    Right to wrong comes first, then wrong to another wrong, then wrong to right; within each, the
    answer that the artifact gives with the highest score: a threshold would not hold it back.

    Args:
        comparison: of a validation.
        root: the data folder.
    """
    return tuple(_changed(comparison, result, root) for result in comparison.artifacts)


def to_json(comparison: Comparison, changed: Sequence[Changed]) -> dict[str, Any]:
    """The object of ``flips.json``, see docs/json.md."""
    return {
        "schema": SCHEMA,
        "type": "flips",
        "reference": comparison.reference_path,
        "n": comparison.n,
        "artifacts": [
            {
                "path": one.result.path,
                **one.counts,
                "flips": [flip.to_json() for flip in one.flips],
            }
            for one in changed
        ],
    }


def _changed(comparison: Comparison, result: ArtifactResult, root: Path) -> Changed:
    flips = [
        _flip(comparison, int(row), scores, root)
        for row, scores in zip(result.flipped, result.flipped_scores, strict=True)
    ]
    flips.sort(key=lambda flip: (WAYS.index(flip.way), -flip.artifact.topk[0].score))
    return Changed(result, tuple(flips))


def _flip(comparison: Comparison, row: int, scores: NDArray[np.float32], root: Path) -> Flip:
    truth, picture = int(comparison.truth[row]), comparison.pictures[row]
    before = comparison.reference_scores[row]
    way: Way = "wrong_to_wrong"
    if int(before.argmax()) == truth:
        way = "right_to_wrong"
    elif int(scores.argmax()) == truth:
        way = "wrong_to_right"
    return Flip(
        picture,
        _from_root(picture.path, root),
        comparison.labels[truth],
        way,
        _said(before, comparison.labels, truth),
        _said(scores, comparison.labels, truth),
    )


def _said(scores: NDArray[np.float32], labels: tuple[str, ...], truth: int) -> Said:
    best = [Ranked(labels[i], float(scores[i])) for i in top_k(scores, _TOP)]
    return Said(tuple(best), best[0].score - best[1].score, float(scores[truth]))


def _from_root(path: Path, root: Path) -> str:
    folder = root if root.is_dir() else root.parent
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return path.name if path.is_absolute() else path.as_posix()


def _said_json(said: Said) -> dict[str, Any]:
    return {
        "topk": [ranked._asdict() for ranked in said.topk],
        "margin": said.margin,
        "truth_score": said.truth_score,
    }
