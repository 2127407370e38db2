"""The soak test: runs the loop and measures growth of memory, descriptors and threads."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.loop.run import Classifies, run
from edge_sdk.loop.statistics import LiveStatistics
from edge_sdk.ports import FrameSource, Sink
from edge_sdk.systems import require_linux
from edge_sdk.types import Frame

Verdict = Literal["pass", "inconclusive", "fail"]

# Memory grows in steps, so neighbouring samples are correlated and the interval would be too narrow.
# Medians of this many intervals of time are used instead.
_STRETCHES = 40
_ERROR = 0.05
_FEWEST = 8


class Slope(NamedTuple):
    """A slope and its 95 % interval, in units of y per unit of x."""

    value: float
    low: float
    high: float


def theil_sen(x: NDArray[np.float64], y: NDArray[np.float64]) -> Slope:
    """The median of the slopes of all pairs of points, with Sen's interval.

    After P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968).
    The ranks of the interval's ends are exact (Hollander, Wolfe and Chicken, Nonparametric
    Statistical Methods, section 9.3): at least 95 % for exchangeable errors, more if values of y are
    equal. More than 40 points are first reduced to the medians of 40 groups of equal size.

    Args:
        x: ``(N,)``, increasing.
        y: ``(N,)``.

    Returns:
        The slope; with fewer than 8 points its interval is unbounded.
    """
    x, y = _stretches(x, y)
    n = len(x)
    if n < 2:
        return Slope(0.0, -math.inf, math.inf)
    first, second = np.triu_indices(n, 1)
    apart = x[second] > x[first]
    slopes = np.sort((y[second] - y[first])[apart] / (x[second] - x[first])[apart])
    if len(slopes) == 0:
        return Slope(0.0, -math.inf, math.inf)
    value = float(np.median(slopes))
    if n < _FEWEST:
        return Slope(value, -math.inf, math.inf)
    rank = _rank(tuple(np.unique(x, return_counts=True)[1].tolist()))
    if rank == 0:
        return Slope(value, -math.inf, math.inf)
    return Slope(value, float(slopes[rank - 1]), float(slopes[-rank]))


@lru_cache(maxsize=8)
def _rank(ties: tuple[int, ...]) -> int:
    """Rank of the sorted slopes, counted from either end and from 1, that bounds the interval; 0: none.

    Under the true slope all orders of the errors are equally likely, and the number of slopes below it
    is the number of inversions of the order. The orders with k inversions are counted by the
    coefficients of the Gaussian multinomial: the product of (1 - q^i) over all points, divided by the
    same product for each tie.

    Args:
        ties: how many points there are at each x.
    """
    points = sum(ties)
    pairs = (points**2 - sum(tie**2 for tie in ties)) // 2
    orders = [1] + [0] * pairs
    for i in range(1, points + 1):  # times 1 - q^i
        for k in range(pairs, i - 1, -1):
            orders[k] -= orders[k - i]
    for tie in ties:
        for i in range(1, tie + 1):  # divided by 1 - q^i
            for k in range(i, pairs + 1):
                orders[k] += orders[k - i]
    allowed = sum(orders) * _ERROR / 2
    rank = below = 0
    while rank < len(orders) and (below := below + orders[rank]) <= allowed:
        rank += 1
    return rank


def _stretches(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(x) <= _STRETCHES:
        return x, y
    parts = np.array_split(np.arange(len(x)), _STRETCHES)
    medians = [(float(np.median(x[part])), float(np.median(y[part]))) for part in parts]
    xs, ys = zip(*medians, strict=True)
    return np.array(xs), np.array(ys)


def verdict(slope: Slope, budget: float) -> Verdict:
    """Whether a slope is certainly within a budget, certainly beyond it, or neither."""
    if slope.high <= budget:
        return "pass"
    return "fail" if slope.low > budget else "inconclusive"


def worst(verdicts: list[Verdict]) -> Verdict:
    """Fail beats inconclusive beats pass."""
    order: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")
    return next((v for v in order if v in verdicts), "pass")


# At the start buffers are allocated and caches fill; that is not a leak.
_WARMUP_SHARE = 0.25
_WARMUP_MAX_S = 60.0
_SAMPLES = 2000
# Larger than any of these files.
_READ_BYTES = 16_384
GROWING = ("rss_bytes", "private_bytes", "descriptors", "threads")
_NOISE = 8


class Sample(NamedTuple):
    """Resources of the process and its descendants at one moment.

    Attributes:
        seconds: since the start.
        frames: classified so far.
        rss_bytes: resident memory of this process.
        private_bytes: memory of all processes that no file backs, to which a leak adds.
        pss_bytes: proportional set size of all processes; 0 if Linux does not report it. It depends
            on what else runs on the machine.
        descriptors, threads: of all processes.
    """

    seconds: float
    frames: int
    rss_bytes: int
    private_bytes: int
    pss_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth of one quantity after the warm-up.

    Attributes:
        name: of the field of ``Sample``.
        first, last, highest: its values.
        per_minute: its slope with a 95 % interval.
        per_million: the same per million frames; None without frames.
        budget: the allowed slope per minute; None: report only.
        verdict: None without a budget.
    """

    name: str
    first: float
    last: float
    highest: float
    per_minute: Slope
    per_million: Slope | None
    budget: float | None
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class SoakReport:
    """The result of a soak test; ``pss_bytes`` is the highest after the warm-up."""

    seconds: float
    frames: int
    samples: int
    warmup_s: float
    pss_bytes: int
    growths: tuple[Growth, ...]
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """The JSON object, ready for ``json.dumps``: an unbounded interval is null."""
        return {
            "schema": 1,
            "type": "soak",
            "seconds": self.seconds,
            "frames": self.frames,
            "samples": self.samples,
            "warmup_s": self.warmup_s,
            "pss_bytes": self.pss_bytes,
            "growth": [_growth_json(growth) for growth in self.growths],
            "verdict": self.verdict,
        }


