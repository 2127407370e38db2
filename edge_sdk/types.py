"""The values that travel between the parts: frames in, predictions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.decision import top_k

PixelFormat = Literal["rgb", "bgr", "rgba", "gray", "i420"]

# What a model stores at its borders: uint8, int8 or float32, shapes as TensorSpec says.
Tensor = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture, valid until the next ``read()`` of its source: who keeps it copies it.

    Attributes:
        pixels: uint8; ``(H, W, 3)`` for ``rgb`` and ``bgr``, ``(H, W, 4)`` for ``rgba``, ``(H, W)``
            for ``gray``, ``(H * 3 / 2, W)`` for ``i420``.
        format: the order of the channels in ``pixels``.
        index: 0-based number of the frame within its source.
        timestamp_ns: when the sensor saw it, on the monotonic clock; None where nobody knows.
        name: what a person would call it: a path, a device.
        presentation_ns: when a video shows it, from the video's start; None where it is from none.
    """

    pixels: NDArray[np.uint8]
    format: PixelFormat = "rgb"
    index: int = 0
    timestamp_ns: int | None = None
    name: str = ""
    presentation_ns: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels, for pixels of the shape that the format has."""
        height, width = self.pixels.shape[:2]
        return width, height * 2 // 3 if self.format == "i420" else height


class Health(NamedTuple):
    """Something about a source that whoever runs it should know; not an error by itself.

    Attributes:
        what: a word: ``stalled``, ``lost``, ``reopened``, ``frozen``, ``black``, ``changed``,
            ``recovered`` (no longer frozen or black), ``resized``, ``enlarged``, ``damaged`` (frames that
            were dropped).
        detail: a sentence for a person.
    """

    what: str
    detail: str


class Quantization(NamedTuple):
    """``real = scale * (stored - zero_point)``, per tensor."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor at the border of a model; ``dtype`` is numpy's name of what is stored."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None


class Timing(NamedTuple):
    """How long the stages of one classification took, in milliseconds."""

    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float


class Ranked(NamedTuple):
    """One line of a top-k list; ``score`` is a probability, 0..1."""

    label: str
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a classifier says about one frame.

    Attributes:
        frame_index: ``Frame.index`` of the picture.
        scores: ``(C,)`` float32, one probability per label.
        labels: C names, in the order of ``scores``.
        timing: where the time went.
        threshold: below this score the answer is "unknown".
    """

    frame_index: int
    scores: NDArray[np.float32]
    labels: tuple[str, ...]
    timing: Timing
    threshold: float = 0.0

    def top(self, k: int) -> tuple[Ranked, ...]:
        """The k best labels, best first; ties go to the label that comes first."""
        return tuple(Ranked(self.labels[i], float(self.scores[i])) for i in top_k(self.scores, k))

    @property
    def score(self) -> float:
        """The best score."""
        return float(self.scores[self.scores.argmax()])

    @property
    def label(self) -> str | None:
        """The best label, or None ("unknown") where its score is below the threshold."""
        best = int(self.scores.argmax())
        return self.labels[best] if self.scores[best] >= self.threshold else None
