"""How long to wait for a camera: before it counts as hanging, and before it is tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

# The longest wait, the start of a process and of a camera together stay below five seconds.
FIRST_S, LONGEST_S = 0.5, 3.5
JITTER = 0.25
STABLE_S = 10.0

# Whoever comes back after a long time gives the camera this long before it is blamed.
_AT_LEAST_S = 0.2


class BackOff:
    """Waits of 0.5, 1, 2, 3.5, 3.5... seconds, each shortened by up to a quarter at random.

    What works for ten seconds starts over with the shortest wait; what dies sooner does not.

    Args:
        chance: gives numbers in 0..1; 0 means a wait of full length.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0
        self._since_s: float | None = None

    def failed(self) -> float:
        """Counts a failure; seconds to wait before the next attempt."""
        self._since_s = None
        wait_s = min(LONGEST_S, FIRST_S * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return wait_s * (1 - JITTER * self._chance())

    def works(self, now_s: float) -> None:
        """Counts a sign of life."""
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s >= STABLE_S:
            self._failures = 0


class Silence:
    """How long a child has given no sign of life, and whether that is too long.

    Only who has listened may complain: after a pause of the reader (a slow model, a stopped
    process) the child gets a moment to be heard.

    Args:
        limit_s: seconds that are too long.
        since_s: monotonic seconds of the last sign of life; None: now.
    """

    def __init__(self, limit_s: float, since_s: float | None = None) -> None:
        self._limit_s = limit_s
        self._since_s = time.monotonic() if since_s is None else since_s
        self._listened_s = 0.0

    def seconds(self, now_s: float) -> float:
        """How long it has lasted."""
        return now_s - self._since_s

    def too_long(self, now_s: float) -> bool:
        """Whether the child is to be given up."""
        enough = min(_AT_LEAST_S, self._limit_s)
        return self.seconds(now_s) >= self._limit_s and self._listened_s >= enough

    def patience(self, now_s: float) -> float:
        """Seconds to listen before asking ``too_long`` again."""
        return max(_AT_LEAST_S, self._since_s + self._limit_s - now_s)

    def listened(self, seconds: float) -> None:
        """Counts what was spent listening in vain."""
        self._listened_s += seconds
