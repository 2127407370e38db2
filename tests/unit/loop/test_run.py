"""The loop, on a real artifact: fakes stand for the camera, the engine and the disk only."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.artifact import Artifact
from edge_sdk.classifier import Classifier
from edge_sdk.errors import (
    EngineError,
    FrameError,
    NoFrameYetError,
    SinkError,
    SourceLostError,
    UnreadableImageError,
)
from edge_sdk.loop.decisions import Decisions, Majority
from edge_sdk.loop.run import BROKEN_FRAMES_MAX, run
from edge_sdk.loop.sampling import Attention, Motion, Region
from edge_sdk.loop.statistics import LiveStatistics
from edge_sdk.ports import FrameSink, TellsHealth
from edge_sdk.testing import FakeEngine, FakeSource, MemorySink
from edge_sdk.types import (
    EventRecord,
    Frame,
    FrameRecord,
    Health,
    HealthRecord,
    PixelFormat,
    Prediction,
    Ranked,
    Tensor,
)

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


# A source that runs live


class _Camera(FakeSource):
    """A fake that drops frames and reports its health."""

    name = "camera 0"

    def __init__(self, script: Iterable[Frame | Exception]) -> None:
        super().__init__(script)
        self.dropped = 0
        self.troubles: list[Health] = []

    def read(self) -> Frame | None:
        self.dropped += 2
        return super().read()

    def take_health(self) -> list[Health]:
        taken, self.troubles = self.troubles, []
        return taken


def _types(sink: MemorySink) -> list[str]:
    return [str(record.to_json()["type"]) for record in sink.records]


def test_a_source_that_has_nothing_yet_is_asked_again(classifier: Classifier) -> None:
    sink, live = MemorySink(), LiveStatistics()
    nothing = NoFrameYetError("ask again")
    script = [nothing, nothing, _frame(0), nothing, _frame(1)]
    statistics = run(FakeSource(script), classifier, [sink], statistics=live)
    assert (statistics.frames, statistics.unreadable) == (2, 0)
    assert _types(sink) == ["frame", "frame"]
    assert live.steps >= 5  # each turn counts as getting on


def test_what_a_live_source_tells_is_a_record_between_the_frames(classifier: Classifier) -> None:
    sink = MemorySink()
    camera = _Camera([_frame(0), NoFrameYetError("x"), _frame(1)])
    camera.troubles = [Health("stalled", "no frame for 3 s"), Health("reopened", "frames again")]
    statistics = run(camera, classifier, [sink])
    assert _types(sink) == ["health", "health", "frame", "frame"]
    first = sink.records[0]
    assert isinstance(first, HealthRecord)
    assert (first.source, first.what, first.detail) == ("camera 0", "stalled", "no frame for 3 s")
    assert statistics.dropped == camera.dropped == 8
    assert (statistics.troubles, statistics.unreadable) == (2, 0)
    assert statistics.health is not None
    assert statistics.health.what == "reopened"


class _Ailing(MemorySink):
    """A sink that has something to say of itself."""

    name = "mqtt://broker:1883"

    def __init__(self) -> None:
        super().__init__()
        self.health = [Health("delivery stuck", "nobody there")]

    def take_health(self) -> Sequence[Health]:
        reported, self.health = self.health, []
        return reported


def test_what_a_sink_tells_of_itself_reaches_every_sink_once(classifier: Classifier) -> None:
    live, ailing, other = LiveStatistics(), _Ailing(), MemorySink()
    assert isinstance(ailing, TellsHealth)
    assert not isinstance(other, TellsHealth)
    run(FakeSource([_frame(), _frame(1)]), classifier, [other, ailing], statistics=live)
    for sink in (other, ailing):
        assert [record.to_json()["type"] for record in sink.records] == ["health", "frame", "frame"]
    (reported,) = [record for record in other.records if isinstance(record, HealthRecord)]
    assert (reported.source, reported.what) == ("mqtt://broker:1883", "delivery stuck")
    assert live.now().troubles == 1


def test_why_a_source_was_lost_is_told_before_the_end(classifier: Classifier) -> None:
    sink, camera = MemorySink(), _Camera([])

    def read() -> Frame | None:
        camera.troubles.append(Health("lost", "unplugged"))
        raise SourceLostError("the camera is gone")

    camera.read = read  # type: ignore[method-assign]
    with pytest.raises(SourceLostError):
        run(camera, classifier, [sink])
    assert _types(sink) == ["health"]


def test_a_full_sink_is_not_asked_for_last_words(classifier: Classifier) -> None:
    camera = _Camera([_frame(0)])
    camera.troubles = [Health("stalled", "x")]
    with pytest.raises(SinkError, match="full"):
        run(camera, classifier, [MemorySink(capacity=0)])


# Asked to stop


def test_an_event_that_is_set_ends_the_run_before_the_next_frame(classifier: Classifier) -> None:
    stop, sink = threading.Event(), MemorySink()

    class Stops(FakeSource):
        def read(self) -> Frame | None:
            frame = super().read()
            if frame is not None and frame.index == 2:
                stop.set()
            return frame

    source = Stops(_frame(i) for i in range(9))
    assert run(source, classifier, [sink], stop=stop).frames == 3
    rest = source.read()
    assert rest is not None
    assert rest.index == 3


def test_a_function_can_end_it_too(classifier: Classifier) -> None:
    sink = MemorySink()
    source = FakeSource(_frame(i) for i in range(9))
    assert run(source, classifier, [sink], stop=lambda: len(sink.records) == 4).frames == 4


def test_stopping_does_not_wait_for_a_slow_beat(classifier: Classifier) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    source = FakeSource(_frame(i) for i in range(9))
    run(source, classifier, [MemorySink()], stop=stop, attention=Attention(max_fps=0.01))
    assert time.monotonic() - began < 5


def test_it_can_be_watched_from_another_thread(classifier: Classifier) -> None:
    stop, live = threading.Event(), LiveStatistics()
    endless = FakeSource(_frame(i % 200, time.monotonic_ns()) for i in itertools.count())
    thread = threading.Thread(
        target=run,
        args=(endless, classifier, [MemorySink()]),
        kwargs={"statistics": live, "stop": stop},
    )
    thread.start()
    deadline_s = time.monotonic() + 30
    while live.now().frames < 20 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    now = live.now()
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert now.frames >= 20
    assert now.fps > 0
    assert now.latency_ms is not None
    assert now.age_ms is not None
    assert now.last is not None
    assert now.last.label == "3"


# Frames that are no pictures


@pytest.mark.parametrize(
    "pixels",
    [
        None,
        "text",
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3)),
    ],
    ids=["none", "text", "float", "four channels called rgb", "empty"],
)
@pytest.mark.parametrize("regions", [(), (Region(0, 0, 0.5, 0.5),)], ids=["whole", "region"])
def test_a_frame_that_is_no_picture_is_told_and_the_loop_goes_on(
    pixels: Any, regions: tuple[Region, ...], classifier: Classifier
) -> None:
    sink = MemorySink()
    script = [_frame(0), Frame(pixels, "rgb", 1, None, "broken"), _frame(200)]
    statistics = run(
        FakeSource(script),
        classifier,
        [sink],
        attention=Attention(regions=regions, motion=Motion()),
    )
    assert statistics.unreadable == 1
    assert _types(sink) == ["frame", "health", "frame"]
    health = sink.records[1]
    assert isinstance(health, HealthRecord)
    assert (health.source, health.what) == ("broken", "unreadable")


def test_a_source_that_gives_nothing_else_is_given_up(classifier: Classifier) -> None:
    sink = MemorySink()
    endless = FakeSource(Frame(None) for _ in itertools.count())  # type: ignore[arg-type]
    with pytest.raises(FrameError):
        run(endless, classifier, [sink])
    assert _types(sink) == ["health"] * BROKEN_FRAMES_MAX


@pytest.mark.parametrize(
    ("shape", "format_"),
    [((48, 64, 4), "rgba"), ((48, 64), "gray"), ((48, 64, 1), "gray"), ((72, 64), "i420")],
)
def test_cameras_of_four_channels_and_of_one_are_fine(
    shape: tuple[int, ...], format_: PixelFormat, classifier: Classifier
) -> None:
    frame = Frame(np.full(shape, 90, np.uint8), format_)
    for regions in ((), (Region(0.25, 0.25, 0.5, 0.5),)):
        attention = Attention(regions=regions, motion=Motion())
        assert run(FakeSource([frame]), classifier, [MemorySink()], attention=attention).frames == 1


# Clocks


@pytest.mark.parametrize("years", [-20, 20])
def test_a_clock_that_jumps_by_decades_changes_the_date_and_nothing_else(
    years: int, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, jumped = time.time, 0.0

    class Jumps(FakeSource):
        def read(self) -> Frame | None:
            nonlocal jumped
            frame = super().read()
            if frame is not None and frame.index == 3:
                jumped = years * 365.25 * 86400
            return frame

    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return dt.datetime.fromtimestamp(real() + jumped, tz)

    monkeypatch.setattr("edge_sdk.types.dt.datetime", Clock)
    monkeypatch.setattr(time, "time", lambda: real() + jumped)
    sink = MemorySink()
    frames = Jumps(_frame(i, time.monotonic_ns()) for i in range(8))
    statistics = run(
        frames,
        classifier,
        [sink],
        attention=Attention(max_fps=200, motion=Motion(refresh_s=1e-6)),
        decisions=Decisions(smoothing=Majority(3), events=True),
    )
    assert statistics.frames == 8
    assert 0 < statistics.seconds < 30
    answers = [record for record in sink.records if isinstance(record, FrameRecord)]
    assert all(record.age_ms is not None and 0 <= record.age_ms < 30_000 for record in answers)
    begun, ended = (dt.datetime.fromisoformat(r.ts).year for r in (answers[0], answers[-1]))
    assert abs(ended - begun) in (19, 20, 21)


# What is looked at, and what is made of it


def test_each_region_has_answers_of_its_own(classifier: Classifier) -> None:
    sink = MemorySink()
    regions = (Region(0, 0, 0.5, 1, "left"), Region(0.5, 0, 0.5, 1))
    decisions = Decisions(events=True, smoothing=Majority(3))
    attention = Attention(regions=regions)
    statistics = run(
        FakeSource(_frame(i) for i in range(2)),
        classifier,
        [sink],
        attention=attention,
        decisions=decisions,
        limit=2,
    )
    assert statistics.frames == 2
    places = [(str(r.to_json()["type"]), r.to_json().get("region")) for r in sink.records]
    right = "0.5,0,0.5,1"
    assert places == [
        *(("frame", "left"), ("event", "left"), ("frame", right), ("event", right)),
        *(("frame", "left"), ("frame", right)),
        *(("event", "left"), ("event", right)),  # what is there leaves at the end
    ]


def test_events_say_what_appeared_and_what_left(int8_artifact: Path) -> None:
    answers = iter([3, 3, 7, 7, None])

    def answer(_: Tensor) -> Tensor:
        scores = np.full((1, 10), 0.01, np.float32)
        label = next(answers)
        if label is not None:
            scores[0, label] = 0.9
        return scores

    sink = MemorySink()
    with Classifier(Artifact.open(int8_artifact), FakeEngine(answer)) as classifier:
        run(
            FakeSource(_frame(i) for i in range(5)),
            classifier,
            [sink],
            threshold=0.5,
            decisions=Decisions(events=True),
        )
    events = [record for record in sink.records if isinstance(record, EventRecord)]
    assert [(e.what, e.label) for e in events] == [
        *(("appeared", "3"), ("left", "3"), ("appeared", "7"), ("left", "7"))
    ]
    line = json.loads(json.dumps(events[1].to_json()))
    assert list(line) == ["schema", "type", "ts", "source", "what", "label", "score", "seconds"]
    assert (line["type"], line["source"]) == ("event", "frame 2")
    assert 0 <= line["seconds"] < 30


def test_what_was_there_leaves_when_the_camera_goes_away(int8_artifact: Path) -> None:
    sink = MemorySink()
    camera = _Camera([_frame(0), NoFrameYetError("x"), _frame(1)])
    read = camera.read

    def losing() -> Frame | None:
        try:
            return read()
        except NoFrameYetError:
            camera.troubles.append(Health("lost", "unplugged"))
            raise

    camera.read = losing  # type: ignore[method-assign]
    with Classifier(Artifact.open(int8_artifact), FakeEngine(_answer)) as classifier:
        run(camera, classifier, [sink], threshold=0.0, decisions=Decisions(events=True))
    reported = [record.what for record in sink.records if not isinstance(record, FrameRecord)]
    assert reported == ["appeared", "lost", "left", "appeared", "left"]


def _interrupted() -> Iterator[Frame]:
    yield _frame(0)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("source", "options", "error"),
    [
        (lambda: [_frame(0)], {}, None),
        (lambda: [_frame(0), _frame(1)], {"limit": 1}, None),
        (lambda: [_frame(0), SourceLostError("gone")], {}, SourceLostError),
        (lambda: [_frame(0), EngineError("broken")], {}, EngineError),
        (_interrupted, {}, KeyboardInterrupt),
    ],
    ids=["source-ended", "limit", "source-lost", "engine-failed", "interrupted"],
)
def test_what_is_there_leaves_however_the_run_ends(
    source: Callable[[], Iterable[Frame | Exception]],
    options: dict[str, Any],
    error: type[BaseException] | None,
    classifier: Classifier,
) -> None:
    sink, events = MemorySink(), Decisions(events=True, smoothing=Majority(3))
    with pytest.raises(error) if error else contextlib.nullcontext():
        run(FakeSource(source()), classifier, [sink], decisions=events, **options)
    (left,) = [r for r in sink.records if isinstance(r, EventRecord) and r.what == "left"]
    assert (left.label, left.score, left.source) == ("3", 0.75, "frame 0")
    assert left is sink.records[-1]


def test_what_is_there_leaves_when_the_run_is_asked_to_stop(classifier: Classifier) -> None:
    sink, stop = MemorySink(), threading.Event()

    def frames() -> Iterator[Frame]:
        yield _frame(0)
        stop.set()
        yield _frame(1)
        pytest.fail("read on after the stop")

    run(FakeSource(frames()), classifier, [sink], decisions=Decisions(events=True), stop=stop)
    assert sink.records[-1].to_json()["what"] == "left"


def test_a_sink_that_fails_does_not_keep_the_others_from_hearing_of_the_end(
    classifier: Classifier,
) -> None:
    before, full, after = MemorySink(), MemorySink(capacity=3), MemorySink()
    sinks = [before, full, after]
    with pytest.raises(SinkError, match="full"):
        run(
            FakeSource(_frame(i) for i in range(9)),
            classifier,
            sinks,
            decisions=Decisions(events=True),
        )
    for sink in (before, after):
        assert sink.records[-1].to_json()["what"] == "left"
    assert len(full.records) == 3


@pytest.mark.parametrize(
    ("decisions", "label", "topk"),
    [
        (Decisions(deny=("3",)), "7", ["7", "0"]),
        (Decisions(allow=("7", "9")), "7", ["7", "9"]),
        (Decisions(allow=("3", "7"), deny=("3",)), "7", ["7"]),
    ],
    ids=["deny", "allow", "both"],
)
def test_lists_of_labels_bound_the_answers(
    decisions: Decisions, label: str, topk: list[str], classifier: Classifier
) -> None:
    sink = MemorySink()
    run(FakeSource([_frame()]), classifier, [sink], top_k=2, decisions=decisions)
    record = _only(sink)
    assert record.label == label
    assert [ranked.label for ranked in record.topk] == topk


@pytest.mark.parametrize(
    ("decisions", "words"),
    [
        (Decisions(allow=("seven",)), "no label 'seven'"),
        (Decisions(deny=("33",)), "did you mean '3'"),
        (Decisions(deny=tuple("0123456789")), "no label is left"),
    ],
)
def test_lists_that_do_not_fit_the_model_are_refused(
    decisions: Decisions, words: str, classifier: Classifier
) -> None:
    with pytest.raises(ValueError, match=words):
        run(FakeSource([]), classifier, [], decisions=decisions)


def test_every_third_frame_is_classified_and_the_others_are_counted(
    classifier: Classifier,
) -> None:
    sink = MemorySink()
    source = FakeSource(_frame(i) for i in range(10))
    statistics = run(source, classifier, [sink], attention=Attention(every=3))
    assert (statistics.frames, statistics.skipped) == (4, 6)
    assert [r.frame for r in sink.records if isinstance(r, FrameRecord)] == [0, 3, 6, 9]


def test_at_most_so_many_per_second(classifier: Classifier) -> None:
    began = time.monotonic()
    source = FakeSource(_frame(i) for i in range(11))
    run(source, classifier, [MemorySink()], attention=Attention(max_fps=50))
    assert time.monotonic() - began >= 0.2


def test_where_nothing_moves_nothing_is_computed(int8_artifact: Path) -> None:
    engine = FakeEngine(_answer)
    with Classifier(Artifact.open(int8_artifact), engine) as classifier:
        source = FakeSource(_frame(90) for _ in range(10))
        statistics = run(
            source, classifier, [MemorySink()], attention=Attention(motion=Motion()), limit=5
        )
    assert (statistics.frames, statistics.skipped, engine.inferences) == (1, 9, 1)


def test_a_sink_that_wants_to_see_is_shown_frame_and_answer(classifier: Classifier) -> None:
    class Viewer(MemorySink):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[int, int, FrameRecord]] = []

        def see(self, frame: Frame, record: FrameRecord) -> None:
            assert self.records[-1] == record  # after it was written
            self.seen.append((frame.index, int(frame.pixels[0, 0, 0]), record))

    viewer, blind = Viewer(), MemorySink()
    assert isinstance(viewer, FrameSink)
    assert not isinstance(blind, FrameSink)
    run(FakeSource(_frame(i) for i in range(3)), classifier, [blind, viewer])
    assert [(i, p) for i, p, _ in viewer.seen] == [(0, 0), (1, 1), (2, 2)]
    assert [record for _, _, record in viewer.seen] == viewer.records


def test_smoothing_changes_the_answer_and_not_the_ranking(int8_artifact: Path) -> None:
    answers = iter([3, 3, 7, 3])

    def answer(_: Tensor) -> Tensor:
        scores = np.full((1, 10), 0.01, np.float32)
        scores[0, next(answers)] = 0.9
        return scores

    sink = MemorySink()
    with Classifier(Artifact.open(int8_artifact), FakeEngine(answer)) as classifier:
        run(
            FakeSource(_frame(i) for i in range(4)),
            classifier,
            [sink],
            decisions=Decisions(smoothing=Majority(3)),
        )
    records = [record for record in sink.records if isinstance(record, FrameRecord)]
    assert [record.label for record in records] == ["3", "3", "3", "3"]
    assert [record.topk[0].label for record in records] == ["3", "3", "7", "3"]


# Another model takes over


class _Swapped:
    """A classifier whose model is replaced, after one frame, by one with another input."""

    def __init__(self, first: Classifier, size: tuple[int, int]) -> None:
        self._first, self._frames = first, 0
        how = replace(first.artifact.preprocessing, width=size[0], height=size[1])
        self._second = replace(first.artifact, preprocessing=how)

    @property
    def artifact(self) -> Artifact:
        return self._first.artifact if self._frames < 2 else self._second

    def classify(self, frame: Frame) -> Prediction:
        self._frames += 1
        return self._first.classify(frame)


class _Sized(FakeSource):
    """A source with larger frames to give, or not."""

    def __init__(self, script: Iterable[Frame | Exception], larger: bool) -> None:
        super().__init__(script)
        self.larger = larger
        self.asked: list[tuple[int, int]] = []

    def ask_for(self, size: tuple[int, int]) -> bool:
        self.asked.append(size)
        return self.larger


def _sized(index: int, width: int, height: int) -> Frame:
    return Frame(np.zeros((height, width, 3), np.uint8), index=index, name="cam")


def test_a_larger_model_gets_larger_frames_and_none_before(classifier: Classifier) -> None:
    small, large = [_sized(i, 32, 32) for i in range(2)], [_sized(i, 64, 96) for i in range(2, 5)]
    sink, source = MemorySink(), _Sized([*small, *large], larger=True)
    statistics = run(source, _Swapped(classifier, (64, 96)), [sink])
    assert source.asked == [(64, 96)]
    assert [r.frame for r in sink.records if isinstance(r, FrameRecord)] == [0, 2, 3, 4]
    assert _types(sink) == ["frame"] * 4
    assert (statistics.frames, statistics.skipped) == (4, 1)


@pytest.mark.parametrize("kind", [FakeSource, lambda script: _Sized(script, larger=False)])
def test_a_larger_model_on_smaller_pictures_is_named_once(
    kind: Callable[[Iterable[Frame]], FakeSource], classifier: Classifier
) -> None:
    sink = MemorySink()
    source = kind(_sized(i, 32, 32) for i in range(4))
    run(source, _Swapped(classifier, (64, 24)), [sink])
    assert _types(sink) == ["frame", "frame", "health", "frame", "frame"]
    (health,) = [record for record in sink.records if isinstance(record, HealthRecord)]
    assert (health.what, health.source) == ("enlarged", "cam")
    assert "32 x 32 pixels are less than the model's 64 x 24" in health.detail


@pytest.mark.parametrize("size", [(32, 32), (16, 24)])
def test_a_model_that_needs_no_more_pixels_asks_for_none(
    size: tuple[int, int], classifier: Classifier
) -> None:
    sink, source = MemorySink(), _Sized((_sized(i, 16, 16) for i in range(4)), larger=True)
    run(source, _Swapped(classifier, size), [sink])
    assert source.asked == []
    assert _types(sink) == ["frame"] * 4


def test_every_region_of_a_frame_that_is_too_small_waits_for_a_larger_one(
    classifier: Classifier,
) -> None:
    regions = tuple(Region(x, 0, 0.25, 1, f"r{x}") for x in (0, 0.25, 0.5))
    sink = MemorySink()
    source = _Sized([_sized(0, 64, 32), _sized(1, 256, 128)], larger=True)
    run(source, _Swapped(classifier, (64, 64)), [sink], attention=Attention(regions=regions))
    frames = [r.frame for r in sink.records if isinstance(r, FrameRecord)]
    assert frames == [0, 1, 1, 1]
