"""One limit of time over all that a client does on a network: connect, send, and read.

A time-out of a socket is for one call. A peer that sends a byte before each of them is over holds the
client for as long as it likes, and a name with four addresses takes four of them.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment by which all of it must be done.

    Attributes:
        at_s: the moment, in seconds of ``clock``.
        clock: monotonic seconds.
    """

    at_s: float
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """The moment so many seconds from now."""
        return cls(clock() + seconds, clock)

    def sooner(self, seconds: float) -> Deadline:
        """The moment so many seconds from now, or this one where it comes first."""
        return Deadline(min(self.at_s, self.clock() + seconds), self.clock)

    def left_s(self) -> float:
        """Seconds until then.

        Raises:
            TimeoutError: there are none.
        """
        left_s = self.at_s - self.clock()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return left_s


def connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connects to the first address of a name that answers; each gets its share of the time left.

    The look-up of the name is the system's (resolv.conf) and has its own limit.

    Raises:
        OSError: none answers; ``TimeoutError`` among them, and ``socket.gaierror`` for the name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = OSError("the name has no address")
    for place, (family, kind, protocol, _, address) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(deadline.left_s() / (len(found) - place))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
            continue
        except BaseException:
            connection.close()
            raise
        return connection
    raise failure


def send(connection: socket.socket, data: bytes, deadline: Deadline) -> None:
    """Sends all of it.

    Raises:
        OSError: the peer has gone; ``TimeoutError`` where it does not take it in time.
    """
    rest = memoryview(data)
    while rest:
        connection.settimeout(deadline.left_s())
        rest = rest[connection.send(rest) :]


class DeadlineReader(io.RawIOBase):
    """What comes from a socket, until a moment; for ``io.BufferedReader``.

    Args:
        connection: read by nothing else.
        deadline: asked before each read.
    """

    def __init__(self, connection: socket.socket, deadline: Callable[[], Deadline]) -> None:
        self._connection = connection
        self._deadline = deadline
        # It keeps the descriptor while there is something to read, as http.client needs it.
        self._file = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        """As for a raw file.

        Raises:
            TimeoutError: the moment has come.
        """
        self._connection.settimeout(self._deadline().left_s())
        return self._file.readinto(buffer)

    def close(self) -> None:
        """Gives the descriptor back."""
        self._file.close()
        super().close()
