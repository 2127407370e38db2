"""Formats of figures and names in tables and on pages."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePath
from typing import NamedTuple

from edge_sdk.bench.results import Benchmark, Distribution, ModelResult, Samples
from edge_sdk.machine.board import one_line

NOTHING = "–"  # noqa: RUF001


_LONGEST_NAME = 60


def ms(value: float | None) -> str:
    """Milliseconds to about three digits: ``0.123``, ``4.56``, ``78.9``, ``1,234``."""
    if value is None:
        return NOTHING
    size = abs(value)
    return f"{value:,.{3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0}f}"


def interval(ends: tuple[float, float] | None) -> str:
    """``2.29 to 2.34``."""
    return NOTHING if ends is None else f"{ms(ends[0])} to {ms(ends[1])}"


def ratio(value: float | None, base: float | None) -> str:
    """``1.32×``: the ratio to ``base``."""
    if value is None or base is None or base <= 0:
        return NOTHING
    times = value / base
    return f"{times:,.{2 if times < 10 else 1 if times < 100 else 0}f}\N{MULTIPLICATION SIGN}"


def number(value: float | None, digits: int = 0) -> str:
    """With thousands separators and ``digits`` decimals."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def rate(value: float | None) -> str:
    """Per second, to about three digits."""
    if value is None:
        return NOTHING
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def size(n_bytes: int) -> str:
    """``98.5 kB``, ``3.41 MB`` (10³ and 10⁶ bytes)."""
    return f"{n_bytes / 1e6:,.2f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:,.1f} kB"


def percent(share: float) -> str:
    """``12 %`` of a share 0..1; tenths below 10 %."""
    digits = 1 if 0 < share < 0.1 else 0
    return f"{100 * share:.{digits}f} %"


def titles(models: Sequence[ModelResult]) -> list[str]:
    """Unique short names of the results; safe to print, not to embed in markup.

    The model's name; if it is not unique, with backend, threads and folder as far as they differ; else
    numbered.
    """
    names = [_clean(model.name or PurePath(model.path).name) for model in models]
    chosen = []
    for name, model in zip(names, models, strict=True):
        alike = [m for n, m in zip(names, models, strict=True) if n == name]
        parts = [name]
        if len({m.backend for m in alike}) > 1:
            parts.append(_clean(model.backend))
        if len({m.threads for m in alike}) > 1:
            parts.append(threads(model.threads))
        if len({m.path for m in alike}) > 1:
            parts.append(_clean(str(PurePath(model.path).parent)))
        chosen.append(" · ".join(parts))
    count = Counter(chosen)
    for i, title in enumerate(chosen):
        if chosen.index(title) < i:
            numbers = (f"{title} ({n})" for n in itertools.count(2))
            chosen[i] = next(other for other in numbers if other not in count)
            count[chosen[i]] += 1
    return chosen


def threads(count: int) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{count} thread" if count == 1 else f"{count} threads"


class Timings(NamedTuple):
    """The distributions of a model's timings; None before the first run."""

    latency: Distribution | None
    preprocess: Distribution | None
    inference: Distribution | None
    postprocess: Distribution | None


def timings(model: ModelResult) -> Timings:
    """The distributions of a model's timings, cached: a report needs them about twenty times."""
    return _described(model.samples)


@lru_cache(maxsize=64)
def _described(samples: Samples) -> Timings:
    stages = (samples.total_ms, samples.preprocess_ms, samples.inference_ms, samples.postprocess_ms)
    return Timings(*(Distribution.of(stage, samples.block) for stage in stages))


def fastest(benchmark: Benchmark) -> float | None:
    """The lowest median latency of all models, in ms; None if none was timed."""
    known = [timings(model).latency for model in benchmark.models]
    return min((latency.p50 for latency in known if latency), default=None)


def machine_name(benchmark: Benchmark) -> str:
    """The name of the board, else of the processor."""
    machine = benchmark.machine
    return machine.board or machine.cpu or f"a machine with {machine.cores} cores"


def _clean(text: str) -> str:
    return (one_line(text) or "?")[:_LONGEST_NAME]
