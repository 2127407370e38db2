"""Metrics, scraped for real."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra [metrics] is not installed")

from prometheus_client.parser import text_string_to_metric_families

from edge_sdk.errors import SinkSpecError, WriteError
from edge_sdk.sinks.metrics import Metrics, open_metrics
from edge_sdk.sinks.spool import SpoolStatistics
from edge_sdk.types import ErrorRecord, FrameRecord, HealthRecord, Ranked


def _frame(label: str | None, age_ms: float | None = None) -> FrameRecord:
    top = (Ranked(label or "x", 0.9),)
    return FrameRecord("T", 1, "cam", label, 0.9, top, 1, 2, 40.0, 4, age_ms, "m")


def _scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def sink() -> Iterator[Metrics]:
    spools = {"mqtt": lambda: SpoolStatistics(3, 4096, 10, 2, 1, 5, "away", None)}
    metrics = open_metrics("0", dropped=lambda: 7, spools=spools)
    yield metrics
    metrics.close()


def test_what_is_counted(sink: Metrics) -> None:
    for label in ("cat", "cat", None):
        sink.write(_frame(label, age_ms=60))
    sink.write(HealthRecord("T", "cam", "black", "x"))
    sink.write(ErrorRecord("a", "b"))
    found = _scrape(sink.port)
    assert found["edgecls_frames_total", ()] == 3
    assert found["edgecls_answers_total", (("label", "cat"),)] == 2
    assert found["edgecls_answers_total", (("label", "(unknown)"),)] == 1
    assert found["edgecls_health_total", (("what", "black"),)] == 1
    assert found["edgecls_records_total", (("type", "error"),)] == 1
    assert found["edgecls_dropped_frames_total", ()] == 7
    stage = ("stage", "inference")
    assert found["edgecls_stage_seconds_bucket", (("le", "0.03"), stage)] == 0
    assert found["edgecls_stage_seconds_bucket", (("le", "0.05"), stage)] == 3
    assert found["edgecls_stage_seconds_sum", (stage,)] == pytest.approx(0.12)
    assert found["edgecls_decision_age_seconds_count", ()] == 3
    assert found["edgecls_last_frame_timestamp_seconds", ()] == pytest.approx(time.time(), abs=60)
    assert found["edgecls_spool_records", (("sink", "mqtt"),)] == 3
    assert found["edgecls_spool_bytes", (("sink", "mqtt"),)] == 4096
    assert found["edgecls_spool_stuck", (("sink", "mqtt"),)] == 1
    for how, count in (("delivered", 10), ("dropped", 2), ("refused", 1), ("unwritten", 5)):
        assert found["edgecls_spool_finished_total", (("how", how), ("sink", "mqtt"))] == count
    assert found["process_resident_memory_bytes", ()] > 1e6


@pytest.mark.parametrize("label", ['a"} 1\nevil_total{x="', "\\", "größe\n", "<b>", "m\udcfcn", ""])
def test_a_hostile_label_stays_a_label(sink: Metrics, label: str) -> None:
    sink.write(_frame(label))
    found = _scrape(sink.port)
    assert not any(name.startswith("evil") for name, _ in found)
    expected = label.encode("utf-8", "backslashreplace").decode()
    assert found["edgecls_answers_total", (("label", expected),)] == 1


def test_many_labels_are_counted_together(sink: Metrics) -> None:
    for i in range(250):
        sink.write(_frame(f"label {i}"))
    found = _scrape(sink.port)
    answers = {labels: v for (name, labels), v in found.items() if name == "edgecls_answers_total"}
    assert len(answers) == 101
    assert answers[("label", "(others)"),] == 150


@pytest.mark.parametrize("years", [-20, 20])
def test_a_clock_that_jumps_leaves_the_histograms_alone(
    years: int, sink: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    sink.write(_frame("cat"))
    monkeypatch.setattr(time, "time", lambda: now() + years * 365 * 86400)
    sink.write(_frame("cat"))
    found = _scrape(sink.port)
    assert found["edgecls_stage_seconds_sum", (("stage", "inference"),)] == pytest.approx(0.08)


def test_a_reader_that_hangs_holds_up_neither_the_loop_nor_the_end() -> None:
    metrics = Metrics(port=0)
    with socket.create_connection(("127.0.0.1", metrics.port)) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        metrics.write(_frame("cat"))
        assert _scrape(metrics.port)["edgecls_frames_total", ()] == 1
        closing = threading.Thread(target=metrics.close, daemon=True)
        closing.start()
        closing.join(5)
        assert not closing.is_alive()


def test_idle_connections_take_eight_threads_at_most(sink: Metrics) -> None:
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", sink.port), timeout=20))
        assert _scrape(sink.port)["edgecls_frames_total", ()] == 0
        assert threading.active_count() <= before + 8


def test_a_get_with_a_body_gets_one_reply(sink: Metrics) -> None:
    inner = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", sink.port), timeout=20) as connection:
        head = f"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: {len(inner)}\r\n\r\n"
        connection.sendall(head.encode() + inner)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            received = file.read()
    assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("path", "status"), [("/metrics", 200), ("/", 200), ("/metrics?x", 200), ("/else", 404)]
)
def test_where_the_numbers_are(sink: Metrics, path: str, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=20)
    connection.request("GET", path, headers={"Accept": "application/openmetrics-text"})
    answer = connection.getresponse()
    assert answer.status == status
    kind = "application/openmetrics-text" if status == 200 else "application/json"
    assert answer.headers["Content-Type"].startswith(kind)
    connection.close()


def test_it_listens_on_this_machine_alone_unless_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = Metrics(port=0)
    assert own._server.host == "127.0.0.1"
    own.close()
    open_metrics("LOCALHOST:0").close()
    assert caplog.text == ""
    everywhere = open_metrics("0.0.0.0:0")
    everywhere.close()
    assert "every host that can reach this address" in caplog.text


def test_after_close_nobody_listens_and_a_record_is_refused(sink: Metrics) -> None:
    sink.close()
    sink.close()
    with pytest.raises(WriteError, match="closed"):
        sink.write(_frame("cat"))
    with pytest.raises(urllib.error.URLError):
        _scrape(sink.port)


def test_a_port_that_is_taken_is_named(sink: Metrics) -> None:
    with pytest.raises(WriteError, match=f"127.0.0.1:{sink.port}: cannot listen"):
        Metrics(port=sink.port)


@pytest.mark.parametrize("place", ["", "localhost", ":", ":80", "a:b", "1.2.3.4:99999", "-1", "²"])
def test_places_that_are_none(place: str) -> None:
    with pytest.raises(SinkSpecError, match="expected HOST:PORT"):
        open_metrics(place)


@pytest.mark.parametrize("place", ["192.0.2.1:9464", "no.such.host.invalid:9464"])
def test_an_address_of_another_machine(place: str, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="cannot listen there"):
        open_metrics(place)
