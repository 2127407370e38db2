"""A benchmark's JSON: the keys that were promised, and reading it back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.bench.results import (
    Age,
    Energy,
    Failure,
    OperatorProfile,
    OperatorTime,
    Samples,
    Sustained,
    ThreadPoint,
    Window,
    parse_benchmark,
    read_benchmark,
)
from edge_sdk.errors import BaselineError
from tests.unit.bench.made_benchmarks import benchmark, model, session

_PROMISED = {
    *("path", "sha256", "backend", "threads", "runs", "warmup", "latency_ms", "stages_ms"),
    *("load_ms", "first_ms", "cold_start_ms", "peak_rss_mb", "size_bytes", "throughput_fps"),
    *("valid", "invalid_reasons"),
}


def _full() -> dict[str, Any]:
    """Everything that can be in it, as JSON."""
    measured = replace(
        model(session((0,), 4.0)),
        cold_start_ms=90.0,
        cold_starts_ms=(89.0, 90.0, 120.0),
        peak_rss_mb=52.5,
        scaling=(ThreadPoint(1, 100, 4.1, (4.0, 4.2), 240.0),),
        operators=OperatorProfile((OperatorTime(0, "CONV_2D", "x", 1.0, 1.0),), 1.0, 1.1, "some"),
        sustained=Sustained(60.0, (Window(0.0, 10, 4.0, 250.0, None, 60.5),), 0.0),
        energy=Energy("intel-rapl:0 package-0", 5.0, 100, 0.01, 9.0, 4.0),
        age=Age("fake:x", 2, 1.0, 0, 1, 0, (101.0, 102.0), (33.0, 33.0)),
        notes=("a note",),
    )
    whole = replace(
        benchmark(measured),
        failed=(Failure("b.tflite", "cpu", 1, "CorruptArtifactError", "damaged"),),
        valid=False,
        invalid_reasons=("overloaded",),
        complete=False,
    )
    return json.loads(json.dumps(whole.to_json()))


def test_it_has_the_keys_that_were_promised() -> None:
    content = _full()
    assert content["schema"] == 1
    assert content["type"] == "benchmark"
    (entry,) = content["models"]
    assert set(entry) >= _PROMISED
    assert set(entry["latency_ms"]) >= {"min", "p50", "p90", "p95", "p99", "max", "mean", "std"}
    assert set(entry["stages_ms"]) == {"preprocess", "inference", "postprocess"}
    assert entry["runs"] == len(entry["samples"]["inference_ms"]) == 480
    assert (
        entry["latency_ms"]["ci95"][0] < entry["latency_ms"]["p50"] < entry["latency_ms"]["ci95"][1]
    )
    assert entry["throughput_fps"] == pytest.approx(1000 / entry["latency_ms"]["mean"])
    assert entry["age_ms"]["p50"] == 101.5
    assert content["complete"] is False


def test_what_is_read_back_says_the_same(tmp_path: Path) -> None:
    content = _full()
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    again = read_benchmark(tmp_path / "a.json")
    told = json.loads(json.dumps(again.to_json()))
    assert told["models"][0]["samples"] == content["models"][0]["samples"]
    assert told["machine"] == content["machine"]
    assert parse_benchmark(json.loads(json.dumps(again.to_json())), "again") == again
    assert again.models[0].operators is not None
    assert again.machine.board == "Raspberry Pi 4 Model B Rev 1.4"


def test_a_model_without_a_single_run_has_no_latency() -> None:
    content = benchmark(model(Samples())).to_json()["models"][0]
    assert content["runs"] == 0
    assert content["latency_ms"] is content["throughput_fps"] is None


def test_unknown_keys_are_ignored() -> None:
    content = _full()
    content["models"][0]["new"] = content["new"] = 1
    assert parse_benchmark(content, "x").models[0].name == "digits_int8"


def _without(content: dict[str, Any], key: str) -> dict[str, Any]:
    del content["models"][0][key]
    return content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: {**c, "schema": 2}, "schema 2"),
        (lambda c: {**c, "type": "validation"}, "'validation'"),
        (lambda _: [], "'list'"),
        (lambda c: _without(c, "sha256"), "models[0].sha256 is missing"),
        (lambda c: {**c, "models": 3}, "models must be a list"),
        (lambda c: {**c, "machine": {}}, "machine.board is missing"),
        (lambda c: c["models"][0]["samples"].update(block=[1]) or c, "different lengths"),
        (
            lambda c: c["models"][0].update(threads=True) or c,
            "threads must be a whole number, got True",
        ),
        (lambda c: c["models"][0].update(input_px=[1]) or c, "input_px must have 2 entries, got 1"),
        (
            lambda c: c["models"][0].update(load_ms="fast") or c,
            "load_ms must be a number, got 'fast'",
        ),
    ],
)
def test_what_is_no_benchmark_is_refused_and_says_why(change: Any, said: str) -> None:
    with pytest.raises(BaselineError) as caught:
        parse_benchmark(change(_full()), "old.json")
    assert said in str(caught.value)
    assert "old.json" in str(caught.value)
    assert "edgecls bench" in str(caught.value)


def test_another_schema_can_be_tried_all_the_same() -> None:
    assert parse_benchmark({**_full(), "schema": 2}, "old.json", any_schema=True).models


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="cannot be read"):
        read_benchmark(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"schema": 1', encoding="utf-8")
    with pytest.raises(BaselineError, match="not JSON"):
        read_benchmark(tmp_path / "half.json")
