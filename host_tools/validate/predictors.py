"""Whatever can be asked for scores: an artifact, a Keras model, or scores that were saved."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.errors import ValidationError
from edge_sdk.preprocess import Preprocessing, preprocess
from host_tools.data.load import Decoded
from host_tools.validate.scores import SavedScores


class Predictor(Protocol):
    """Scores for pictures; ``path`` and ``labels`` say whose and of what."""

    @property
    def path(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def scores(self, batch: Sequence[Decoded]) -> NDArray[np.float32]:
        """``(N, labels)`` probabilities for N decoded pictures."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class ArtifactPredictor:
    """The very ``Classifier`` that the device runs."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    @property
    def artifact(self) -> Artifact:
        return self.classifier.artifact

    @property
    def path(self) -> str:
        return str(self.artifact.path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.classifier.labels

    def scores(self, batch: Sequence[Decoded]) -> NDArray[np.float32]:
        return np.stack([self.classifier.classify(item.frame).scores for item in batch])

    def close(self) -> None:
        self.classifier.close()


class KerasPredictor:
    """A Keras model behind the device's preprocessing."""

    def __init__(
        self, path: Path, model: Any, labels: tuple[str, ...], preprocessing: Preprocessing
    ) -> None:
        self._path = path
        self._model = model
        self._labels = labels
        self._preprocessing = preprocessing

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    def scores(self, batch: Sequence[Decoded]) -> NDArray[np.float32]:
        pixels = np.stack([preprocess(item.frame, self._preprocessing) for item in batch])
        scores = np.asarray(self._model.predict_on_batch(pixels.astype(np.float32)), np.float32)
        if not np.isfinite(scores).all():
            raise ValidationError(f"{self._path}: answers with NaN; train it again")
        return scores

    def close(self) -> None:
        """Nothing to give back."""


class SavedPredictor:
    """Scores that a host saved, found again by the SHA-256 of the file."""

    def __init__(self, path: Path, saved: SavedScores) -> None:
        self._path = path
        self._saved = saved
        self._rows = dict(zip(saved.files, saved.scores, strict=True))

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._saved.labels

    def __len__(self) -> int:
        return len(self._rows)

    def knows(self, picture: Path) -> bool:
        """Whether the scores of this very file were saved."""
        return file_digest(picture) in self._rows

    def scores(self, batch: Sequence[Decoded]) -> NDArray[np.float32]:
        return np.stack([self._rows[file_digest(item.picture.path)] for item in batch])

    def close(self) -> None:
        """Nothing to give back."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal: the same on every machine."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
