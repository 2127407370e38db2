"""What of a source is looked at: which frames, how often, and which part of each."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.loop.sampling import Motion
from edge_sdk.regions import Region


@dataclass(frozen=True, slots=True)
class Attention:
    """What is looked at.

    Attributes:
        every: classify the first of so many frames, at least 1.
        max_fps: classify at most so many frames per second; None: as many as come.
        regions: classify these parts, each with an answer of its own; empty: the whole picture.
        motion: classify only where something moved; None: always.
    """

    every: int = 1
    max_fps: float | None = None
    regions: tuple[Region, ...] = ()
    motion: Motion | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every needs at least 1, got {self.every}")
        if self.max_fps is not None and not self.max_fps > 0:
            raise ValueError(f"max_fps needs a number above 0, got {self.max_fps}")
        names = [str(region) for region in self.regions]
        if len(set(names)) < len(names):
            raise ValueError(f"each region needs a name of its own, got {', '.join(names)}")


class Pace:
    """Keeps to ``every`` and ``max_fps``. Time is monotonic, in seconds, from any zero."""

    def __init__(self, attention: Attention) -> None:
        self._every = attention.every
        self._period_s = 1 / attention.max_fps if attention.max_fps else 0.0
        self._due_s: float | None = None
        self._frames = 0

    def wait_s(self, now_s: float) -> float:
        """How long to wait before the next frame is read, so that it is a fresh one."""
        return 0.0 if self._due_s is None else max(0.0, self._due_s - now_s)

    def takes(self, now_s: float) -> bool:
        """Counts a frame; whether it is to be classified."""
        taken = self._frames % self._every == 0
        self._frames += 1
        if taken and self._period_s:
            # On a fixed beat, so that the rate is reached; a beat that was missed is not caught up.
            due_s = now_s if self._due_s is None else self._due_s
            self._due_s = max(due_s + self._period_s, now_s)
        return taken
