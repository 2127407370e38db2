"""What an application that embeds the library writes; mypy --strict must agree with every line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_sdk import (
    Classifier,
    Engine,
    FolderSource,
    Frame,
    FrameSource,
    JsonLines,
    Prediction,
    Ranked,
    Record,
    RunStatistics,
    Sink,
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