def _growth_json(growth: Growth) -> dict[str, Any]:
    return {
        "name": growth.name,
        "first": growth.first,
        "last": growth.last,
        "highest": growth.highest,
        "per_minute": _slope_json(growth.per_minute),
        "per_million_frames": _slope_json(growth.per_million),
        "budget_per_minute": growth.budget,
        "verdict": growth.verdict,
    }


def _slope_json(slope: Slope | None) -> dict[str, float | None] | None:
    if slope is None:
        return None
    return {name: x if np.isfinite(x) else None for name, x in slope._asdict().items()}


def judge(samples: Sequence[Sample], budgets: dict[str, float]) -> SoakReport:
    """Computes growth and verdict from samples.

    Args:
        samples: in order of time. The first quarter, at most a minute, is warm-up.
        budgets: growth allowed per minute, by the name of a field of ``Sample``.
    """
    seconds = samples[-1].seconds if samples else 0.0
    warmup_s = min(_WARMUP_MAX_S, _WARMUP_SHARE * seconds)
    kept = [sample for sample in samples if sample.seconds >= warmup_s]
    minutes = np.array([sample.seconds / 60 for sample in kept])
    millions = np.array([sample.frames / 1e6 for sample in kept])
    growths = []
    for name in GROWING if kept else ():
        values = np.array([float(getattr(sample, name)) for sample in kept])
        slope, budget = theil_sen(minutes, values), budgets.get(name)
        growths.append(
            Growth(
                name=name,
                first=values[0].item(),
                last=values[-1].item(),
                highest=values.max().item(),
                per_minute=slope,
                per_million=theil_sen(millions, values) if kept[-1].frames else None,
                budget=budget,
                verdict=None if budget is None else verdict(slope, budget),
            )
        )
    verdicts = [growth.verdict for growth in growths if growth.verdict is not None]
    return SoakReport(
        seconds,
        samples[-1].frames if samples else 0,
        len(samples),
        warmup_s,
        max((sample.pss_bytes for sample in kept), default=0),
        tuple(growths),
        worst(verdicts) if verdicts else "inconclusive",
    )


