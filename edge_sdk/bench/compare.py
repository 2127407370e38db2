"""Comparison of two benchmarks, with a confidence interval of each change.

Runs of one session are correlated by the state of the machine, so they are not independent values.
Sequences of consecutive blocks are resampled instead (the moving-block bootstrap, Künsch 1989, Annals
of Statistics 17), which keeps slow drift in the result.

The variation from session to session, which no single session shows, is added as a fixed share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bench.results import SCHEMA, Benchmark, ModelResult
from edge_sdk.errors import BaselineError
from edge_sdk.machine.facts import Machine
from edge_sdk.plain import to_plain

# Candidate values for medians; with more runs than this, neighbours differ by less than the noise.
_GRID = 1024


def resampled_medians(
    values: NDArray[np.float64],
    block: NDArray[np.int64],
    draws: int,
    chance: np.random.Generator,
) -> NDArray[np.float64]:
    """Medians of resamples, each of randomly drawn sequences of consecutive blocks.

    A sequence has ``n ** (1/2)`` blocks, more than the ``n ** (1/3)`` that suffices for short-range
    dependence (Hall, Horowitz and Jing 1995, Biometrika 82), since a machine drifts over seconds; the
    last block is followed by the first.

    Args:
        values, block: ``(n,)`` each, in order of time.
        draws: number of medians.
        chance: random generator.

    Returns:
        ``(draws,)``.
    """
    parts = [np.sort(values[block == number]) for number in np.unique(block)]
    n = len(parts)
    length = max(1, round(n**0.5))
    starts = chance.integers(0, n, (draws, -(-n // length), 1))
    drawn = ((starts + np.arange(length)) % n).reshape(draws, -1)[:, :n]
    cells = np.arange(draws)[:, None] * n + drawn
    times = np.bincount(cells.ravel(), minlength=draws * n).reshape(draws, n).astype(float)
    # Counts per block of values up to each grid value. The sum over a resample increases with the grid
    # value, so its median is found by bisection.
    ordered = np.sort(values)
    grid = ordered[np.unique(np.linspace(0, len(ordered) - 1, _GRID).round().astype(int))]
    below = np.stack([np.searchsorted(part, grid, side="right") for part in parts], axis=1)
    half = times @ np.array([len(part) for part in parts]) / 2
    low, high = np.zeros(draws, np.int64), np.full(draws, len(grid) - 1)
    while (low < high).any():
        middle = (low + high) // 2
        enough = (times * below[middle]).sum(axis=1) >= half
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    medians: NDArray[np.float64] = grid[low]
    return medians


Verdict = Literal["pass", "fail", "inconclusive"]
Key = tuple[str, str, int]

_DRAWS = 1000
_TAIL_PERCENT = 2.5
# Memory layout differs between two sessions of one program, which alone changes timings by about this
# share (Mytkowicz et al. 2009, Producing Wrong Data Without Doing Anything Obviously Wrong). A single
# session does not show it.
SESSION_SHARE = 0.01
# With fewer blocks drift and noise cannot be separated, and there is no interval.
BLOCKS_LEAST = 8
_WORST = ("fail", "inconclusive", "pass")


@dataclass(frozen=True, slots=True)
class Change:
    """One model in both benchmarks.

    Attributes:
        name, backend, threads: identify the model.
        before_ms, after_ms: median latencies.
        percent: of the change, positive is slower.
        ci95: its interval, in percent; None with too few blocks.
        verdict: None without a budget.
        notes: what else differs.
    """

    name: str
    backend: str
    threads: int
    before_ms: float
    after_ms: float
    percent: float
    ci95: tuple[float, float] | None
    verdict: Verdict | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BenchmarkComparison:
    """Two benchmarks side by side.

    Attributes:
        before, after: their names.
        machines: differences between the machines; empty if there are none.
        changes: of the models that both have.
        only_before, only_after: models that only one of them has.
        max_regress_percent: the budget; None: there is none.
        verdict: the worst of ``changes``; None without a budget.
        warnings: reasons for a refusal that ``--force`` has overridden.
    """

    before: str
    after: str
    machines: tuple[str, ...]
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    max_regress_percent: float | None
    verdict: Verdict | None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON object, ready for ``json.dumps``."""
        return {
            "schema": SCHEMA,
            "type": "benchmark_comparison",
            "before": self.before,
            "after": self.after,
            "machines": list(self.machines),
            "models": [
                {
                    "name": change.name,
                    "backend": change.backend,
                    "threads": change.threads,
                    "before_ms": change.before_ms,
                    "after_ms": change.after_ms,
                    "change_percent": change.percent,
                    "change_ci95": to_plain(change.ci95),
                    "verdict": change.verdict,
                    "notes": to_plain(change.notes),
                }
                for change in self.changes
            ],
            "only_before": list(self.only_before),
            "only_after": list(self.only_after),
            "max_regress_percent": self.max_regress_percent,
            "verdict": self.verdict,
            "warnings": list(self.warnings),
        }


def refusals(baseline: Benchmark, machine: Machine, keys: Iterable[Key]) -> tuple[str, ...]:
    """Why a stored benchmark is no valid baseline for a new one; empty if it is valid.

    Args:
        baseline: the stored one.
        machine: that of the new one.
        keys: name, backend and threads of all its models.
    """
    there, here = {_key(model) for model in baseline.models}, set(keys)
    reasons = [
        f"it is of another machine: {text}" for text in baseline.machine.differences(machine)
    ]
    if there != here:
        reasons.append(f"it holds other models: {_named(there)}, measured now are {_named(here)}")
    if not baseline.complete:
        reasons.append("it was interrupted before its end")
    reasons += [f"it is not valid: {text}" for text in baseline.invalid_reasons]
    return tuple(reasons)


