"""Whatever can be asked for scores: an artifact, a Keras model, or scores that were saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.errors import ValidationError
from edge_sdk.preprocess import Preprocessing, preprocess
from host_tools.data.decode import Decoded
from host_tools.data.pictures import Picture, file_digest
from host_tools.validate.scores import SavedScores

_BATCH = 64


class Predictor(Protocol):
    """Is shown pictures one by one, and keeps scores, never pictures: those are large."""

    @property
    def path(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def see(self, item: Decoded) -> None:
        """Takes the next picture; its frame is not kept."""
        ...

    def scores(self) -> NDArray[np.float32]:
        """``(N, labels)`` probabilities of the N pictures seen."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class ArtifactPredictor:
    """The very ``Classifier`` that the device runs."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._scores: list[NDArray[np.float32]] = []

    @property
    def artifact(self) -> Artifact:
        return self.classifier.artifact

    @property
    def path(self) -> str:
        return str(self.artifact.path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.classifier.labels

    def see(self, item: Decoded) -> None:
        self._scores.append(self.classifier.classify(item.frame).scores)

    def scores(self) -> NDArray[np.float32]:
        return np.stack(self._scores)

    def close(self) -> None:
        self.classifier.close()


class KerasPredictor:
    """A Keras model behind the device's preprocessing, asked in batches."""

    def __init__(
        self, path: Path, model: Any, labels: tuple[str, ...], preprocessing: Preprocessing
    ) -> None:
        self._path = path
        self._model = model
        self._labels = labels
        self._preprocessing = preprocessing
        self._waiting: list[NDArray[np.uint8]] = []
        self._scores: list[NDArray[np.float32]] = []

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    def see(self, item: Decoded) -> None:
        self._waiting.append(preprocess(item.frame, self._preprocessing))
        if len(self._waiting) == _BATCH:
            self._ask()

    def scores(self) -> NDArray[np.float32]:
        if self._waiting:
            self._ask()
        return np.concatenate(self._scores)

    def _ask(self) -> None:
        pixels = np.stack(self._waiting).astype(np.float32)
        self._waiting.clear()
        scores = np.asarray(self._model.predict_on_batch(pixels), np.float32)
        if not np.isfinite(scores).all():
            raise ValidationError(f"{self._path}: answers with NaN; train it again")
        self._scores.append(scores)

    def close(self) -> None:
        """Nothing to give back."""


class SavedPredictor:
    """Scores that a host saved, found again by the SHA-256 of the file."""

    def __init__(self, path: Path, saved: SavedScores) -> None:
        self._path = path
        self._saved = saved
        self._rows = dict(zip(saved.files, saved.scores, strict=True))
        self._scores: list[NDArray[np.float32]] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._saved.labels

    def knows(self, picture: Picture) -> bool:
        """Whether the scores of this very file were saved."""
        try:
            return file_digest(picture) in self._rows
        except OSError:  # cannot be read: whoever decodes it will say so
            return False

    def see(self, item: Decoded) -> None:
        self._scores.append(self._rows[file_digest(item.picture)])

    def scores(self) -> NDArray[np.float32]:
        return np.stack(self._scores)

    def close(self) -> None:
        """Nothing to give back."""
