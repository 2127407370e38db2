"""From measurements to rows: medians with their intervals, ratios within each round, Markdown."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.peers.contestants import MEDIAPIPE, OURS_CENTER, RAW
from benchmarks.peers.measure import Measured
from edge_sdk.bench.median import interval_of_median

LATENCY_TARGET = 1.10  # times the bare invoke
COLD_START_TARGET = 4.0  # times faster than MediaPipe
MEMORY_TARGET = 0.5  # of MediaPipe's

Interval = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant; ratios to the bare ``invoke``, all medians with 95 % intervals.

    Attributes:
        ratio, ratio_ci95: median over the rounds of its median against the bare one's.
        p50_ms, p50_ci95: median of the rounds' medians.
        cpu_ratio: the same of processor time over all threads, which other processes disturb less.
        cold_start_ms, cold_start_ci95, peak_rss_mb: of fresh processes.
        install_mb: of all packages it needs.
    """

    name: str
    ratio: float
    ratio_ci95: Interval
    cpu_ratio: float
    p50_ms: float
    p50_ci95: Interval
    cold_start_ms: float
    cold_start_ci95: Interval
    peak_rss_mb: float
    install_mb: float


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised, what was measured, and whether it is kept."""

    what: str
    promised: float
    measured: float
    met: bool


def rows_of(measured: dict[str, Measured]) -> list[Row]:
    """The rows, quickest first."""
    bare = measured[RAW.name]
    return sorted(
        (_row(name, one, bare) for name, one in measured.items()), key=lambda row: row.ratio
    )


def _row(name: str, one: Measured, bare: Measured) -> Row:
    own = _medians(one)
    ratios, starts = own / _medians(bare), np.array(one.cold_start_ms)
    return Row(
        name,
        ratio=float(np.median(ratios)),
        ratio_ci95=interval_of_median(ratios),
        cpu_ratio=float(np.median(np.array(one.cpu_ms) / np.array(bare.cpu_ms))),
        p50_ms=float(np.median(own)),
        p50_ci95=interval_of_median(own),
        cold_start_ms=float(np.median(starts)),
        cold_start_ci95=interval_of_median(starts),
        peak_rss_mb=float(np.median(one.peak_rss_mb)),
        install_mb=one.install_mb,
    )


def _medians(one: Measured) -> np.ndarray:
    """Of each round: a slow moment spoils one of them."""
    return np.median(np.array(one.blocks_ms), axis=1)


def targets_of(rows: list[Row]) -> list[Target]:
    """Our promises; those about MediaPipe only where it took part."""
    by_name = {row.name: row for row in rows}
    ours, theirs = by_name[OURS_CENTER.name], by_name.get(MEDIAPIPE.name)
    latency = Target(
        "latency beside `invoke()`", LATENCY_TARGET, ours.ratio, ours.ratio <= LATENCY_TARGET
    )
    if theirs is None:
        return [latency]
    faster = theirs.cold_start_ms / ours.cold_start_ms
    share = ours.peak_rss_mb / theirs.peak_rss_mb
    return [
        latency,
        Target(
            "cold start, times faster than MediaPipe",
            *(COLD_START_TARGET, faster, faster >= COLD_START_TARGET),
        ),
        Target("memory beside MediaPipe's", MEMORY_TARGET, share, share <= MEMORY_TARGET),
    ]


def markdown(rows: list[Row], targets: list[Target]) -> str:
    """Both tables."""
    ours = next(row for row in rows if row.name == OURS_CENTER.name)
    lines = [
        "| | ÷ `invoke()` | ÷ CPU time | p50 ms | cold start ms | RSS MB | installed MB | we lose in |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.ratio:.2f}{_around(row.ratio_ci95, 2)} | {row.cpu_ratio:.2f} | "
        f"{row.p50_ms:.2f}{_around(row.p50_ci95, 2)} | "
        f"{row.cold_start_ms:.0f}{_around(row.cold_start_ci95, 0)} | {row.peak_rss_mb:.0f} | "
        f"{row.install_mb:.0f} | {_losses(ours, row)} |"
        for row in rows
    ]
    lines += ["", "| target | promised | measured | met |", "|---|---|---|---|"]
    for target in targets:
        met = "yes" if target.met else "**no**"
        lines.append(f"| {target.what} | {target.promised:g} | {target.measured:.2f} | {met} |")
    return "\n".join(lines) + "\n"


def _losses(ours: Row, other: Row) -> str:
    """In what another one is better than our default, by more than a fiftieth."""
    if "edgecls" in other.name:
        return ""
    better = {
        "latency": other.ratio / ours.ratio,
        "cold start": other.cold_start_ms / ours.cold_start_ms,
        "memory": other.peak_rss_mb / ours.peak_rss_mb,
        "size": other.install_mb / ours.install_mb,
    }
    return ", ".join(what for what, ratio in better.items() if ratio < 0.98)


def _around(interval: Interval, digits: int) -> str:
    return "" if interval is None else f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"


def to_json(rows: list[Row], targets: list[Target]) -> dict[str, object]:
    """Both, for a file."""
    return {
        "rows": [asdict(row) for row in rows],
        "targets": [asdict(target) for target in targets],
    }
