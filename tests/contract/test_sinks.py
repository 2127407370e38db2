"""What every sink promises, and what lines of JSON promise besides."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import SinkError, WriteError
from edge_sdk.ports import Sink
from edge_sdk.sinks.jsonl import JsonLines
from edge_sdk.sinks.sender import Delivery, Parcel
from edge_sdk.sinks.spool import Spool
from edge_sdk.testing import MemorySink
from edge_sdk.types import ErrorRecord, FrameRecord, HealthRecord, Ranked, Record

_RECORDS: tuple[Record, ...] = (
    HealthRecord("T", "a.jpg", "unreadable", "cut off"),
    FrameRecord("T", 1, "b.jpg", "größe", 1.0, (Ranked("größe", 1.0),), 1, 2, 3, 4, None, "m"),
    ErrorRecord("c.jpg", "two\nlines"),
)


@dataclass(frozen=True)
class _Case:
    """A sink, and how to see what arrived."""

    sink: Sink
    arrived: Callable[[], list[dict[str, Any]]]


def _lines(text: str) -> list[dict[str, Any]]:
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


class _Receiver:
    """What a spool delivers to."""

    window = 2

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        self.bodies += [json.loads(parcel.body) for parcel in parcels]
        return Delivery(tuple(parcel.seq for parcel in parcels))

    def close(self) -> None:
        """Nothing to take leave of."""


def _spool(path: Path) -> _Case:
    receiver = _Receiver()
    spool = Spool(path, receiver, device="door", linger_s=30)

    def arrived() -> list[dict[str, Any]]:
        end = time.monotonic() + 30
        while spool.statistics.depth and time.monotonic() < end:
            time.sleep(0.01)
        added = ("device", "boot_id", "seq")
        return [{k: v for k, v in b.items() if k not in added} for b in receiver.bodies]

    return _Case(spool, arrived)


_KINDS = ("file", "rotating", "stream", "stdout", "memory", "spool")


@pytest.fixture(params=_KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Case:
    if request.param == "memory":
        memory = MemorySink()
        return _Case(memory, lambda: [record.to_json() for record in memory.records])
    stream = io.StringIO()
    if request.param == "spool":
        return _spool(tmp_path / "a.spool")
    if request.param == "stream":
        return _Case(JsonLines(stream), lambda: _lines(stream.getvalue()))
    if request.param == "stdout":
        monkeypatch.setattr(sys, "stdout", stream)
        return _Case(JsonLines(), lambda: _lines(stream.getvalue()))
    path = tmp_path / "a.jsonl"
    if request.param == "rotating":
        files = [path.with_name("a.jsonl.2"), path.with_name("a.jsonl.1"), path]
        return _Case(
            JsonLines(path, max_bytes=60),
            lambda: _lines("".join(f.read_text("utf-8") for f in files if f.exists())),
        )
    return _Case(JsonLines(path), lambda: _lines(path.read_text("utf-8")))


def test_it_is_a_sink(case: _Case) -> None:
    assert isinstance(case.sink, Sink)
    case.sink.close()


def test_records_arrive_in_order_before_the_sink_is_closed(case: _Case) -> None:
    for record in _RECORDS:
        case.sink.write(record)
    assert case.arrived() == [record.to_json() for record in _RECORDS]
    case.sink.close()


def test_after_close_a_record_is_refused_and_nothing_is_lost(case: _Case) -> None:
    case.sink.write(_RECORDS[0])
    case.sink.close()
    with pytest.raises(SinkError, match="closed"):
        case.sink.write(_RECORDS[1])
    assert case.arrived() == [_RECORDS[0].to_json()]


def test_what_is_sent_away_names_files_without_their_folders(tmp_path: Path) -> None:
    case = _spool(tmp_path / "a.spool")
    case.sink.write(HealthRecord("T", "/secret/a.jpg", "unreadable", "no room in /secret/b/c.jpg"))
    (arrived,) = case.arrived()
    assert (arrived["source"], arrived["detail"]) == ("a.jpg", "no room in c.jpg")
    case.sink.close()


def test_closing_twice_is_closing_once(case: _Case) -> None:
    case.sink.write(_RECORDS[0])
    case.sink.close()
    case.sink.close()
    assert case.arrived() == [_RECORDS[0].to_json()]


@pytest.mark.parametrize(
    "make", [lambda: JsonLines("/dev/full"), lambda: MemorySink(0)], ids=["json-lines", "memory"]
)
def test_a_sink_without_room_says_so_and_can_be_closed(make: Callable[[], Sink]) -> None:
    full = make()
    with pytest.raises(SinkError):
        full.write(_RECORDS[0])
    full.close()
    with pytest.raises(SinkError, match="closed"):
        full.write(_RECORDS[0])


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for record in _RECORDS:
        sink = JsonLines(str(path))
        sink.write(record)
        sink.close()
    assert _lines(path.read_text("utf-8")) == [record.to_json() for record in _RECORDS]


def test_a_stream_that_was_passed_in_is_left_open() -> None:
    stream = io.StringIO()
    JsonLines(stream).close()
    assert not stream.closed


def test_letters_beyond_ascii_stay_readable(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "a.jsonl")
    sink.write(_RECORDS[1])
    sink.close()
    assert "größe" in (tmp_path / "a.jsonl").read_text("utf-8")


def test_a_file_name_that_is_no_utf8_is_written_all_the_same(tmp_path: Path) -> None:
    name = os.fsdecode(b"m\xfcnchen.jpg")
    sink = JsonLines(tmp_path / "a.jsonl")
    try:
        sink.write(ErrorRecord(name, "cut off"))
    finally:
        sink.close()
    (line,) = (tmp_path / "a.jsonl").read_bytes().splitlines()
    assert "nchen.jpg" in json.loads(line)["path"]


def test_a_terminal_without_the_letters_gets_the_line_all_the_same() -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    JsonLines(terminal).write(_RECORDS[1])
    assert json.loads(terminal.buffer.getvalue())["label"] == "größe"  # type: ignore[attr-defined]


@pytest.mark.parametrize("where", [".", "missing/a.jsonl"], ids=["a-folder", "a-missing-folder"])
def test_a_file_that_cannot_be_opened_is_named(where: str, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="cannot be opened"):
        JsonLines(tmp_path / where)


def test_a_reader_that_has_gone_is_a_broken_pipe() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8")
    try:
        with pytest.raises(BrokenPipeError):
            JsonLines(stream).write(_RECORDS[0])
    finally:
        with contextlib.suppress(BrokenPipeError):
            stream.close()
