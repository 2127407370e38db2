"""One limit of time for all of a client's steps, as exactly as arithmetic."""

from __future__ import annotations

import io
import socket
from typing import Any

import pytest

from edge_sdk.retry import Deadline, DeadlineReader, connect, send


class Clock:
    """Seconds that a test sets, and that each look moves on."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.now_s = 100.0
        self._step_s = step_s

    def __call__(self) -> float:
        self.now_s += self._step_s
        return self.now_s


def test_what_is_left() -> None:
    clock = Clock()
    deadline = Deadline.after(10, clock)
    clock.now_s = 107.0
    assert deadline.left_s() == 3
    assert deadline.sooner(1).left_s() == 1
    assert deadline.sooner(60).left_s() == 3
    clock.now_s = 110.0
    for over in (deadline, deadline.sooner(1)):
        with pytest.raises(TimeoutError):
            over.left_s()


def test_a_peer_that_sends_before_each_limit_reaches_the_whole_one() -> None:
    ours, theirs = socket.socketpair()
    clock = Clock(step_s=1.0)  # a second passes before each read
    with ours, theirs:
        deadline = Deadline(105.5, clock)
        reader = DeadlineReader(ours, lambda: deadline)
        piece = bytearray(1)
        for _ in range(5):
            theirs.sendall(b"a")
            assert reader.readinto(piece) == 1
        theirs.sendall(b"a")
        with pytest.raises(TimeoutError):
            reader.readinto(piece)
        reader.close()


def test_what_is_buffered_is_read_to_its_end() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(b"abc")
        with io.BufferedReader(DeadlineReader(ours, lambda: Deadline.after(20))) as reader:
            assert reader.read() == b"abc"


def test_a_peer_that_takes_little_at_a_time_reaches_the_limit() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with pytest.raises(TimeoutError):
            send(ours, bytes(10_000_000), Deadline.after(0.2))


def test_each_address_of_a_name_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Deaf(socket.socket):
        def connect(self, address: Any) -> None:
            waits.append(self.gettimeout() or 0.0)
            clock.now_s += waits[-1]
            raise TimeoutError("timed out")

    clock = Clock()
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address] * 4)
    monkeypatch.setattr(socket, "socket", Deaf)
    with pytest.raises(TimeoutError):
        connect("a.invalid", 80, Deadline.after(8, clock))
    assert waits == [2, 2, 2, 2]
    assert clock.now_s == 108


def test_the_second_address_is_taken_where_the_first_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        places = [one.getsockname() for one in (closed, server)]
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(*kind, p) for p in places])
        with connect("a.invalid", 80, Deadline.after(20)) as connection:
            assert connection.getpeername() == server.getsockname()
