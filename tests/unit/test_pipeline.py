"""The loop, on a real artifact: fakes stand for the camera, the engine and the disk only."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.errors import EngineError, SinkError, SourceLostError, UnreadableImageError
from edge_sdk.pipeline import run
from edge_sdk.records import FrameRecord, HealthRecord
from edge_sdk.testing import FakeEngine, FakeSource, MemorySink
from edge_sdk.types import Frame, Ranked, Tensor

# What the engine answers: "3" is likely, "7" less so.
_SCORES = np.array([[0, 0, 0, 0.75, 0, 0, 0, 0.25, 0, 0]], np.float32)


def _answer(_: Tensor) -> Tensor:
    return _SCORES.copy()


def _frame(index: int = 0, timestamp_ns: int | None = None) -> Frame:
    return Frame(
        np.full((48, 64, 3), index, np.uint8), "rgb", index, timestamp_ns, f"frame {index}"
    )


@pytest.fixture
def classifier(int8_artifact: Path) -> Classifier:
    return Classifier(Artifact.open(int8_artifact), FakeEngine(_answer))


def _only(sink: MemorySink) -> FrameRecord:
    (record,) = sink.records
    assert isinstance(record, FrameRecord)
    return record


def test_every_frame_becomes_a_record_in_every_sink(classifier: Classifier) -> None:
    sinks = [MemorySink(), MemorySink()]
    statistics = run(FakeSource(_frame(i) for i in range(5)), classifier, sinks)
    assert (statistics.frames, statistics.unreadable) == (5, 0)
    assert statistics.seconds > 0
    assert [r.frame for r in sinks[0].records if isinstance(r, FrameRecord)] == [0, 1, 2, 3, 4]
    assert sinks[0].records == sinks[1].records


def test_a_record_says_what_was_seen_and_by_which_model(
    classifier: Classifier, int8_artifact: Path
) -> None:
    sink = MemorySink()
    run(FakeSource([_frame(4)]), classifier, [sink], top_k=2)
    record = _only(sink)
    assert (record.frame, record.source, record.model) == (4, "frame 4", str(int8_artifact))
    assert (record.label, record.score) == ("3", 0.75)
    assert record.topk == (Ranked("3", 0.75), Ranked("7", 0.25))


def test_a_record_has_exactly_these_keys(classifier: Classifier) -> None:
    sink = MemorySink()
    run(FakeSource([_frame(timestamp_ns=time.monotonic_ns())]), classifier, [sink])
    line = json.loads(json.dumps(_only(sink).to_json(), allow_nan=False))
    keys = "schema type ts frame source label score topk latency_ms age_ms model"
    assert list(line) == keys.split()
    assert list(line["latency_ms"]) == ["capture", "preprocess", "inference", "postprocess"]
    assert min(line["latency_ms"].values()) >= 0
    assert [list(ranked) for ranked in line["topk"]] == [["label", "score"]] * 5
    assert (line["schema"], line["type"]) == (1, "frame")


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_limit_ends_the_loop_and_leaves_the_rest_in_the_source(
    limit: int, classifier: Classifier
) -> None:
    source, sink = FakeSource(_frame(i) for i in range(5)), MemorySink()
    assert run(source, classifier, [sink], limit=limit).frames == len(sink.records) == limit
    rest = source.read()
    assert rest is not None
    assert rest.index == limit


def test_a_limit_counts_classified_frames_alone(classifier: Classifier) -> None:
    broken = UnreadableImageError("b.jpg", "cut off")
    source = FakeSource([broken, _frame(1), broken, _frame(3), _frame(4)])
    statistics = run(source, classifier, [MemorySink()], limit=2)
    assert (statistics.frames, statistics.unreadable) == (2, 2)


def test_an_unreadable_picture_becomes_a_health_record_and_the_loop_goes_on(
    classifier: Classifier,
) -> None:
    broken = UnreadableImageError("b.jpg", "the JPEG file is cut off")
    sink = MemorySink()
    statistics = run(FakeSource([_frame(0), broken, _frame(2)]), classifier, [sink])
    assert (statistics.frames, statistics.unreadable) == (2, 1)
    assert [type(record) for record in sink.records] == [FrameRecord, HealthRecord, FrameRecord]
    health = sink.records[1]
    assert isinstance(health, HealthRecord)
    assert (health.source, health.what) == ("b.jpg", "unreadable")
    assert health.detail == "the JPEG file is cut off"


@pytest.mark.parametrize(
    ("threshold", "label"),
    [(None, "3"), (0.0, "3"), (0.75, "3"), (0.76, None)],
    ids=["the-artifacts-own", "none", "reached-exactly", "missed"],
)
def test_below_the_threshold_the_label_is_unknown_and_the_score_stays(
    threshold: float | None, label: str | None, classifier: Classifier
) -> None:
    sink = MemorySink()
    run(FakeSource([_frame()]), classifier, [sink], threshold=threshold)
    record = _only(sink)
    assert record.label == label
    assert record.topk[0] == Ranked("3", record.score)


def test_without_a_threshold_of_the_call_the_classifiers_own_counts(
    classifier: Classifier,
) -> None:
    classifier.threshold = 0.9
    sinks = MemorySink(), MemorySink()
    run(FakeSource([_frame()]), classifier, [sinks[0]])
    run(FakeSource([_frame()]), classifier, [sinks[1]], threshold=0.5)
    assert [_only(sink).label for sink in sinks] == [None, "3"]


def test_the_age_is_counted_from_the_sensors_timestamp(classifier: Classifier) -> None:
    sink = MemorySink()
    ten_seconds_ago = time.monotonic_ns() - 10_000_000_000
    run(FakeSource([_frame(timestamp_ns=ten_seconds_ago)]), classifier, [sink])
    age_ms = _only(sink).age_ms
    assert age_ms is not None
    assert age_ms >= 10_000


def test_the_age_is_unknown_without_a_timestamp(classifier: Classifier) -> None:
    sink = MemorySink()
    run(FakeSource([_frame()]), classifier, [sink])
    assert _only(sink).age_ms is None


def test_a_lost_source_ends_the_loop_after_what_it_had_delivered(classifier: Classifier) -> None:
    sink = MemorySink()
    source = FakeSource([_frame(0), SourceLostError("the camera is gone"), _frame(2)])
    with pytest.raises(SourceLostError, match="the camera is gone"):
        run(source, classifier, [sink])
    assert _only(sink).frame == 0


def test_a_full_sink_ends_the_loop(classifier: Classifier) -> None:
    sink = MemorySink(capacity=2)
    with pytest.raises(SinkError):
        run(FakeSource(_frame(i) for i in range(5)), classifier, [sink])
    assert len(sink.records) == 2


def test_a_failing_engine_ends_the_loop(classifier: Classifier) -> None:
    classifier.close()
    with pytest.raises(EngineError):
        run(FakeSource([_frame()]), classifier, [MemorySink()])


def test_what_was_passed_in_stays_open(int8_artifact: Path) -> None:
    engine, sink = FakeEngine(_answer), MemorySink()
    classifier = Classifier(Artifact.open(int8_artifact), engine)
    source = FakeSource([_frame(0), _frame(1)])
    run(source, classifier, [sink], limit=1)
    assert (engine.closed, sink.closed, engine.inferences) == (False, False, 1)
    assert source.read() is not None