def check_common(before: Benchmark, keys: Iterable[Key], names: tuple[str, str]) -> None:
    """Checks that the benchmarks have a timed model in common.

    Args:
        before: the stored benchmark.
        keys: name, backend and threads of the models of the other one.
        names: of both, for the message.

    Raises:
        BaselineError: they have no model in common that was timed.
    """
    timed, other = {_key(model) for model in before.models if model.latency}, set(keys)
    if timed.isdisjoint(other):
        raise BaselineError(
            f"{names[0]} and {names[1]} have no timed model in common: {_named(timed)} against "
            f"{_named(other)}; measure the same models, by the same names, backends and threads"
        )


def compare(
    before: Benchmark,
    after: Benchmark,
    *,
    names: tuple[str, str],
    max_regress_percent: float | None = None,
    warnings: tuple[str, ...] = (),
    seed: int = 0,
) -> BenchmarkComparison:
    """Compares the models that both benchmarks have timed.

    Args:
        before, after: the benchmarks.
        names: of both, for the report.
        max_regress_percent: budget: how much slower a model may be.
        warnings: reasons for a refusal that ``--force`` has overridden.
        seed: of the resampling.

    Raises:
        BaselineError: they have no model in common that was timed in both.
    """
    old = {_key(model): model for model in before.models}
    new = {_key(model): model for model in after.models}
    check_common(before, [key for key in new if new[key].latency], names)
    common = [key for key in new if key in old and new[key].latency and old[key].latency]
    changes = tuple(
        _change(old[key], new[key], max_regress_percent, seed + index)
        for index, key in enumerate(common)
    )
    verdicts = [change.verdict for change in changes]
    return BenchmarkComparison(
        before=names[0],
        after=names[1],
        machines=before.machine.differences(after.machine),
        changes=changes,
        only_before=tuple(_words(key) for key in old if key not in common),
        only_after=tuple(_words(key) for key in new if key not in common),
        max_regress_percent=max_regress_percent,
        verdict=next((word for word in _WORST if word in verdicts), None),
        warnings=warnings,
    )


def judge(ci95: tuple[float, float] | None, max_regress_percent: float) -> Verdict:
    """*Fail* if the interval is above the budget, *pass* if within it, else inconclusive."""
    if ci95 is None:
        return "inconclusive"
    if ci95[0] > max_regress_percent:
        return "fail"
    return "pass" if ci95[1] <= max_regress_percent else "inconclusive"


def change_interval(
    before: ModelResult, after: ModelResult, seed: int
) -> tuple[float, float] | None:
    """95 % interval of the change of the median latency, in percent; None with too few blocks."""
    chance = np.random.default_rng(seed)
    logs = []
    for model in (before, after):
        values, block = np.array(model.samples.total_ms), np.array(model.samples.block)
        if len(np.unique(block)) < BLOCKS_LEAST:
            return None
        medians = resampled_medians(values, block, _DRAWS, chance)
        logs.append(np.log(medians) + chance.normal(0, SESSION_SHARE, _DRAWS))
    draws = 100 * np.expm1(logs[1] - logs[0])
    low, high = np.percentile(draws, (_TAIL_PERCENT, 100 - _TAIL_PERCENT))
    return float(low), float(high)


def _change(
    before: ModelResult, after: ModelResult, max_regress_percent: float | None, seed: int
) -> Change:
    old, new = before.latency, after.latency
    assert old is not None  # checked by the caller
    assert new is not None
    interval = change_interval(before, after, seed)
    return Change(
        name=after.name,
        backend=after.backend,
        threads=after.threads,
        before_ms=old.p50,
        after_ms=new.p50,
        percent=100 * (new.p50 / old.p50 - 1),
        ci95=interval,
        verdict=None if max_regress_percent is None else judge(interval, max_regress_percent),
        notes=tuple(_differences(before, after)),
    )


def _differences(before: ModelResult, after: ModelResult) -> Sequence[str]:
    notes = []
    if before.sha256 != after.sha256:
        notes.append("the model file has changed")
    if before.runtime != after.runtime:
        notes.append(f"runtime {before.runtime} before, {after.runtime} now")
    if before.xnnpack != after.xnnpack:
        notes.append(f"XNNPACK {_used(before.xnnpack)} before, {_used(after.xnnpack)} now")
    old, new = before.pictures, after.pictures
    if (old.origin, old.size_px) != (new.origin, new.size_px):
        notes.append(
            f"other pictures: {old.origin} {old.size_px[0]}x{old.size_px[1]} before, "
            f"{new.origin} {new.size_px[0]}x{new.size_px[1]} now"
        )
    return notes


def _used(xnnpack: bool | None) -> str:
    return {True: "used", False: "not used", None: "unknown"}[xnnpack]


def _key(model: ModelResult) -> Key:
    return model.name, model.backend, model.threads


def _words(key: Key) -> str:
    return f"{key[0]} ({key[1]}, {key[2]} thread{'s' if key[2] > 1 else ''})"


def _named(keys: Iterable[Key]) -> str:
    return ", ".join(_words(key) for key in sorted(keys)) or "none"
