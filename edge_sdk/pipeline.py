"""``run``: pulls frames from a source and pushes predictions into sinks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from edge_sdk.classifier import Classifier
from edge_sdk.errors import UnreadableImageError
from edge_sdk.ports import FrameSource, Sink
from edge_sdk.records import FrameRecord, HealthRecord, Record, utc_now


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """What a run amounted to: frames classified, frames that could not be read, seconds."""

    frames: int
    unreadable: int
    seconds: float


def run(
    source: FrameSource,
    classifier: Classifier,
    sinks: Sequence[Sink],
    *,
    top_k: int = 5,
    threshold: float | None = None,
    limit: int | None = None,
) -> RunStatistics:
    """Classifies frames until the source ends; source, classifier and sinks stay open.

    A picture that cannot be read becomes a ``HealthRecord``, and the loop goes on.

    Args:
        source: where frames come from.
        classifier: what classifies them.
        sinks: where the records go, in this order.
        top_k: how many labels each record ranks.
        threshold: best score (0..1) below which the label is None; None: the artifact's own.
        limit: stop after so many frames; None: never.

    Raises:
        SourceLostError: the source is gone.
        EngineError: an inference failed.
        SinkError: a record could not be written.
    """
    model = str(classifier.artifact.path)
    limit_score = classifier.threshold if threshold is None else threshold
    frames = unreadable = 0
    began = time.perf_counter()
    while limit is None or frames < limit:
        started = time.perf_counter_ns()
        try:
            frame = source.read()
        except UnreadableImageError as error:
            unreadable += 1
            _write(sinks, HealthRecord(utc_now(), error.name, "unreadable", error.reason))
            continue
        if frame is None:
            break
        captured = time.perf_counter_ns()
        prediction = classifier.classify(frame)
        age_ms = None
        if frame.timestamp_ns is not None:
            age_ms = (time.monotonic_ns() - frame.timestamp_ns) / 1e6
        best = prediction.top(top_k)
        _write(
            sinks,
            FrameRecord(
                ts=utc_now(),
                frame=frame.index,
                source=frame.name,
                label=best[0].label if best[0].score >= limit_score else None,
                score=best[0].score,
                topk=best,
                capture_ms=(captured - started) / 1e6,
                preprocess_ms=prediction.timing.preprocess_ms,
                inference_ms=prediction.timing.inference_ms,
                postprocess_ms=prediction.timing.postprocess_ms,
                age_ms=age_ms,
                model=model,
            ),
        )
        frames += 1
    return RunStatistics(frames, unreadable, time.perf_counter() - began)


def _write(sinks: Sequence[Sink], record: Record) -> None:
    for sink in sinks:
        sink.write(record)
