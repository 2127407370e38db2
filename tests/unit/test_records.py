"""The lines that sinks write: every key, and nothing that JSON cannot say."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from edge_sdk.types import (
    ClassificationRecord,
    ErrorRecord,
    EventKind,
    EventRecord,
    FrameRecord,
    HealthKind,
    HealthRecord,
    Prediction,
    Ranked,
    Record,
    Timing,
    public_json,
    public_text,
    utc_now,
)

_ROOT = Path(__file__).parents[2]
_TOP = (Ranked("fox", 0.75), Ranked("owl", 0.25))
# Each record with the line that it has always been: readers keep to these.
_LINES: dict[str, tuple[Record, str]] = {
    "frame": (
        FrameRecord("T", 7, "camera", "fox", 0.75, _TOP, 1.5, 2.5, 3.5, 4.5, 6.5, "m.tflite"),
        (
            '{"schema": 1, "type": "frame", "ts": "T", "frame": 7, "source": "camera", "label": "fox", '
            '"score": 0.75, "topk": [{"label": "fox", "score": 0.75}, {"label": "owl", "score": 0.25}], '
            '"latency_ms": {"capture": 1.5, "preprocess": 2.5, "inference": 3.5, "postprocess": 4.5}, '
            '"age_ms": 6.5, "model": "m.tflite"}'
        ),
    ),
    "frame of a region": (
        FrameRecord(
            "T", 8, "camera", None, 0.25, _TOP[1:], 0.0, 2.5, 3.5, 4.5, None, "m.tflite", "door"
        ),
        (
            '{"schema": 1, "type": "frame", "ts": "T", "frame": 8, "source": "camera", "label": null, '
            '"score": 0.25, "topk": [{"label": "owl", "score": 0.25}], "latency_ms": {"capture": 0.0, '
            '"preprocess": 2.5, "inference": 3.5, "postprocess": 4.5}, "age_ms": null, '
            '"model": "m.tflite", "region": "door"}'
        ),
    ),
    "event": (
        EventRecord("T", "camera", "appeared", "fox", 0.75, 0.0),
        (
            '{"schema": 1, "type": "event", "ts": "T", "source": "camera", "what": "appeared", '
            '"label": "fox", "score": 0.75, "seconds": 0.0}'
        ),
    ),
    "event of a region": (
        EventRecord("T", "camera", "left", "fox", 0.875, 2.5, "door"),
        (
            '{"schema": 1, "type": "event", "ts": "T", "source": "camera", "what": "left", '
            '"label": "fox", "score": 0.875, "seconds": 2.5, "region": "door"}'
        ),
    ),
    "health": (
        HealthRecord("T", "a.jpg", "unreadable", "cut off"),
        (
            '{"schema": 1, "type": "health", "ts": "T", "source": "a.jpg", "what": "unreadable", '
            '"detail": "cut off"}'
        ),
    ),
    "classification": (
        ClassificationRecord("a.jpg", None, 0.75, _TOP[:1]),
        (
            '{"schema": 1, "type": "classification", "path": "a.jpg", "label": null, "score": 0.75, '
            '"topk": [{"label": "fox", "score": 0.75}]}'
        ),
    ),
    "error": (
        ErrorRecord("a.jpg", "cut off"),
        '{"schema": 1, "type": "error", "path": "a.jpg", "error": "cut off"}',
    ),
}


@pytest.mark.parametrize(("record", "line"), _LINES.values(), ids=_LINES)
def test_a_record_is_this_line(record: Record, line: str) -> None:
    assert json.dumps(record.to_json()) == line
    assert record.type == json.loads(line)["type"]


def test_every_kind_of_health_and_event_is_documented() -> None:
    documented = set(re.findall(r"`([a-z ]+)`", (_ROOT / "docs" / "json.md").read_text("utf-8")))
    assert {*get_args(HealthKind), *get_args(EventKind)} <= documented


@pytest.mark.parametrize(
    ("threshold", "label"), [(0.0, "owl"), (0.9, None)], ids=["known", "unknown"]
)
def test_a_classification_repeats_the_prediction(threshold: float, label: str | None) -> None:
    scores = np.array([0.25, 0.75], np.float32)
    prediction = Prediction(0, scores, ("fox", "owl"), Timing(1, 2, 3), threshold)
    record = ClassificationRecord.of("a.jpg", prediction, 1)
    assert record == ClassificationRecord("a.jpg", label, 0.75, (Ranked("owl", 0.75),))


def test_the_time_is_utc_to_the_millisecond() -> None:
    before = dt.datetime.now(dt.UTC) - dt.timedelta(milliseconds=1)
    text = utc_now()
    assert before <= dt.datetime.fromisoformat(text) <= dt.datetime.now(dt.UTC)
    assert text.endswith("+00:00")
    assert len(text) == len("2025-01-01T00:00:00.000+00:00")


_PRIVATE = "/home/Jane Doe/private"


@pytest.mark.parametrize(
    "record",
    [
        FrameRecord(
            "T", 7, f"{_PRIVATE}/a.jpg", "/m/cat", 0.75, _TOP, 1, 2, 3, 4, 5, f"{_PRIVATE}/a.tflite"
        ),
        EventRecord("T", f"fake:{_PRIVATE}?fps=30", "left", "/m/cat", 0.9, 2.5),
        HealthRecord(
            "T", "camera", "model refused", f"the old one goes on: {_PRIVATE}/a.tflite: no"
        ),
        HealthRecord(
            "T", "camera", "picture not kept", f"[Errno 28] No space: '{_PRIVATE}/a b.jpg'"
        ),
        ClassificationRecord(f"{_PRIVATE}/a.jpg", "/m/cat", 0.9, ()),
        ErrorRecord(f"{_PRIVATE}/a.jpg", f"cannot be read ({_PRIVATE}: Permission denied)"),
    ],
)
def test_a_record_that_leaves_this_machine_names_no_folder(record: Record) -> None:
    public = public_json(record)
    text = json.dumps(public)
    assert "home" not in text
    assert "Jane" not in text
    assert public.keys() == record.to_json().keys()
    assert public.get("label", "/m/cat") == "/m/cat"  # no path, whatever it looks like


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("photos/a.jpg", "a.jpg"),
        ("fake:/home/x/photos?fps=30&stall@100", "fake:photos?fps=30&stall@100"),
        ("/dev/video0", "/dev/video0"),
        ("rtsp://***@camera/live/1", "rtsp://***@camera/live/1"),
        ("picamera:0", "picamera:0"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("", ""),
    ],
)
def test_a_path_becomes_a_name_and_other_sources_stay(source: str, expected: str) -> None:
    assert public_json(HealthRecord("T", source, "lost", ""))["source"] == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("/a/b.tflite: 1f2 -> 3c4; other labels: 3 instead of 2", None),
        ("see http://host/a/b.jpg and /etc/x/y", "see http://host/a/b.jpg and y"),
        ("rtsp://camera/live.sdp: the stream broke off", "rtsp://camera/live.sdp: the stream broke off"),
        ("/dev/v4l/by-id/usb-cam: unplugged", "/dev/v4l/by-id/usb-cam: unplugged"),
        ("cat/dog at 3/4 of 2.5/s", "cat/dog at 3/4 of 2.5/s"),
        ("~/m.tflite and ../x/m.tflite", "m.tflite and m.tflite"),
    ],
)  # fmt: skip
def test_a_sentence_keeps_everything_but_folders(sentence: str, expected: str | None) -> None:
    assert public_text(sentence) == (sentence[3:] if expected is None else expected)
