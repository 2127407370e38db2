"""Pauses between two attempts, and the clock that they are measured with."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_S, LAST_S = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as a spool sees it; tests give another one.

    Attributes:
        now_s: monotonic seconds.
        sleep: waits for so many seconds.
    """

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Pauses:
    """Pauses that grow: 0.5 s, 1, 2, 4, 8, 16, then 30 s, each shortened by up to half at random.

    The jitter keeps a hundred devices from coming back at the same moment.

    Args:
        chance: gives numbers in 0..1; 1 means a pause of full length.
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._next_s = FIRST_S

    def pause_s(self, asked_s: float = 0.0) -> float:
        """The next pause in seconds; never shorter than what the receiver asked for.

        Args:
            asked_s: such as in a ``Retry-After``; 0: nothing was asked.
        """
        pause_s = self._next_s * (0.5 + 0.5 * self._chance())
        self._next_s = min(2 * self._next_s, LAST_S)
        return max(asked_s, pause_s)

    def reset(self) -> None:
        """Begins with the shortest pause again: an attempt succeeded."""
        self._next_s = FIRST_S
