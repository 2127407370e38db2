"""Names that one run of this machine has for itself, such as an MQTT topic.

A name is taken by binding an abstract Unix socket: it is seen by every user and through the private
folders that systemd gives a service, leaves no file, and is free as soon as its process has ended,
however that was. Where there are no such sockets (anything but Linux) every claim succeeds. A user of
the machine could take a name to keep a run from starting; who may do that may as well stop a camera.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import socket
import struct
from collections.abc import Sequence

_WAITING = 64  # nobody accepts them: whoever asks looks at the number of the process and leaves
_ASK_S = 0.2


class NameTakenError(Exception):
    """Another run has the name.

    Attributes:
        name: that is taken.
        process: its number; None: unknown.
    """

    def __init__(self, name: str, process: int | None) -> None:
        super().__init__(name, process)
        self.name = name
        self.process = process


class Claim:
    """Holds names until it is closed or the process ends.

    Args:
        names: any texts; the same text is held once per machine (network namespace).

    Raises:
        NameTakenError: one of them is held elsewhere, and none is held by this claim then.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._sockets: list[socket.socket] = []
        try:
            for name in names:
                self._take(name)
        except BaseException:
            self.close()
            raise

    def _take(self, name: str) -> None:
        if not hasattr(socket, "AF_UNIX"):
            return
        address = f"\0edgecls-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()}"
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            one.bind(address)
            one.listen(_WAITING)
        except OSError as error:
            one.close()
            if error.errno != errno.EADDRINUSE:
                return  # macOS, or a sandbox without such sockets: better a run than none
            raise NameTakenError(name, _holder(address)) from error
        self._sockets.append(one)

    def close(self) -> None:
        """Gives the names back; a second call does nothing."""
        while self._sockets:
            self._sockets.pop().close()


def _holder(address: str) -> int | None:
    """The process that listens at an address."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(_ASK_S)
        one.connect(address)
        size = struct.calcsize("3i")
        process, _, _ = struct.unpack(
            "3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        return int(process)
    return None
