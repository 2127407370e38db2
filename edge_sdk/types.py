"""The values that travel between the parts: frames in, predictions and records out."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.plain import to_plain

PixelFormat = Literal["rgb", "bgr", "rgba", "gray", "i420"]

# What ``Health.what`` and ``HealthRecord.what`` can be; docs/json.md says what each means.
HealthKind = Literal[
    "unreadable",
    "stalled",
    "lost",
    "reopened",
    "frozen",
    "black",
    "changed",
    "recovered",
    "damaged",
    "resized",
    "enlarged",
    "model swapped",
    "model refused",
    "last good model",
    "model not kept",
    "delivery stuck",
    "delivery resumed",
    "spool full",
    "records refused",
    "records lost",
    "records damaged",
    "spool damaged",
    "spool unavailable",
    "spool available",
    "sink failed",
    "sink recovered",
    "no room for pictures",
    "room for pictures again",
    "picture not kept",
]

EventKind = Literal["appeared", "left"]

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
    """A change in a source, a sink or a model that an operator should know; not an error by itself.

    Attributes:
        what: the kind of change.
        detail: a sentence for a person.
    """

    what: HealthKind
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


def top_k(scores: NDArray[np.float32], k: int) -> tuple[int, ...]:
    """Indices of the k highest of ``scores`` ``(C,)``, best first; ties keep label order.

    Raises:
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"top_k needs k of at least 1, got {k}")
    order = np.argsort(-scores, kind="stable")[:k]
    return tuple(int(i) for i in order)


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


SCHEMA = 1


def utc_now() -> str:
    """The time as ISO 8601 in UTC with milliseconds."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One classified frame of a running loop; times in milliseconds, ``age_ms`` None if unknown.

    ``region`` is the part of the frame that was classified, None for all of it.
    """

    type: ClassVar[Literal["frame"]] = "frame"

    ts: str
    frame: int
    source: str
    label: str | None
    score: float
    topk: tuple[Ranked, ...]
    capture_ms: float
    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float
    age_ms: float | None
    model: str
    region: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON object, ready for ``json.dumps``; it has a region only where there is one."""
        content = {
            "schema": SCHEMA,
            "type": self.type,
            "ts": self.ts,
            "frame": self.frame,
            "source": self.source,
            "label": self.label,
            "score": self.score,
            "topk": to_plain(self.topk),
            "latency_ms": {
                "capture": self.capture_ms,
                "preprocess": self.preprocess_ms,
                "inference": self.inference_ms,
                "postprocess": self.postprocess_ms,
            },
            "age_ms": self.age_ms,
            "model": self.model,
        }
        return content if self.region is None else {**content, "region": self.region}


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A label appeared or left.

    Attributes:
        ts: when the frame that showed it was classified.
        source: ``FrameRecord.source`` of that frame.
        what: whether it appeared or left.
        label: of what.
        score: when it appeared; when it left, the highest it had.
        seconds: how long it had been there; 0 when it appeared.
        region: as in ``FrameRecord``.
    """

    type: ClassVar[Literal["event"]] = "event"

    ts: str
    source: str
    what: EventKind
    label: str
    score: float
    seconds: float
    region: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON object, ready for ``json.dumps``; it has a region only where there is one."""
        content = _line(self)
        if self.region is None:
            del content["region"]
        return content


@dataclass(frozen=True, slots=True)
class HealthRecord:
    """Something an operator should know, such as a picture that could not be read."""

    type: ClassVar[Literal["health"]] = "health"

    ts: str
    source: str
    what: HealthKind
    detail: str

    def to_json(self) -> dict[str, Any]:
        """The JSON object, ready for ``json.dumps``."""
        return _line(self)


@dataclass(frozen=True, slots=True)
class ClassificationRecord:
    """The answer for one image file."""

    type: ClassVar[Literal["classification"]] = "classification"

    path: str
    label: str | None
    score: float
    topk: tuple[Ranked, ...]

    @classmethod
    def of(cls, path: str, prediction: Prediction, top_k: int) -> ClassificationRecord:
        """What ``prediction`` says about the image at ``path``."""
        return cls(path, prediction.label, prediction.score, prediction.top(top_k))

    def to_json(self) -> dict[str, Any]:
        """The JSON object, ready for ``json.dumps``."""
        return _line(self)


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An image file that has no answer, and why."""

    type: ClassVar[Literal["error"]] = "error"

    path: str
    error: str

    def to_json(self) -> dict[str, Any]:
        """The JSON object, ready for ``json.dumps``."""
        return _line(self)


def _line(record: Record) -> dict[str, Any]:
    return {"schema": SCHEMA, "type": record.type, **to_plain(record)}


Record = FrameRecord | EventRecord | HealthRecord | ClassificationRecord | ErrorRecord


# The values of a record that may name files of this machine: wholly, or within a sentence.
_NAMES = ("source", "model", "path")
_SENTENCES = ("detail", "error")
# The folders of an absolute path, which may have blanks within, from a slash before which no word,
# URL or other path stands; and those of a relative one whose file has an ending.
_FOLDERS = re.compile(
    r"(?<![\w/.~%\])])/(?!/)(?:[^\s/;\"'](?:(?!: )[^\n/;\"'])*(?<!\s)/)*(?=[^\s/])"
    r"|(?<![\w/.:~%-])(?:[\w.~-]+/)+(?=[\w-]+(?:\.\w+)*\.[A-Za-z]\w{0,7}\b)"
)


def public_json(record: Record) -> dict[str, Any]:
    """``to_json()`` for readers on other machines: files are named, their folders are not.

    Whatever sends records to a page, a broker or a server uses this; what stays on the device's own
    disk or standard output has the whole paths.
    """
    content = record.to_json()
    for key in _NAMES:
        if key in content:
            content[key] = _file_name(content[key])
    for key in _SENTENCES:
        if key in content:
            content[key] = public_text(content[key])
    return content


def public_text(text: str) -> str:
    """A sentence in which paths have become the names of their files.

    Devices (``/dev/video0``) stay: they are the same on every machine.
    """
    return _FOLDERS.sub(lambda found: found[0] if found[0].startswith("/dev/") else "", text)


def _file_name(name: str) -> str:
    """The last part of a path; URLs, devices and other names stay as they are."""
    if "://" in name or name.startswith("/dev/"):
        return name
    if name.startswith("fake:"):  # fake:PATH?fps=30
        path, mark, options = name.removeprefix("fake:").partition("?")
        return f"fake:{_file_name(path)}{mark}{options}"
    return name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or name
