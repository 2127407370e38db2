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
    from edge_sdk.answers import Decisions
    from edge_sdk.artifact import Artifact
    from edge_sdk.attention import Attention
    from edge_sdk.classifier import Classifier
    from edge_sdk.errors import EdgeClsError
    from edge_sdk.hotswap import ReloadingClassifier
    from edge_sdk.images import read_image
    from edge_sdk.motion import Motion
    from edge_sdk.pipeline import run
    from edge_sdk.ports import Engine, FrameSink, FrameSource, LiveSource, Sink, TellsHealth
    from edge_sdk.preprocess import Preprocessing
    from edge_sdk.records import (
        ClassificationRecord,
        ErrorRecord,
        EventRecord,
        FrameRecord,
        HealthRecord,
        Record,
    )
    from edge_sdk.regions import Region
    from edge_sdk.sinks.jsonl import JsonLines
    from edge_sdk.smoothing import Exponential, Hysteresis, Majority
    from edge_sdk.sources.camera import open_camera
    from edge_sdk.sources.fake import FakeCamera
    from edge_sdk.sources.folder import FolderSource
    from edge_sdk.sources.latest import LatestFrame
    from edge_sdk.sources.specification import SourceSpec, open_source, parse_source
    from edge_sdk.sources.video import VideoSource
    from edge_sdk.statistics import LiveStatistics, RunStatistics
    from edge_sdk.tensors import Normalization
    from edge_sdk.types import Frame, Prediction, Quantization, Ranked, TensorSpec, Timing

__version__ = "0.1.0"

_HOME = {
    "Artifact": "artifact",
    "Attention": "attention",
    "ClassificationRecord": "records",
    "Classifier": "classifier",
    "Decisions": "answers",
    "EdgeClsError": "errors",
    "Engine": "ports",
    "ErrorRecord": "records",
    "EventRecord": "records",
    "Exponential": "smoothing",
    "FakeCamera": "sources.fake",
    "FolderSource": "sources.folder",
    "Frame": "types",
    "FrameRecord": "records",
    "FrameSink": "ports",
    "FrameSource": "ports",
    "Health": "types",
    "HealthRecord": "records",
    "Hysteresis": "smoothing",
    "JsonLines": "sinks.jsonl",
    "LatestFrame": "sources.latest",
    "LiveSource": "ports",
    "LiveStatistics": "statistics",
    "Majority": "smoothing",
    "Motion": "motion",
    "Normalization": "tensors",
    "Prediction": "types",
    "Preprocessing": "preprocess",
    "Quantization": "types",
    "Ranked": "types",
    "Record": "records",
    "Region": "regions",
    "ReloadingClassifier": "hotswap",
    "RunStatistics": "statistics",
    "Sink": "ports",
    "SourceSpec": "sources.specification",
    "TellsHealth": "ports",
    "TensorSpec": "types",
    "Timing": "types",
    "VideoSource": "sources.video",
    "open_camera": "sources.camera",
    "open_source": "sources.specification",
    "parse_source": "sources.specification",
    "read_image": "images",
    "run": "pipeline",
}

__all__ = [
    "Artifact",
    "Attention",
    "ClassificationRecord",
    "Classifier",
    "Decisions",
    "EdgeClsError",
    "Engine",
    "ErrorRecord",
    "EventRecord",
    "Exponential",
    "FakeCamera",
    "FolderSource",
    "Frame",
    "FrameRecord",
    "FrameSink",
    "FrameSource",
    "Health",
    "HealthRecord",
    "Hysteresis",
    "JsonLines",
    "LatestFrame",
    "LiveSource",
    "LiveStatistics",
    "Majority",
    "Motion",
    "Normalization",
    "Prediction",
    "Preprocessing",
    "Quantization",
    "Ranked",
    "Record",
    "Region",
    "ReloadingClassifier",
    "RunStatistics",
    "Sink",
    "SourceSpec",
    "TellsHealth",
    "TensorSpec",
    "Timing",
    "VideoSource",
    "open_camera",
    "open_source",
    "parse_source",
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
