"""Throughput over the number of threads."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.bench.parts import Distribution, Samples, ThreadPoint
from edge_sdk.bench.timing import Lane

_ALL_UP_TO = 4


def thread_counts(cores: int) -> tuple[int, ...]:
    """1 to ``cores``: all up to four, then the powers of two and the last."""
    some = {n for n in range(1, cores + 1) if n <= _ALL_UP_TO or n & (n - 1) == 0}
    return tuple(sorted(some | {cores}))


def thread_point(threads: int, samples: Samples) -> ThreadPoint | None:
    """What some timings say about a number of threads; None of none."""
    latency = Distribution.of(samples.total_ms, samples.block)
    if latency is None:
        return None
    return ThreadPoint(threads, latency.n, latency.p50, latency.ci95, 1000 / latency.mean)


def thread_points(counts: Sequence[int], lanes: Sequence[Lane]) -> tuple[ThreadPoint, ...]:
    """The same for lanes that were measured in turns."""
    points = (
        thread_point(count, lane.samples()) for count, lane in zip(counts, lanes, strict=True)
    )
    return tuple(point for point in points if point is not None)
