"""What systemd would hear, on real datagram sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_sdk.loop.service import Notifier


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A socket as systemd opens one, and its name as it stands in the environment."""
    name = f"@edgecls-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0") if name.startswith("@") else name)
        receiver.settimeout(5)
        yield name, receiver


def test_states_arrive_one_per_datagram(listener: tuple[str, socket.socket]) -> None:
    name, receiver = listener
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("10 frames")
    notifier.alive()
    notifier.stopping()
    received = [receiver.recv(1000) for _ in range(3)]
    assert received == [b"READY=1\nSTATUS=10 frames", b"WATCHDOG=1", b"STOPPING=1"]
    notifier.close()
    notifier.alive()  # without a receiver
    notifier.close()


def test_a_status_is_one_line(listener: tuple[str, socket.socket]) -> None:
    name, receiver = listener
    with closing(Notifier({"NOTIFY_SOCKET": name})) as notifier:
        notifier.ready("two\nSTOPPING=1")
    assert receiver.recv(1000) == b"READY=1\nSTATUS=two STOPPING=1"


@pytest.mark.parametrize("place", ["", "/nowhere/at/all", "vsock:1:2", "relative"])
def test_where_nobody_listens_nothing_happens(place: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": place} if place else {})
    notifier.ready()
    notifier.alive()
    notifier.close()


def test_a_listener_that_does_not_read_does_not_block(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "s"))
        with closing(Notifier({"NOTIFY_SOCKET": str(tmp_path / "s")})) as notifier:
            for _ in range(5000):
                notifier.alive("x" * 100)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "ours"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),  # meant for our parent
        ({}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "3", "WATCHDOG_PID": "me"}, None),
    ],
    ids=str,
)
def test_how_often_it_wants_to_be_told(environment: dict[str, str], seconds: float | None) -> None:
    if (
        environment.get("WATCHDOG_PID") == "ours"
    ):  # not in the list: workers must agree on its names
        environment = {**environment, "WATCHDOG_PID": str(os.getpid())}
    with closing(Notifier({"NOTIFY_SOCKET": "/x", **environment})) as notifier:
        assert notifier.watchdog_s == seconds
    with closing(Notifier(environment)) as notifier:
        assert notifier.watchdog_s is None
