"""The one thing that occlusion and SHAP ask of a model: scores for many pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.classifier import Classifier
from edge_sdk.errors import ValidationError
from edge_sdk.types import Frame
from edge_sdk.vision.tensors import RAW, Normalization

# Pictures in one call: enough for a processor to be busy, few enough to look at the clock between.
BATCH = 16


class Scorer(Protocol):
    """Scores pictures that have the model's input size already."""

    def score(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``(N, H, W, C)`` uint8 pixels to ``(N, classes)`` float32 probabilities."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class ArtifactScorer:
    """The very ``Classifier`` that the device runs, on any of its engines.

    Preprocessing leaves pictures of the input's size and colours as they are.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def score(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As ``Scorer.score``.

        Raises:
            EngineError: the inference failed, or gave something that is no number.
        """
        return np.stack([self._classifier.classify(_frame(picture)).scores for picture in pixels])

    def close(self) -> None:
        """Closes the classifier."""
        self._classifier.close()


class KerasScorer:
    """A Keras model, asked in batches.

    Args:
        model: a ``keras.Model`` from ``(N, H, W, C)`` to ``(N, classes)`` probabilities.
        path: its file, for messages.
        normalization: from pixels to what the model takes. Ours take pixels.

    Raises:
        ValidationError: it answers with something other than probabilities.
    """

    def __init__(self, model: Any, path: Path, normalization: Normalization = RAW) -> None:
        self.model = model
        self.path = path
        self._mean = np.array(normalization.mean, np.float32)
        self._std = np.array(normalization.std, np.float32)
        # Keras compiles for the first size of a batch, and for any size at the second. Done here,
        # neither falls into a time that is measured.
        for count in (1, 2):
            scores = self.score(np.zeros((count, *model.inputs[0].shape[1:]), np.uint8))
        if (scores < 0).any() or np.abs(scores.sum(axis=1) - 1).max() > 0.02:
            raise ValidationError(
                f"{path}: its scores are no probabilities (one picture's add up to "
                f"{scores[0].sum():.3g}, expected 1); add keras.layers.Softmax() and save it again"
            )

    def score(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As ``Scorer.score``.

        Raises:
            ValidationError: the model answers with NaN.
        """
        parts = [
            self.model.predict_on_batch(self.encode(pixels[start : start + BATCH]))
            for start in range(0, len(pixels), BATCH)
        ]
        scores = np.concatenate([np.asarray(part, np.float32) for part in parts])
        if not np.isfinite(scores).all():
            raise ValidationError(f"{self.path}: answers with NaN; train it again")
        return scores

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the model takes for ``(N, H, W, C)`` uint8 pixels: the same shape, float32."""
        encoded: NDArray[np.float32] = (pixels.astype(np.float32) - self._mean) / self._std
        return encoded

    def close(self) -> None:
        """Nothing to give back."""


def _frame(picture: NDArray[np.uint8]) -> Frame:
    return Frame(picture[:, :, 0], "gray") if picture.shape[2] == 1 else Frame(picture, "rgb")
