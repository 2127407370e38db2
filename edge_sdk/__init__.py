"""edgecls on the device: open an artifact, classify frames, run a loop.

    from edge_sdk import Classifier, read_image

    with Classifier.open("digits_int8.tflite") as classifier:
        print(classifier.classify(read_image("seven.png")).top(3))

The names below are the public ones. Each is imported when it is first used, so that a program that
only asks for the version or for an error does not load OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.artifact import Artifact
    from edge_sdk.classifier import Classifier
    from edge_sdk.errors import EdgeClsError
    from edge_sdk.images import read_image
    from edge_sdk.pipeline import RunStatistics, run
    from edge_sdk.ports import Engine, FrameSource, Sink
    from edge_sdk.preprocess import Preprocessing
    from edge_sdk.records import (
        ClassificationRecord,
        ErrorRecord,
        FrameRecord,
        HealthRecord,
        Record,
    )
    from edge_sdk.sinks.jsonl import JsonLines
    from edge_sdk.sources.folder import FolderSource
    from edge_sdk.tensors import Normalization
    from edge_sdk.types import Frame, Prediction, Quantization, Ranked, TensorSpec, Timing

__version__ = "0.1.0"

_HOME = {
    "Artifact": "artifact",
    "ClassificationRecord": "records",
    "Classifier": "classifier",
    "EdgeClsError": "errors",
    "Engine": "ports",
    "ErrorRecord": "records",
    "FolderSource": "sources.folder",
    "Frame": "types",
    "FrameRecord": "records",
    "FrameSource": "ports",
    "HealthRecord": "records",
    "JsonLines": "sinks.jsonl",
    "Normalization": "tensors",
    "Prediction": "types",
    "Preprocessing": "preprocess",
    "Quantization": "types",
    "Ranked": "types",
    "Record": "records",
    "RunStatistics": "pipeline",
    "Sink": "ports",
    "TensorSpec": "types",
    "Timing": "types",
    "read_image": "images",
    "run": "pipeline",
}

__all__ = [
    "Artifact",
    "ClassificationRecord",
    "Classifier",
    "EdgeClsError",
    "Engine",
    "ErrorRecord",
    "FolderSource",
    "Frame",
    "FrameRecord",
    "FrameSource",
    "HealthRecord",
    "JsonLines",
    "Normalization",
    "Prediction",
    "Preprocessing",
    "Quantization",
    "Ranked",
    "Record",
    "RunStatistics",
    "Sink",
    "TensorSpec",
    "Timing",
    "read_image",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
