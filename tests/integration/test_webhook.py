"""Results to a real web server."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import DeliveryError, SinkSpecError
from edge_sdk.sinks.sender import Parcel
from edge_sdk.sinks.spool import Spool
from edge_sdk.sinks.webhook import WebhookSender, open_webhook
from edge_sdk.types import ErrorRecord
from tests.integration.receivers import (
    DripServer,
    SendingProcess,
    WebServer,
    drops,
    free_port,
    sending,
    until,
)

_STATUSES = (
    *(200, 201, 202, 206, 299, 301, 302, 307, 308),
    *(*range(400, 419), *range(421, 430), 431, 451, 499, 500, 501, 502, 503, 504, 507, 599),
)


def _open(port: int, folder: Path, path: str = "/hook", **options: Any) -> Spool:
    url = f"http://127.0.0.1:{port}{path}"
    return open_webhook(url, device="door", spool_path=folder / "w.spool", **options)


def _write(sink: Spool, count: int) -> None:
    for i in range(count):
        sink.write(ErrorRecord(str(i), "größe"))


def _done(sink: Spool, seconds: float = 30.0) -> None:
    until(lambda: sink.statistics.depth == 0, seconds, "the delivery")


def _paths(server: WebServer) -> list[int]:
    return [int(body["path"]) for body in server.bodies()]


def test_each_record_is_one_post_over_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECLS_WEBHOOK_TOKEN", "t0ken")
    with WebServer() as server:
        sink = _open(server.port, tmp_path, "/hook/a?b=c")
        _write(sink, 20)
        _done(sink)
        sink.close()
        assert _paths(server) == list(range(20))
        assert server.connections == 1
    headers, body = server.requests[0]
    assert headers["Authorization"] == "Bearer t0ken"
    assert headers["Content-Type"] == "application/json"
    assert headers[":path"] == "/hook/a?b=c"
    assert headers["Idempotency-Key"] == f"door:{body['boot_id']}:{body['seq']}"
    assert body["error"] == "größe"


def test_what_is_refused_is_dropped_and_what_must_wait_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.retry.FIRST_S", 0.05)
    with WebServer(200, 400, 500, 404, 410, 401, 302, 422) as server:
        sink = _open(server.port, tmp_path)
        _write(sink, 4)
        _done(sink, 60)
        statistics = sink.statistics
        sink.close()
    # 0 is taken, 1 refused, 2 waits five times and is refused in the end, 3 is taken.
    assert _paths(server) == [0, 1, 2, 2, 2, 2, 2, 2, 3]
    assert (statistics.delivered, statistics.refused) == (2, 2)
    keys = [headers["Idempotency-Key"] for headers, _ in server.requests]
    assert len(set(keys[2:8])) == 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (403, "check the token"),
        (404, "check the address"),
        (301, "redirects"),
        (502, "502"),
    ],
)
def test_why_nothing_is_delivered_is_said_without_secrets(
    status: int, advice: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with WebServer(*[status] * 50) as server:
        sink = _open(server.port, tmp_path, "/services/s3cret?key=s3cret")
        _write(sink, 1)
        until(lambda: advice in sink.statistics.trouble, 20)
        assert "s3cret" not in sink.statistics.trouble + caplog.text
        sink.close()
    assert sink.statistics.depth == 1


def test_only_what_is_wrong_with_the_record_is_final() -> None:
    """The whole policy, status by status; the pauses in between are ``Pauses``, tested as arithmetic."""
    answers: dict[int, str] = {}
    parcel = Parcel(1, "error", b"{}", "k")
    with WebServer(*_STATUSES) as server:
        sender = WebhookSender(f"http://127.0.0.1:{server.port}/hook")
        for status in _STATUSES:
            try:
                done = sender.deliver([parcel])
                answers[status] = "taken" if done.acknowledged else "final"
            except DeliveryError:
                answers[status] = "later"
        sender.close()
    assert {s for s, answer in answers.items() if answer == "taken"} == {200, 201, 202, 206, 299}
    assert {s for s, answer in answers.items() if answer == "final"} == {400, 413, 415, 422}


def test_the_server_says_how_long_to_wait(tmp_path: Path) -> None:
    def busy(handler: Any) -> None:
        handler.send_response(429)
        handler.send_header("Retry-After", "2")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with WebServer(busy) as server:
        sink = _open(server.port, tmp_path)
        began = time.monotonic()
        _write(sink, 1)
        _done(sink)
        assert time.monotonic() - began >= 1.9
        sink.close()
    assert _paths(server) == [0, 0]


def test_a_server_that_never_answers_is_given_up_and_asked_again(tmp_path: Path) -> None:
    with WebServer(lambda _: time.sleep(1.5)) as server:
        sink = _open(server.port, tmp_path, timeout_s=0.3)
        _write(sink, 3)
        until(lambda: "no answer (timed out)" in sink.statistics.trouble, 20)
        _done(sink)
        sink.close()
    assert sorted(set(_paths(server))) == [0, 1, 2]


def test_a_server_that_never_answers_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with WebServer(lambda _: time.sleep(4)) as server:
        sink = _open(server.port, tmp_path, timeout_s=3.0)
        _write(sink, 3)
        until(lambda: bool(server.requests), 20)
        began = time.monotonic()
        sink.close()
        assert time.monotonic() - began < 1.9
        sink._thread.join()


_PARCEL = Parcel(1, "frame", b"{}", "key")
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        # Each of them ends well after some five seconds, for who has that long.
        drops(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 60 + b"\r\nContent-Length: 0\r\n\r\n"),
        [b"HTTP/1.1 100 Continue\r\n\r\n"] * 100 + [_OK],
        [b""] * 100 + [_OK],
    ],
    ids=["head", "continue", "nothing"],
)
def test_an_answer_that_drips_has_one_limit_in_all(pieces: list[bytes]) -> None:
    with DripServer(pieces, 0.05) as server:
        sender = WebhookSender(f"http://127.0.0.1:{server.port}/", timeout_s=1.0)
        with pytest.raises(DeliveryError, match=r"no answer \(timed out\)"):
            sender.deliver([_PARCEL])
        assert server.connections == 1  # nor is it asked a second time within the same limit
        sender.close()


@pytest.mark.parametrize(
    "answers",
    [
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + _OK,
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n" + _OK * 3,
    ],
    ids=["interim", "surplus"],
)
def test_an_answer_that_is_left_over_acknowledges_nothing(answers: bytes) -> None:
    with DripServer(drops(answers), 0.0) as server:
        sender = WebhookSender(f"http://127.0.0.1:{server.port}/", timeout_s=20.0)
        for number in (1, 2):
            with pytest.raises(DeliveryError, match=r"the server answers [15]0"):
                sender.deliver([_PARCEL])
            time.sleep(0.2)  # the rest of it arrives
            assert server.connections <= number
        sender.close()


def test_a_body_that_drips_does_not_hold_up_what_its_status_has_said() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with DripServer([head, *drops(b"a" * 100)], 0.05) as server:
        sender = WebhookSender(f"http://127.0.0.1:{server.port}/", timeout_s=60.0)
        for number in (1, 2):
            assert sender.deliver([_PARCEL]).acknowledged == (1,)
            assert server.connections == number  # a connection with half an answer is not kept
        sender.close()


def test_a_certificate_that_drips_has_the_same_limit() -> None:
    with DripServer(drops(b"\x16\x03\x03\x00\x50" + bytes(80)), 0.05) as server:
        sender = WebhookSender(f"https://127.0.0.1:{server.port}/", timeout_s=1.0)
        with pytest.raises(DeliveryError, match="timed out"):
            sender.deliver([_PARCEL])
        sender.close()


def test_a_black_hole_is_known_before_the_attempt_has_failed(tmp_path: Path) -> None:
    with DripServer([b""] * 100, 0.2) as server:
        sink = _open(server.port, tmp_path, timeout_s=60.0)
        _write(sink, 1)
        until(lambda: sink.statistics.unanswered_s > 0.5, 20)
        assert sink.statistics.trouble == ""
        sink.close()


def test_garbage_for_an_answer_is_an_answer_that_did_not_come(tmp_path: Path) -> None:
    def garbage(handler: Any) -> None:
        handler.wfile.write(b"\x00\xff no http\r\n\r\n")
        handler.close_connection = True

    with WebServer(garbage) as server:
        sink = _open(server.port, tmp_path)
        _write(sink, 2)
        _done(sink)
        sink.close()
    assert _paths(server) == [0, 0, 1]


def test_a_connection_that_the_server_closed_is_opened_again_at_once(tmp_path: Path) -> None:
    def hang_up(handler: Any) -> None:
        handler.send_response(204)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)  # without a word, as after an idle time
        handler.close_connection = True

    with WebServer(*[hang_up] * 5) as server:
        sink = _open(server.port, tmp_path)
        _write(sink, 6)
        _done(sink)
        assert sink.statistics.trouble == ""
        sink.close()
    assert _paths(server) == list(range(6))


def test_a_server_that_restarts_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    sink = _open(port, tmp_path)
    _write(sink, 5)
    until(lambda: "no answer" in sink.statistics.trouble, 20)
    with WebServer(port=port) as server:
        _done(sink)
        assert _paths(server) == list(range(5))
        sink.close()


def test_a_killed_sender_loses_nothing(tmp_path: Path) -> None:
    with WebServer() as server:
        url = f"http://127.0.0.1:{server.port}/"
        with sending(SendingProcess("webhook", url, tmp_path, 0, 2000, 0.002)) as sender:
            until(lambda: len(server.requests) > 300)
            start = sender.kill()
        with sending(SendingProcess("webhook", url, tmp_path, start, 2001, 0)) as sender:
            assert sender.process.wait(120) == 0
            written = sender.written()
        bodies = server.bodies()
    keys = Counter((body["device"], body["boot_id"], body["seq"]) for body in bodies)
    assert {int(body["path"]) for body in bodies} >= set(written)
    assert len(written) >= 2000
    assert len(bodies) - len(keys) <= 1  # the window


def test_https_trusts_the_named_authority_and_nobody_else(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme", reason="the extra [host] is not installed")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = WebServer()
    server.encrypt(context)
    with server:
        url = f"https://127.0.0.1:{server.port}/"
        sink = open_webhook(url, device="door", spool_path=tmp_path / "w")
        _write(sink, 1)
        until(lambda: "not trusted" in sink.statistics.trouble, 20)
        sink.close()
        ca = tmp_path / "ca.pem"
        sink = open_webhook(url, device="door", spool_path=tmp_path / "w", ca_file=ca)
        _done(sink)
        sink.close()
    assert _paths(server) == [0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://user:s3cret@example.org/x", "list of processes; put a token into"),
        ("https://s3cret@example.org/x", "list of processes"),
        ("https://user:s3cret@example.org:port/x", "cannot be read"),
        ("ftp://example.org/", "begins with ftp"),
        ("example.org", "no scheme"),
        ("https://", "without a host"),
        ("https://example.org:0/", "port 0"),
        ("https://example.org:99999/", "cannot be read"),
        ("https://[::1/", "cannot be read"),
        ("https://example.org/ä b", "spaces or non-ASCII"),
    ],
)
def test_addresses_that_will_not_do(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SinkSpecError, match=message) as caught:
        open_webhook(url, spool_path=tmp_path / "w")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not (tmp_path / "w").exists()


def test_a_token_that_no_header_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECLS_WEBHOOK_TOKEN", "s3cret\nX-Header: 1")
    with pytest.raises(SinkSpecError, match="no HTTP header") as caught:
        open_webhook("https://example.org/", spool_path=tmp_path / "w")
    assert "s3cret" not in str(caught.value)


def test_a_token_in_the_clear_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EDGECLS_WEBHOOK_TOKEN", "s3cret")
    caplog.set_level(logging.WARNING)
    open_webhook("http://192.0.2.1/", spool_path=tmp_path / "w", timeout_s=0.1).close()
    assert "is sent unencrypted" in caplog.text
    assert "s3cret" not in caplog.text
