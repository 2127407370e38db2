"""Speaking to systemd: ready, alive, about to stop; see sd_notify(3) and systemd.service(5)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends states to the service manager that started this process; to nobody if none did.

    A message that cannot be delivered is lost in silence: whoever watches notices soon enough.

    Args:
        environment: read for ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment) if self._address else None
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def ready(self, status: str = "") -> None:
        """Everything is open, the loop begins; with a line for ``systemctl status``."""
        self._send("READY=1", status)

    def alive(self, status: str = "") -> None:
        """The loop has got on since the last time; within ``watchdog_s`` seconds of the last call."""
        self._send("WATCHDOG=1", status)

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def _send(self, state: str, status: str = "") -> None:
        if self._socket is None:
            return
        lines = [state, *([f"STATUS={' '.join(status.split())}"] if status else [])]
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)

    def close(self) -> None:
        """Lets go of the socket; states are sent to nobody from now on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(text: str) -> str:
    if not hasattr(socket, "AF_UNIX"):  # Windows, which systemd never runs
        return ""
    if text.startswith("@"):  # a name that is no file
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Seconds within which ``alive`` must be called; None: nobody waits for it."""
    try:
        pid = int(environment.get("WATCHDOG_PID", os.getpid()))
        period_s = int(environment["WATCHDOG_USEC"]) / 1e6
    except (KeyError, ValueError):
        return None
    return period_s if pid == os.getpid() and period_s > 0 else None
