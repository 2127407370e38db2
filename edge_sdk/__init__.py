"""edgecls on the device: open an artifact, classify frames, run a loop.

    from edge_sdk import Classifier, read_image

    with Classifier.open("digits_int8.tflite") as classifier:
        print(classifier.classify(read_image("seven.png")).top(3))

The names below are the public ones. Each is imported when it is first used, so that a program that
only asks for the version or for an error does not load OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# The public names, by the module that each is imported from when it is first used. Type checkers need
# statements: tests/laws keeps those below the same.
_NAMES = {
    "artifact": ("Artifact",),
    "classifier": ("Classifier",),
    "errors": ("EdgeClsError",),
    "hotswap": ("ReloadingClassifier",),
    "loop.decisions": (
        "Decisions",
        "Exponential",
        "Hysteresis",
        "Majority",
    ),
    "loop.run": ("run",),
    "loop.sampling": (
        "Attention",
        "Motion",
        "Region",
    ),
    "loop.statistics": (
        "LiveStatistics",
        "RunStatistics",
    ),
    "ports": (
        "Engine",
        "FrameSink",
        "FrameSource",
        "LiveSource",
        "Sink",
        "SizedSource",
        "TellsHealth",
    ),
    "sinks.extra": ("as_extra",),
    "sinks.jsonl": (
        "JsonLines",
        "open_json_lines",
    ),
    "sinks.metrics": ("open_metrics",),
    "sinks.mqtt": ("open_mqtt",),
    "sinks.save_frames": (
        "SaveFrames",
        "Wanted",
        "open_save_frames",
    ),
    "sinks.sender": (
        "Delivery",
        "Parcel",
        "Sender",
    ),
    "sinks.spool": ("Spool",),
    "sinks.web.sink": ("open_web",),
    "sinks.web.uploads": ("Uploads",),
    "sinks.webhook": ("open_webhook",),
    "sources.camera": ("open_camera",),
    "sources.fake": ("FakeCamera",),
    "sources.folder": ("FolderSource",),
    "sources.latest": ("LatestFrame",),
    "sources.specification": (
        "SourceSpec",
        "open_source",
        "parse_source",
    ),
    "sources.video": ("VideoSource",),
    "types": (
        "ClassificationRecord",
        "ErrorRecord",
        "EventKind",
        "EventRecord",
        "Frame",
        "FrameRecord",
        "Health",
        "HealthKind",
        "HealthRecord",
        "Prediction",
        "Quantization",
        "Ranked",
        "Record",
        "TensorSpec",
        "Timing",
    ),
    "vision.images": (
        "decode_image",
        "read_image",
    ),
    "vision.preprocess": ("Preprocessing",),
    "vision.tensors": ("Normalization",),
}

__all__ = sorted(name for names in _NAMES.values() for name in names)

if TYPE_CHECKING:
    from edge_sdk.artifact import Artifact as Artifact
    from edge_sdk.classifier import Classifier as Classifier
    from edge_sdk.errors import EdgeClsError as EdgeClsError
    from edge_sdk.hotswap import ReloadingClassifier as ReloadingClassifier
    from edge_sdk.loop.decisions import (
        Decisions as Decisions,
        Exponential as Exponential,
        Hysteresis as Hysteresis,
        Majority as Majority,
    )
    from edge_sdk.loop.run import run as run
    from edge_sdk.loop.sampling import Attention as Attention, Motion as Motion, Region as Region
    from edge_sdk.loop.statistics import (
        LiveStatistics as LiveStatistics,
        RunStatistics as RunStatistics,
    )
    from edge_sdk.ports import (
        Engine as Engine,
        FrameSink as FrameSink,
        FrameSource as FrameSource,
        LiveSource as LiveSource,
        Sink as Sink,
        SizedSource as SizedSource,
        TellsHealth as TellsHealth,
    )
    from edge_sdk.sinks.extra import as_extra as as_extra
    from edge_sdk.sinks.jsonl import JsonLines as JsonLines, open_json_lines as open_json_lines
    from edge_sdk.sinks.metrics import open_metrics as open_metrics
    from edge_sdk.sinks.mqtt import open_mqtt as open_mqtt
    from edge_sdk.sinks.save_frames import (
        SaveFrames as SaveFrames,
        Wanted as Wanted,
        open_save_frames as open_save_frames,
    )
    from edge_sdk.sinks.sender import Delivery as Delivery, Parcel as Parcel, Sender as Sender
    from edge_sdk.sinks.spool import Spool as Spool
    from edge_sdk.sinks.web.sink import open_web as open_web
    from edge_sdk.sinks.web.uploads import Uploads as Uploads
    from edge_sdk.sinks.webhook import open_webhook as open_webhook
    from edge_sdk.sources.camera import open_camera as open_camera
    from edge_sdk.sources.fake import FakeCamera as FakeCamera
    from edge_sdk.sources.folder import FolderSource as FolderSource
    from edge_sdk.sources.latest import LatestFrame as LatestFrame
    from edge_sdk.sources.specification import (
        SourceSpec as SourceSpec,
        open_source as open_source,
        parse_source as parse_source,
    )
    from edge_sdk.sources.video import VideoSource as VideoSource
    from edge_sdk.types import (
        ClassificationRecord as ClassificationRecord,
        ErrorRecord as ErrorRecord,
        EventKind as EventKind,
        EventRecord as EventRecord,
        Frame as Frame,
        FrameRecord as FrameRecord,
        Health as Health,
        HealthKind as HealthKind,
        HealthRecord as HealthRecord,
        Prediction as Prediction,
        Quantization as Quantization,
        Ranked as Ranked,
        Record as Record,
        TensorSpec as TensorSpec,
        Timing as Timing,
    )
    from edge_sdk.vision.images import decode_image as decode_image, read_image as read_image
    from edge_sdk.vision.preprocess import Preprocessing as Preprocessing
    from edge_sdk.vision.tensors import Normalization as Normalization
else:  # a checker that saw this would take any name for a public one

    def __getattr__(name: str) -> object:
        for module, names in _NAMES.items():
            if name in names:
                value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