def soak(
    source: FrameSource,
    classifier: Classifies,
    sinks: Sequence[Sink],
    *,
    seconds: float,
    stop: threading.Event | None = None,
    statistics: LiveStatistics | None = None,
    limit: int | None = None,
    tick: Callable[[Sample], None] = lambda _sample: None,
) -> list[Sample]:
    """Runs the loop for a time, and samples the process meanwhile, 2,000 times at most.

    Args:
        source, classifier, sinks, limit: as for ``run``.
        seconds: how long.
        stop: ends it earlier.
        statistics: updated during the run.
        tick: called with every sample, in another thread.

    Raises:
        UnsupportedSystemError: this is not Linux, whose /proc has the figures.
        Exception: as ``run``.
    """
    require_linux("edgecls soak", "Run it on the device")
    live = statistics or LiveStatistics()
    ended = threading.Event()
    # Allocated and written before the run: the measurement itself must not grow.
    table = np.full((_SAMPLES, len(Sample._fields)), -1, np.float64)
    until_s = time.monotonic() + seconds
    every_s = max(0.25, 1.05 * seconds / _SAMPLES)

    def watch() -> None:
        began_s = time.monotonic()
        last = False
        for row in table:
            sample = take_sample(time.monotonic() - began_s, live.frames)
            row[:] = sample
            tick(sample)
            if last:
                return
            last = ended.wait(every_s)

    watcher = threading.Thread(target=watch, name="edgecls-soak", daemon=True)
    watcher.start()
    try:
        run(
            source,
            classifier,
            sinks,
            limit=limit,
            statistics=live,
            stop=lambda: time.monotonic() >= until_s or (stop is not None and stop.is_set()),
        )
    finally:
        ended.set()
        watcher.join()
    rows = table[table[:, 0] >= 0]
    return [Sample(row[0], *(int(x) for x in row[1:])) for row in rows.tolist()]


class Noise:
    """An endless source that needs no camera: a few noise pictures in a loop."""

    def __init__(self, width: int = 640, height: int = 480) -> None:
        random = np.random.default_rng(0)
        self._pictures: list[NDArray[np.uint8]] = [
            random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(_NOISE)
        ]
        self._index = 0
        self._closed = False

    def read(self) -> Frame | None:
        """The next picture; None after ``close()``."""
        if self._closed:
            return None
        index, self._index = self._index, self._index + 1
        return Frame(self._pictures[index % _NOISE], "rgb", index, time.monotonic_ns(), "noise")

    def close(self) -> None:
        """Ends the source."""
        self._closed = True


def take_sample(seconds: float, frames: int) -> Sample:
    """Samples this process and its descendants, from Linux's ``/proc``."""
    pids = _family(os.getpid())
    return Sample(
        seconds=seconds,
        frames=frames,
        rss_bytes=_bytes(f"/proc/{os.getpid()}/status", "VmRSS:"),
        private_bytes=sum(
            _bytes(f"/proc/{pid}/status", "RssAnon:") + _bytes(f"/proc/{pid}/status", "RssShmem:")
            for pid in pids
        ),
        pss_bytes=sum(_bytes(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids),
        descriptors=sum(_entries(f"/proc/{pid}/fd") for pid in pids),
        threads=sum(_entries(f"/proc/{pid}/task") for pid in pids),
    )


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in _listed(f"/proc/{pid}/task"):
        for child in _read(f"/proc/{pid}/task/{task}/children").split():
            found += _family(int(child))
    return found


def _entries(path: str) -> int:
    return len(_listed(path))


def _bytes(path: str, field: str) -> int:
    for line in _read(path).splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


# Without pathlib, which caches the parts of every path: the measurement itself must not grow.


def _listed(path: str) -> list[str]:
    with contextlib.suppress(OSError):  # the process has ended meanwhile
        return os.listdir(path)  # noqa: PTH208
    return []


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.read(descriptor, _READ_BYTES).decode("ascii", "replace")
        finally:
            os.close(descriptor)
    return ""
