"""Interleaved timing of models in blocks, with the interval of the median."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from edge_sdk.bench.median import half_width_percent
from edge_sdk.bench.results import Distribution, Samples, ThreadPoint
from edge_sdk.classifier import Classifier
from edge_sdk.errors import EdgeClsError
from edge_sdk.types import Frame

# A board's governor needs some 0.1 s to raise the clock, caches need a few runs.
_WARM_LEAST_S = 0.3
_WARM_LEAST_RUNS = 3
# Stable: the median of a window is no longer this much below that of the window before.
_STABLE = 0.02
_WINDOWS = 3
_FIRST_ROOM = 1024
# More runs of a tiny model make the file larger without a narrower interval.
_BLOCK_RUNS_MOST = 200
_STAGES = 3


class LatencyTimer:
    """Times one classifier, a block at a time, so that it can be interleaved with others.

    Args:
        classifier: closed by ``close``.
        frames: the frames, used in turn.
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
        # Allocated and written in advance, so that the timed loop neither allocates nor page-faults.
        self._stages = np.zeros((_FIRST_ROOM, _STAGES), np.float64)
        self._began_ns = np.zeros(_FIRST_ROOM, np.int64)
        self._block = np.zeros(_FIRST_ROOM, np.int64)

    @property
    def runs(self) -> int:
        """Number of timed runs so far."""
        return self._runs

    def first(self) -> float:
        """Classifies the first frame; returns the milliseconds."""
        return self._untimed()

    def warm_up(self, longest_s: float) -> None:
        """Classifies until timings stop falling, for at most ``longest_s`` seconds."""
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
        """Times at least one classification, for about ``seconds``, after an untimed one.

        The untimed one refills the caches after another model's block.

        Args:
            number: of the block; greater than the previous one.
            seconds: duration; the number of runs is computed in advance from the typical latency.
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
        # At the end, so that Ctrl-C within a block discards only that block.
        self._runs, self._next = at, turn

    def busy(self, seconds: float) -> list[float]:
        """Classifies for ``seconds``, at least once; returns the milliseconds, which are not stored."""
        taken: list[float] = []
        until_s = time.perf_counter() + seconds
        while not taken or time.perf_counter() < until_s:
            taken.append(self._untimed())
        return taken

    def half_width_percent(self) -> float:
        """Half width of the median's interval so far, see ``edge_sdk.bench.median``."""
        total = self._stages[: self._runs].sum(axis=1)
        return half_width_percent(total, self._block[: self._runs])

    def samples(self) -> Samples:
        """All timings so far."""
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


# Target number of blocks of each model, for the comparison between blocks.
BLOCKS = 40
BLOCKS_LEAST = 20
BLOCKS_MOST = 100
_BLOCK_S = (0.01, 0.25)
# Share of the time for one model; a longer warm-up is reported as not stable.
_WARM_SHARE = 0.25


def time_interleaved(
    timers: Sequence[LatencyTimer],
    *,
    seconds: float,
    precision_percent: float,
    seed: int,
    between: Callable[[], object] = lambda: None,
    failed: Callable[[LatencyTimer, EdgeClsError], object],
) -> None:
    """Warms all timers up, then times one block of each per round, in a new random order.

    It ends when the interval of every median is as narrow as requested, after 20 rounds at the
    earliest, or at the time limit (or after 100 rounds, with models that take microseconds). All timers
    get the same number of blocks, so that they stay comparable.

    Args:
        timers: at least one; they store their timings.
        seconds: of timing for each timer, without warm-up.
        precision_percent: half the width of the 95 % interval of a median.
        seed: of the order.
        between: called between two blocks.
        failed: called with a timer that raised an error, and the error; that timer is not timed further.
    """
    block_s = min(max(seconds / BLOCKS, _BLOCK_S[0]), _BLOCK_S[1])
    active = []
    for timer in timers:
        if _survives(timer, partial(timer.warm_up, seconds * _WARM_SHARE), failed):
            active.append(timer)
        between()
    chance = np.random.default_rng(seed)
    origin_ns = time.perf_counter_ns()
    turn = 0
    while active:
        for timer in [active[i] for i in chance.permutation(len(active))]:
            if not _survives(timer, partial(timer.block, turn, block_s, origin_ns), failed):
                active.remove(timer)
            between()
        turn += 1
        if turn == BLOCKS_MOST or any(timer.spent_s >= seconds for timer in active):
            return
        if turn >= BLOCKS_LEAST and all(
            timer.half_width_percent() <= precision_percent for timer in active
        ):
            return


def _survives(
    timer: LatencyTimer,
    work: Callable[[], object],
    failed: Callable[[LatencyTimer, EdgeClsError], object],
) -> bool:
    try:
        work()
    except EdgeClsError as error:
        failed(timer, error)
        return False
    return True


_ALL_UP_TO = 4


def thread_counts(cores: int) -> tuple[int, ...]:
    """Numbers from 1 to ``cores``: all up to four, then powers of two, and ``cores``."""
    some = {n for n in range(1, cores + 1) if n <= _ALL_UP_TO or n & (n - 1) == 0}
    return tuple(sorted(some | {cores}))


def thread_point(threads: int, samples: Samples) -> ThreadPoint | None:
    """The throughput of timings with a number of threads; None without timings."""
    latency = Distribution.of(samples.total_ms, samples.block)
    if latency is None:
        return None
    return ThreadPoint(threads, latency.n, latency.p50, latency.ci95, 1000 / latency.mean)


def thread_points(counts: Sequence[int], timers: Sequence[LatencyTimer]) -> tuple[ThreadPoint, ...]:
    """The same for interleaved timers."""
    points = (
        thread_point(count, timer.samples()) for count, timer in zip(counts, timers, strict=True)
    )
    return tuple(point for point in points if point is not None)
