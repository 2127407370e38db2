"""Two benchmarks side by side: a test for difference, not a bare ratio.

Runs of one session share what the machine did at the time, so runs are no independent values.
Blocks are resampled instead, and whole stretches of blocks (the moving-block bootstrap, Künsch 1989,
Annals of Statistics 17), which keeps slow drift in the result.

The interval of a change comes from resampled blocks, see ``edge_sdk.bench.compare``; what differs
from one session to the next and shows in neither is added as a fixed share.
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

# Values among which medians are looked for; beyond so many runs they lie closer than noise.
_GRID = 1024


def resampled_medians(
    values: NDArray[np.float64],
    block: NDArray[np.int64],
    draws: int,
    chance: np.random.Generator,
) -> NDArray[np.float64]:
    """Medians of all values, with stretches of blocks drawn anew each time.

    A stretch is ``n ** (1/2)`` blocks long, more than the ``n ** (1/3)`` that suffices for short
    memories (Hall, Horowitz and Jing 1995, Biometrika 82), since a machine drifts over seconds; the
    last block is followed by the first.

    Args:
        values, block: ``(n,)`` each, in the order of time.
        draws: how many medians.
        chance: where chance comes from.

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
    # How many of each block are no larger than each of many values; of a draw that sum grows with the
    # value, so its median is found by halving.
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
# Two sessions of the same program on the same quiet machine: memory is laid out anew, which alone
# moves timings by about so much (Mytkowicz et al. 2009, Producing Wrong Data Without Doing Anything
# Obviously Wrong). It cannot be seen from within one of them.
SESSION_SHARE = 0.01
# Fewer cannot tell drift from noise: then nothing is claimed.
BLOCKS_LEAST = 8
_WORST = ("fail", "inconclusive", "pass")


@dataclass(frozen=True, slots=True)
class Change:
    """One model in both benchmarks.

    Attributes:
        name, backend, threads: which.
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
        before, after: what to call them.
        machines: what differs between the machines; empty where they are alike.
        changes: of the models that both have.
        only_before, only_after: models that only one of them has.
        max_regress_percent: the budget; None: there is none.
        verdict: the worst of ``changes``; None without a budget.
        warnings: why it would have been refused, had it not been forced.
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
    """Why a stored benchmark is no baseline for a new one; empty where it is.

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
    """Looks whether anything can be compared.

    Args:
        before: the stored benchmark.
        keys: name, backend and threads of the models that the other one has timed, or will.
        names: what to call both.

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
    """Compares what both benchmarks have measured.

    Args:
        before, after: the benchmarks.
        names: what to call them.
        max_regress_percent: how much slower a model may have become.
        warnings: what was forced.
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
    """*Fail* where the interval lies beyond the budget, *pass* where within, else inconclusive."""
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
    assert old is not None  # whoever calls this has looked
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
