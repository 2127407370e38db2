"""Timeouts, retries and back-off: how long an attempt may take, and when the next one is made.

The timeout of a socket applies to one call. A peer that sends one byte within each timeout blocks the
client without limit, and a name with four addresses takes four timeouts.
"""

from __future__ import annotations

import io
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time by which a whole operation must be done.

    Attributes:
        at_s: that time, in seconds of ``clock``.
        clock: monotonic seconds.
    """

    at_s: float
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """The deadline so many seconds from now."""
        return cls(clock() + seconds, clock)

    def sooner(self, seconds: float) -> Deadline:
        """The deadline so many seconds from now, or this one if it is earlier."""
        return Deadline(min(self.at_s, self.clock() + seconds), self.clock)

    def left_s(self) -> float:
        """Seconds left.

        Raises:
            TimeoutError: the deadline has passed.
        """
        left_s = self.at_s - self.clock()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return left_s


def connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connects to the first address of a name that answers; each gets an equal share of the time left.

    The system resolves the name, with its own timeout (resolv.conf).

    Raises:
        OSError: none answers, ``TimeoutError`` included; ``socket.gaierror`` for the name.
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
    """Sends all the data.

    Raises:
        OSError: the peer has disconnected; ``TimeoutError`` if it does not read in time.
    """
    rest = memoryview(data)
    while rest:
        connection.settimeout(deadline.left_s())
        rest = rest[connection.send(rest) :]


class DeadlineReader(io.RawIOBase):
    """Reads from a socket until a deadline; for ``io.BufferedReader``.

    Args:
        connection: must have no other reader.
        deadline: called before each read.
    """

    def __init__(self, connection: socket.socket, deadline: Callable[[], Deadline]) -> None:
        self._connection = connection
        self._deadline = deadline
        # The file keeps the descriptor open while data is left to read, as http.client requires.
        self._file = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Always True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        """As for a raw file.

        Raises:
            TimeoutError: the deadline has passed.
        """
        self._connection.settimeout(self._deadline().left_s())
        return self._file.readinto(buffer)

    def close(self) -> None:
        """Closes the descriptor."""
        self._file.close()
        super().close()


FIRST_S, LAST_S = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Clock:
    """The time source of a spool; tests replace it.

    Attributes:
        now_s: monotonic seconds.
        sleep: waits for so many seconds.
    """

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Pauses:
    """Exponential back-off: 0.5 s, 1, 2, 4, 8, 16, then 30 s, each shortened by up to half at random.

    The jitter keeps many devices from retrying at the same moment.

    Args:
        chance: returns numbers in 0..1; 1 means a pause of full length.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._next_s = FIRST_S

    def pause_s(self, asked_s: float = 0.0) -> float:
        """The next pause in seconds; never shorter than the receiver requested.

        Args:
            asked_s: as in a ``Retry-After`` header; 0: not given.
        """
        pause_s = self._next_s * (0.5 + 0.5 * self._chance())
        self._next_s = min(2 * self._next_s, LAST_S)
        return max(asked_s, pause_s)

    def reset(self) -> None:
        """Starts over with the shortest pause after a success."""
        self._next_s = FIRST_S


# The longest wait, the start of a process and of a camera together stay below five seconds.
CAMERA_FIRST_S, CAMERA_LONGEST_S = 0.5, 3.5
JITTER = 0.25
STABLE_S = 10.0

# After a long pause the reader listens this long before it reports a silence.
_AT_LEAST_S = 0.2


class BackOff:
    """Waits of 0.5, 1, 2, 3.5, 3.5... seconds, each shortened by up to a quarter at random.

    After ten seconds of operation the next failure gets the shortest wait again.

    Args:
        chance: returns numbers in 0..1; 0 means a wait of full length.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0
        self._since_s: float | None = None

    def failed(self) -> float:
        """Counts a failure and returns the seconds to wait before the next attempt."""
        self._since_s = None
        wait_s = min(CAMERA_LONGEST_S, CAMERA_FIRST_S * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return wait_s * (1 - JITTER * self._chance())

    def works(self, now_s: float) -> None:
        """Notes that the child works."""
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s >= STABLE_S:
            self._failures = 0


class Silence:
    """How long a child has sent nothing, and whether that exceeds the limit.

    Only time spent listening counts: after a pause of the reader (a slow model, a stopped
    process) the child gets a short time to be read.

    Args:
        limit_s: seconds of silence allowed.
        since_s: monotonic seconds of the last message or frame; None: now.
    """

    def __init__(self, limit_s: float, since_s: float | None = None) -> None:
        self._limit_s = limit_s
        self._since_s = time.monotonic() if since_s is None else since_s
        self._listened_s = 0.0

    def seconds(self, now_s: float) -> float:
        """How long the silence has lasted."""
        return now_s - self._since_s

    def too_long(self, now_s: float) -> bool:
        """Whether the child exceeds the limit."""
        enough = min(_AT_LEAST_S, self._limit_s)
        return self.seconds(now_s) >= self._limit_s and self._listened_s >= enough

    def patience(self, now_s: float) -> float:
        """Seconds to listen before the next call of ``too_long``."""
        return max(_AT_LEAST_S, self._since_s + self._limit_s - now_s)

    def listened(self, seconds: float) -> None:
        """Adds time spent listening without a result."""
        self._listened_s += seconds
