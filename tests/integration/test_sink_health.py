"""A receiver that is unreachable, reported by every other sink: line, page and metric."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from pathlib import Path

import pytest

from edge_sdk import Classifier, FakeCamera, JsonLines, LiveStatistics, run
from edge_sdk.sinks import metrics, spool
from edge_sdk.sinks.metrics import open_metrics
from edge_sdk.sinks.web.live import Live
from edge_sdk.sinks.web.sink import open_web
from edge_sdk.sinks.webhook import open_webhook


def test_a_server_that_is_away_is_told_by_line_page_and_metric(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_STUCK_S", 0.0)
    with socket.socket() as taken:  # a port without a listener
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        lines, live = tmp_path / "lines.jsonl", LiveStatistics()
        hook = open_webhook(f"http://127.0.0.1:{port}/x", spool_path=tmp_path / "x.spool")
        page = open_web("0", live)
        sinks = [JsonLines(lines), hook, page]
        if metrics.prometheus is not None:  # the slim installation has none
            sinks.append(open_metrics("0"))

        def reported() -> bool:
            return live.now().troubles > 0 or time.monotonic() > end

        end = time.monotonic() + 30
        with Classifier.open(int8_artifact) as classifier:
            run(
                FakeCamera(digit_pictures, "fps=50"),
                classifier,
                sinks,
                stop=reported,
                statistics=live,
            )
        shown = json.loads(_page(page._live))
        (happened,) = shown["happened"]
        text = ""
        if metrics.prometheus is not None:
            with urllib.request.urlopen(f"http://127.0.0.1:{sinks[-1].port}/metrics") as answer:  # type: ignore[attr-defined]
                text = answer.read().decode()
        for sink in sinks:
            sink.close()
    records = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    (record,) = [record for record in records if record["type"] == "health"]
    assert record["source"] == f"http://127.0.0.1:{port}"
    assert record["what"] == "delivery stuck"
    assert "no answer" in record["detail"]
    assert happened == record
    if text:
        assert 'edgecls_health_total{what="delivery stuck"} 1.0' in text


def _page(live: Live) -> bytes:
    return live.wait("", 0, 1.0).state
