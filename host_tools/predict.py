"""Whatever can be asked for scores: an artifact, a Keras model, or scores that were saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.errors import ValidationError
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from edge_sdk.vision.tensors import RAW, Normalization
from host_tools.data.decode import Decoded
from host_tools.data.pictures import Picture, file_digest
from host_tools.validate.rows import Rows
from host_tools.validate.saved_scores import SavedScores

_BATCH = 64
# How far from 1 a softmax in half precision may add up to.
_NO_PROBABILITIES = 0.02


class Predictor(Protocol):
    """Is shown pictures one by one, and keeps scores, never pictures: those are large."""

    @property
    def path(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def preprocessing(self) -> Preprocessing | None:
        """None: not known."""
        ...

    @property
    def temperature(self) -> float:
        """That the scores are tempered with; 1: not at all."""
        ...

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
        self._scores = Rows(len(classifier.labels))

    @property
    def artifact(self) -> Artifact:
        return self.classifier.artifact

    @property
    def path(self) -> str:
        return str(self.artifact.path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.classifier.labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self.artifact.preprocessing

    @property
    def temperature(self) -> float:
        return self.classifier.temperature

    def see(self, item: Decoded) -> None:
        self._scores.add(self.classifier.classify(item.frame).scores[np.newaxis])

    def scores(self) -> NDArray[np.float32]:
        return self._scores.all()

    def close(self) -> None:
        self.classifier.close()


class KerasPredictor:
    """A Keras model behind the device's preprocessing, asked in batches.

    Args:
        path: its file, for messages.
        model: a ``keras.Model`` from ``(N, H, W, C)`` to ``(N, C)`` probabilities.
        labels: one per score.
        preprocessing: from a picture to pixels.
        normalization: from pixels to what the model takes. Ours take pixels.
    """

    temperature = 1.0

    def __init__(
        self,
        path: Path,
        model: Any,
        labels: tuple[str, ...],
        preprocessing: Preprocessing,
        normalization: Normalization = RAW,
    ) -> None:
        self._path = path
        self._model = model
        self._labels = labels
        self._preprocessing = preprocessing
        self._mean = np.array(normalization.mean, np.float32)
        self._std = np.array(normalization.std, np.float32)
        self._waiting: list[NDArray[np.uint8]] = []
        self._scores = Rows(len(labels))

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self._preprocessing

    def see(self, item: Decoded) -> None:
        self._waiting.append(preprocess(item.frame, self._preprocessing))
        if len(self._waiting) == _BATCH:
            self._ask()

    def scores(self) -> NDArray[np.float32]:
        if self._waiting:
            self._ask()
        return self._scores.all()

    def _ask(self) -> None:
        pixels = (np.stack(self._waiting).astype(np.float32) - self._mean) / self._std
        self._waiting.clear()
        scores = np.asarray(self._model.predict_on_batch(pixels), np.float32)
        if not np.isfinite(scores).all():
            raise ValidationError(f"{self._path}: answers with NaN; train it again")
        if (scores < 0).any() or np.abs(scores.sum(axis=1) - 1).max() > _NO_PROBABILITIES:
            raise ValidationError(
                f"{self._path}: its scores are no probabilities (one picture's add up to "
                f"{scores[0].sum():.3g}, expected 1); add keras.layers.Softmax() and save it again"
            )
        self._scores.add(scores)

    def close(self) -> None:
        """Nothing to give back."""


class SavedPredictor:
    """Scores that a host saved, found again by the SHA-256 of the file."""

    temperature = 1.0

    def __init__(self, path: Path, saved: SavedScores) -> None:
        self._path = path
        self._saved = saved
        self._rows = dict(zip(saved.files, saved.scores, strict=True))
        self._scores = Rows(len(saved.labels))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._saved.labels

    @property
    def preprocessing(self) -> Preprocessing | None:
        return self._saved.preprocessing

    def knows(self, picture: Picture) -> bool:
        """Whether the scores of this very file were saved."""
        try:
            return file_digest(picture) in self._rows
        except OSError:  # cannot be read: whoever decodes it will say so
            return False

    def see(self, item: Decoded) -> None:
        self._scores.add(self._rows[file_digest(item.picture)][np.newaxis])

    def scores(self) -> NDArray[np.float32]:
        return self._scores.all()

    def close(self) -> None:
        """Nothing to give back."""
