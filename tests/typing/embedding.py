"""What an application that embeds the library writes; mypy --strict must agree with every line."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk import (
    Attention,
    Classifier,
    Decisions,
    Engine,
    EventKind,
    EventRecord,
    FolderSource,
    Frame,
    FrameRecord,
    FrameSink,
    FrameSource,
    Health,
    HealthKind,
    JsonLines,
    LiveSource,
    LiveStatistics,
    Majority,
    Motion,
    Prediction,
    Ranked,
    Record,
    Region,
    ReloadingClassifier,
    RunStatistics,
    Sink,
    TellsHealth,
    open_camera,
    read_image,
    run,
)
from edge_sdk.testing import FakeEngine, FakeSource, MemorySink


class OwnSource:
    """A source needs no base class."""

    def read(self) -> Frame | None:
        pixels: NDArray[np.uint8] = np.zeros((8, 8, 3), np.uint8)
        return Frame(pixels, "bgr", index=3, timestamp_ns=1)

    def close(self) -> None: ...


class OwnSink:
    """Nor does a sink."""

    def write(self, record: Record) -> None: ...

    def close(self) -> None: ...


def embed() -> RunStatistics:
    sources: list[FrameSource] = [OwnSource(), FolderSource("pictures"), FakeSource([])]
    sinks: list[Sink] = [OwnSink(), JsonLines(), MemorySink()]
    engine: Engine = FakeEngine(lambda tensor: tensor)
    engine.close()
    with Classifier.open("model.tflite", "litert", threads=2, crop="center") as classifier:
        prediction: Prediction = classifier.classify(read_image("a.jpg"))
        best: Ranked = prediction.top(3)[0]
        label: str = best.label
        answer: str | None = prediction.label
        assert label == answer
        return run(sources[0], classifier, sinks, limit=1)


class OwnViewer(OwnSink):
    """A sink that sees the pictures, too."""

    def see(self, frame: Frame, record: FrameRecord) -> None: ...


class OwnReporter(OwnSink):
    """A sink that reports its health."""

    def take_health(self) -> Sequence[Health]:
        return [Health("delivery stuck", "no receiver")]


def describe(record: Record) -> str:
    """A type checker knows the fields from the type of a record."""
    if record.type == "event":
        event: EventKind = record.what
        return event
    if record.type == "health":
        health: HealthKind = record.what
        return health
    return record.type


REPORTER: TellsHealth = OwnReporter()


def embed_a_camera() -> float:
    live, stop = LiveStatistics(), threading.Event()
    viewer: FrameSink = OwnViewer()
    with ReloadingClassifier("model.tflite") as classifier, open_camera("auto") as camera:
        source: LiveSource = camera
        done = run(
            source,
            classifier,
            [viewer],
            attention=Attention(max_fps=5, regions=(Region(0, 0, 0.5, 1),), motion=Motion()),
            decisions=Decisions(allow=("bottle",), smoothing=Majority(5), events=True),
            stop=stop,
            statistics=live,
        )
        classifier.reload()
    label: str | None = done.last.label if done.last else None
    event = EventRecord("", "", "left", label or "", 0.5, 3.2)
    return live.now().fps + event.seconds
