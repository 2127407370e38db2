"""Models as a person names them, opened: strangers' with what must be said of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.vision.preprocess import Crop
from host_tools.data.split import SplitRule


@dataclass(frozen=True, slots=True)
class Opening:
    """How models are opened: the backend, and what foreign ones do not say of themselves."""

    backend: str = "cpu"
    threads: int = 1
    labels: Path | None = None
    normalize: str | None = None
    crop: Crop | None = None


def open_classifier(path: Path, opening: Opening, say: Callable[[str], None]) -> Classifier:
    """Opens a ``.tflite`` and says what was assumed about it.

    Raises:
        ArtifactError: a file that does not open, or that labels or a range must be given for.
        EngineError: the backend is missing, or is not the one the file was compiled for.
    """
    classifier = Classifier.open(
        path,
        opening.backend,
        threads=opening.threads,
        labels=opening.labels,
        normalize=opening.normalize,
        crop=opening.crop,
    )
    for note in classifier.artifact.notes:
        say(note)
    return classifier


def recorded_rule(artifact: Artifact) -> SplitRule | None:
    """How the artifact's pictures were split for training; provenance of any version will do."""
    try:
        data: Any = artifact.manifest.provenance["recipe"]["data"] if artifact.manifest else {}
        return SplitRule(float(data["validation"]), float(data["test"]), int(data["seed"]))
    except (KeyError, TypeError, ValueError):
        return None
