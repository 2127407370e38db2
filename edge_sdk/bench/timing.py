"""One model under measurement: opened, warmed up, timed in blocks."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from edge_sdk.bench.median import half_width_percent
from edge_sdk.bench.parts import Samples
from edge_sdk.classifier import Classifier
from edge_sdk.types import Frame

# A board's governor needs some tenths of a second to raise the clock, caches a few runs.
_WARM_LEAST_S = 0.3
_WARM_LEAST_RUNS = 3
# Stable: the median of a window is no longer this much below that of the window before.
_STABLE = 0.02
_WINDOWS = 3
_FIRST_ROOM = 1024
# More runs of a tiny model make a file larger and its median no better known.
_BLOCK_RUNS_MOST = 200
_STAGES = 3


class Lane:
    """Times one classifier, a block at a time, so that others can have their turn in between.

    Args:
        classifier: belongs to the lane, which closes it.
        frames: what it classifies, in turn.
    """

    def __init__(self, classifier: Classifier, frames: Sequence[Frame]) -> None:
        self.classifier = classifier
        self.frames = frames
        self.warmup = 0
        self.stable = False
        self.spent_s = 0.0
        self.typical_ms = 0.0
        self.blocks = 0
        self._next = 0
        self._runs = 0
        # Made and written once, so that the timed loop neither asks for memory nor touches new pages.
        self._stages = np.zeros((_FIRST_ROOM, _STAGES), np.float64)
        self._began_ns = np.zeros(_FIRST_ROOM, np.int64)
        self._block = np.zeros(_FIRST_ROOM, np.int64)

    @property
    def runs(self) -> int:
        """Timed so far."""
        return self._runs

    def first(self) -> float:
        """Classifies the first frame; milliseconds."""
        return self._untimed()

    def warm_up(self, longest_s: float) -> None:
        """Classifies until timings have stopped to fall, for so many seconds at most."""
        began_s = time.perf_counter()
        windows: list[float] = []
        while True:
            window_s = time.perf_counter()
            taken: list[float] = []
            while len(taken) < _WARM_LEAST_RUNS or time.perf_counter() - window_s < (
                min(_WARM_LEAST_S, longest_s) / _WINDOWS
            ):
                taken.append(self._untimed())
            windows.append(float(np.median(taken)))
            self.stable = len(windows) >= _WINDOWS and all(
                later > before * (1 - _STABLE)
                for before, later in zip(
                    windows[-_WINDOWS:], windows[-_WINDOWS + 1 :], strict=False
                )
            )
            self.typical_ms = windows[-1]
            if self.stable or time.perf_counter() - began_s >= longest_s:
                return

    def block(self, number: int, seconds: float, origin_ns: int) -> None:
        """Times classifications for about so long, one at least; the one before them is not timed.

        Something else ran meanwhile, and its data is in the caches.

        Args:
            number: of the block; greater than the one before.
            seconds: how long; the count of runs is fixed beforehand from what is typical.
            origin_ns: of ``Samples.at_s``, by ``time.perf_counter_ns``.
        """
        began_s = time.perf_counter()
        wanted = round(1000 * seconds / max(self.typical_ms, 1e-3))
        runs = min(max(1, wanted), _BLOCK_RUNS_MOST)
        self._reserve(runs)
        self._untimed()
        self._timed(runs, number)
        last = slice(self._runs - runs, self._runs)
        self._began_ns[last] -= origin_ns
        self.typical_ms = float(np.median(self._stages[last].sum(axis=1)))
        self.blocks += 1
        self.spent_s += time.perf_counter() - began_s

    def _timed(self, runs: int, number: int) -> None:
        classify, frames = self.classifier.classify, self.frames
        stages, began, blocks = self._stages, self._began_ns, self._block
        clock, count = time.perf_counter_ns, len(self.frames)
        at, turn = self._runs, self._next
        for _ in range(runs):
            began[at] = clock()
            stages[at] = classify(frames[turn % count]).timing
            blocks[at] = number
            at += 1
            turn += 1
        # At the end: Ctrl-C within a block leaves the whole blocks before it.
        self._runs, self._next = at, turn

    def busy(self, seconds: float) -> list[float]:
        """Classifies for so long, once at least; the milliseconds of each, which are not kept."""
        taken: list[float] = []
        until_s = time.perf_counter() + seconds
        while not taken or time.perf_counter() < until_s:
            taken.append(self._untimed())
        return taken

    def half_width_percent(self) -> float:
        """How well the median is known so far, see ``edge_sdk.bench.median``."""
        total = self._stages[: self._runs].sum(axis=1)
        return half_width_percent(total, self._block[: self._runs])

    def samples(self) -> Samples:
        """Everything timed so far."""
        done = self._stages[: self._runs].T.tolist()
        return Samples(
            block=tuple(self._block[: self._runs].tolist()),
            at_s=tuple((self._began_ns[: self._runs] / 1e9).tolist()),
            preprocess_ms=tuple(done[0]),
            inference_ms=tuple(done[1]),
            postprocess_ms=tuple(done[2]),
        )

    def close(self) -> None:
        """Closes the classifier."""
        self.classifier.close()

    def _untimed(self) -> float:
        frame = self.frames[self._next % len(self.frames)]
        self._next += 1
        self.warmup += 1
        began = time.perf_counter_ns()
        self.classifier.classify(frame)
        return (time.perf_counter_ns() - began) / 1e6

    def _reserve(self, runs: int) -> None:
        room, wanted = len(self._block), self._runs + runs
        if wanted > room:
            more = max(wanted, 2 * room) - room
            self._stages = np.concatenate([self._stages, np.zeros((more, _STAGES))])
            self._began_ns = np.concatenate([self._began_ns, np.zeros(more, np.int64)])
            self._block = np.concatenate([self._block, np.zeros(more, np.int64)])
