"""The server of the page and the metrics, against abusive clients."""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import pytest

from benchmarks.greedy_clients import KINDS, Client, clients
from edge_sdk import LiveStatistics
from edge_sdk.sinks.http_message import MAX_HEAD_BYTES, RefusedError, Reply, Request
from edge_sdk.sinks.http_server import BoundedServer, Connection, Limits, RequestRate
from edge_sdk.sinks.metrics import Metrics
from edge_sdk.sinks.web.access import Access
from edge_sdk.sinks.web.sink import WebPage
from tests.integration.run_process import until

_LIMITS = Limits(connections=4, per_second=1000, burst=1000, head_s=10.0, send_s=5.0, drain_s=3.0)
_GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def _post(length: int, *fields: str, path: str = "/") -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {length}", *fields)
    return "\r\n".join((*lines, "", "")).encode()


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Answers:
    """Answers with the path and the body, or waits for ``go``."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.size = 0

    def __call__(self, request: Request, connection: Connection) -> Reply:
        body = b""
        match request.path:
            case "/trust":
                connection.trust()
            case "/body":
                body = connection.body(request, 1000, 60.0)
            case "/wait":
                assert self.go.wait(20)
            case "/large":
                body = bytes(50_000_000)
            case "/bug":
                raise KeyError("bug")
            case "/refused":
                raise RefusedError(HTTPStatus.FORBIDDEN, "No.")
        return Reply(HTTPStatus.OK, "text/plain", request.path.encode() + b":" + body)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def answers() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.go.set()


@pytest.fixture
def server(clock: Clock, answers: Answers) -> Iterator[BoundedServer]:
    server = BoundedServer("127.0.0.1", 0, answers, _LIMITS, option="--test", clock=clock)
    server.start()
    yield server
    server.stop()


@contextlib.contextmanager
def _connected(server: BoundedServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        yield connection


def _all(connection: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 20):
            data += piece
    return data


def _until_read(connection: socket.socket, text: bytes) -> bytes:
    data = b""
    while text not in data:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return data


def _is_open(connection: socket.socket) -> bool:
    """Whether the server has not hung up within four of its rounds."""
    connection.settimeout(0.2)
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionError:
        return False
    finally:
        connection.settimeout(20)


def _until_limited(server: BoundedServer, *until_s: float) -> None:
    """Waits until the connections are to be cut at these moments."""
    until(lambda: [connection._until_s for connection in server._open] == list(until_s))


# One reply to one request


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 26\r\n\r\n" + _GET,
        b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 26\r\n\r\n" + _GET,
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n" + _GET + b"0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n" + _GET,
        b"POST /body HTTP/1.1\r\nHost: a\r\n\r\n" + _GET,
        _post(len(_GET)) + _GET,  # answered without being read
        _post(len(_GET), path="/refused") + _GET,
        _post(len(_GET), "Content-Length: 0", path="/body") + _GET,
        _post(5000, path="/body") + _GET,
        b"GET / HTTP/1.0\r\n\r\n" + _GET,
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + _GET,
        b"GET / HTTP/1.1\nHost: a\n\n" + _GET,
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n" + _GET,
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 26\r\n\r\n" + _GET,
        b"\r\n\r\n" + _GET,
    ],
)  # fmt: skip
def test_where_the_next_request_begins_is_in_doubt_there_is_one_reply(
    server: BoundedServer, sent: bytes
) -> None:
    with _connected(server) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = _all(connection)
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in received


def test_requests_sent_at_once_are_answered_in_order(server: BoundedServer) -> None:
    with _connected(server) as connection:
        connection.sendall(
            _post(3, path="/body") + b"abc\r\n" + _GET + _GET.replace(b"GET", b"HEAD")
            + _GET.replace(b" / ", b" /x?y ").replace(b"a\r\n", b"a\r\nConnection: close\r\n")
        )  # fmt: skip
        received = _all(connection)
    first, second, third, last = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert first.endswith(b"\r\n\r\n/body:abc")
    assert second.endswith(b"Content-Length: 2\r\n\r\n/:")
    assert third.endswith(b"Content-Length: 2\r\n\r\n")
    assert last.endswith(b"\r\n\r\n/x:")


def test_a_body_that_waits_for_permission_gets_it(server: BoundedServer) -> None:
    with _connected(server) as connection:
        connection.sendall(_post(3, "Expect: 100-continue", path="/body"))
        _until_read(connection, b"100 Continue\r\n\r\n")
        connection.sendall(b"abc")
        assert _until_read(connection, b"/body:abc").startswith(b"HTTP/1.1 200 OK")


def test_the_refusal_reaches_a_client_that_is_still_sending(server: BoundedServer) -> None:
    with _connected(server) as connection:
        connection.sendall(_post(10_000_000, path="/body"))
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(bytes(100_000))
        assert _all(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("ending", [b"", b"\r\n\r\n"])
def test_a_head_has_a_size(server: BoundedServer, ending: bytes) -> None:
    field = b"X: " + b"x" * 90 + b"\r\n"
    with _connected(server) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(_GET[:-2] + field * (MAX_HEAD_BYTES // len(field) + 2) + ending)
        assert _all(connection).startswith(b"HTTP/1.1 431 ")
    with _connected(server) as connection:
        connection.sendall(_GET[:-2] + field * (MAX_HEAD_BYTES // len(field) - 1) + b"\r\n")
        assert _until_read(connection, b"/:").startswith(b"HTTP/1.1 200 ")


# Limits of time, exact: the clock is the test's


def test_a_head_that_drips_has_ten_seconds_in_all(server: BoundedServer, clock: Clock) -> None:
    with _connected(server) as connection:
        _until_limited(server, 10.0)
        for second in range(10):
            clock.now_s = second
            connection.sendall(_GET[second : second + 1])
        clock.now_s = 9.99
        assert _is_open(connection)
        clock.now_s = 10.0
        assert _all(connection) == b""
    until(lambda: server.connections == 0)


def test_a_connection_that_is_kept_has_ten_seconds_after_each_reply(
    server: BoundedServer, clock: Clock
) -> None:
    with _connected(server) as connection:
        for second in (0.0, 9.0, 18.0):
            clock.now_s = second
            connection.sendall(_GET)
            _until_read(connection, b"/:")
            _until_limited(server, second + 10.0)
        clock.now_s = 27.9
        assert _is_open(connection)
        clock.now_s = 28.0
        assert _all(connection) == b""


def test_a_body_that_drips_has_the_time_that_was_given(server: BoundedServer, clock: Clock) -> None:
    with _connected(server) as connection:
        connection.sendall(_post(3, "Expect: 100-continue", path="/body"))
        _until_read(connection, b"100 Continue\r\n\r\n")
        _until_limited(server, 60.0)
        clock.now_s = 59.9
        connection.sendall(b"a")
        assert _is_open(connection)
        clock.now_s = 60.0
        assert _all(connection) == b""


def test_a_reply_that_nobody_takes_is_given_up(server: BoundedServer, clock: Clock) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(_GET.replace(b" / ", b" /large "))
        assert connection.recv(1000)
        _until_limited(server, 5.0)
        clock.now_s = 4.9
        time.sleep(0.2)
        assert server.connections == 1
        clock.now_s = 5.0
        until(lambda: server.connections == 0)


def test_an_answer_that_takes_long_is_not_cut(
    server: BoundedServer, clock: Clock, answers: Answers
) -> None:
    with _connected(server) as connection:
        connection.sendall(_GET.replace(b" / ", b" /wait "))
        _until_limited(server, math.inf)
        clock.now_s = 1000.0
        assert _is_open(connection)
        answers.go.set()
        assert _until_read(connection, b"/wait:")


def test_a_refused_client_that_goes_on_sending_is_cut(server: BoundedServer, clock: Clock) -> None:
    with _connected(server) as connection:
        connection.sendall(_post(10_000_000, path="/refused"))
        _until_read(connection, b"No.")
        _until_limited(server, 3.0)
        clock.now_s = 2.9
        connection.sendall(b"x")
        time.sleep(0.2)
        assert server.connections == 1
        clock.now_s = 3.0
        until(lambda: server.connections == 0)


def test_turns_are_counted_exactly() -> None:
    clock = Clock()
    pace = RequestRate(10, 3, clock)
    assert [pace.reserve() for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])
    clock.now_s = 0.2
    assert pace.reserve() == pytest.approx(0.1)
    clock.now_s = 0.4
    assert [pace.reserve() for _ in range(2)] == pytest.approx([0, 0.1])
    clock.now_s = 100.0
    assert [pace.reserve() for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


# Connections and threads


def _threads(option: str) -> int:
    return sum(thread.name == f"edgecls{option}" for thread in threading.enumerate())


def test_there_are_no_more_threads_than_connections(server: BoundedServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(_connected(server))
            assert _threads("--test") <= _LIMITS.connections + 1
        newest = stack.enter_context(_connected(server))
        newest.sendall(_GET)
        assert _until_read(newest, b"/:")


def test_a_trusted_connection_stays_and_a_newcomer_is_turned_away(server: BoundedServer) -> None:
    with contextlib.ExitStack() as stack:
        trusted = [stack.enter_context(_connected(server)) for _ in range(_LIMITS.connections)]
        for connection in trusted:
            connection.sendall(_GET.replace(b" / ", b" /trust "))
            _until_read(connection, b"/trust:")
        assert _all(stack.enter_context(_connected(server))) == b""
        for connection in trusted:
            connection.sendall(_GET)
            _until_read(connection, b"/:")


def test_without_a_thread_a_client_is_turned_away_and_the_next_is_answered(
    server: BoundedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start: Callable[[threading.Thread], None] = threading.Thread.start
    left = [2]

    def scarce(thread: threading.Thread) -> None:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("can't start new thread")  # as under a limit of tasks
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    for _ in range(2):
        with _connected(server) as connection:
            assert _all(connection) == b""
    with _connected(server) as connection:
        connection.sendall(_GET)
        assert _until_read(connection, b"/:")
    assert caplog.text.count("can't start new thread") == 1


def test_a_bug_in_an_answer_is_shown_and_ends_one_connection(
    server: BoundedServer, caplog: pytest.LogCaptureFixture
) -> None:
    with _connected(server) as connection:
        connection.sendall(_GET.replace(b" / ", b" /bug "))
        assert _all(connection) == b""
    assert "KeyError: 'bug'" in caplog.text
    with _connected(server) as connection:
        connection.sendall(_GET)
        assert _until_read(connection, b"/:")


def test_a_client_that_goes_away_is_no_bug(
    server: BoundedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(5):
        with _connected(server) as connection:
            connection.sendall(_GET * 3)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    until(lambda: server.connections == 0)
    assert caplog.text == ""


# The page and the metrics


@pytest.fixture(params=["page", "metrics"])
def target(request: Any) -> Iterator[tuple[Any, int, str, str]]:
    if request.param == "page":
        page = WebPage("127.0.0.1", 0, LiveStatistics(), Access("127.0.0.1", None))
        sink, port, path, option = page, int(page.url.rstrip("/").rsplit(":", 1)[1]), "/", "--web"
    else:
        pytest.importorskip("prometheus_client", reason="the extra [metrics] is not installed")
        sink = Metrics(port=0)
        port, path, option = sink.port, "/metrics", "--metrics"
    yield sink, port, path, option
    sink.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_eight_greedy_clients_leave_the_loop_and_the_next_client_alone(
    kind: Client, target: tuple[Any, int, str, str]
) -> None:
    sink, port, path, option = target
    most = {"--web": 32, "--metrics": 8}[option]
    with clients(kind, port, path, 8):
        end_s = time.monotonic() + 0.5
        while time.monotonic() < end_s:
            assert _threads(option) <= most + 1
            time.sleep(0.01)

        def answered() -> bool:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
            ):
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
                return connection.recv(100).startswith(b"HTTP/1.1 200 ")
            return False

        until(answered, 20)
    began_s = time.monotonic()
    sink.close()
    assert time.monotonic() - began_s < 10  # half a second is promised; the machine may be busy
    until(lambda: _threads(option) == 0)
