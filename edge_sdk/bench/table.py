"""A benchmark, or a comparison of two, as text tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.bench.accuracy import Accuracy, accuracy_of
from edge_sdk.bench.compare import BenchmarkComparison, Change
from edge_sdk.bench.figures import (
    NOTHING,
    fastest,
    interval,
    machine_name,
    ms,
    number,
    rate,
    ratio,
    size,
    threads,
    timings,
    titles,
)
from edge_sdk.bench.page_summary import all_reasons, is_valid, notes, percent_of, summary
from edge_sdk.bench.results import Benchmark


def table(benchmark: Benchmark, accuracies: Sequence[Accuracy] = ()) -> str:
    """One line for each model, its stages, and notes; ends without a newline.

    Args:
        benchmark: what was measured.
        accuracies: of a validation of the same files.
    """
    base = fastest(benchmark)
    head = [
        "model",
        "p50 ms",
        "95 % interval",
        "ratio",
        "p90",
        "p99",
        "max",
        "fps",
        "cold ms",
        "MB",
        "file",
    ]
    head += ["accuracy"] if accuracies else []
    rows, stages = [], []
    for name, model in zip(titles(benchmark.models), benchmark.models, strict=True):
        latency = timings(model).latency
        known = accuracy_of(model, accuracies)
        rows.append(
            [
                name,
                *((ms(latency.p50), interval(latency.ci95)) if latency else (NOTHING,) * 2),
                ratio(latency.p50 if latency else None, base),
                *(
                    (ms(latency.p90), ms(latency.p99), ms(latency.max))
                    if latency
                    else (NOTHING,) * 3
                ),
                rate(model.throughput_fps),
                ms(model.cold_start_ms),
                number(model.peak_rss_mb),
                size(model.size_bytes),
                *([percent_of(known.accuracy) if known else NOTHING] if accuracies else []),
            ]
        )
        parts = (timings(model).preprocess, timings(model).inference, timings(model).postprocess)
        stages.append(
            [name, *(ms(part.p50 if part else None) for part in parts), ms(model.load_ms)]
        )
    lines = [f"{machine_name(benchmark)}, edgecls {benchmark.edgecls}", ""]
    if rows:
        lines += [*_columns([head, *rows]), ""]
        stage_head = ["p50 of the stages, ms", "preprocess", "inference", "postprocess", "load"]
        lines += [*_columns([stage_head, *stages]), ""]
    lines.append(summary(benchmark))
    lines += [f"note: {note}" for note in notes(benchmark)]
    lines += [f"not measured: {f.path} ({f.backend}): {f.error}" for f in benchmark.failed]
    if not benchmark.complete:
        lines.append("INCOMPLETE: the measurement was interrupted")
    if not is_valid(benchmark):
        lines += [
            f"INVALID: {reason}" for reason in all_reasons(benchmark) or ["no reason is recorded"]
        ]
    return "\n".join(_plain(line) for line in lines)


def comparison_table(comparison: BenchmarkComparison) -> str:
    """One line for each model that both have; ends without a newline."""
    budget = comparison.max_regress_percent is not None
    head = ["model", "before ms", "after ms", "ratio", "change", "95 % interval"]
    rows = [
        [
            change_name(change),
            *(ms(change.before_ms), ms(change.after_ms), ratio(change.after_ms, change.before_ms)),
            *(signed(change.percent), between(change)),
            *([change.verdict or NOTHING] if budget else []),
        ]
        for change in comparison.changes
    ]
    lines = [f"before: {comparison.before}", f"after:  {comparison.after}", ""]
    lines += [
        *_columns([[*head, *(["verdict"] if budget else [])], *rows]),
        "",
        outcome(comparison),
    ]
    lines += remarks(comparison)
    return "\n".join(_plain(line) for line in lines)


def outcome(comparison: BenchmarkComparison) -> str:
    """The comparison in a sentence."""
    sentences = []
    for change in comparison.changes:
        if change.ci95 is None:
            sentences.append(f"{change_name(change)}: too few blocks for an interval")
        elif change.ci95[0] > 0 or change.ci95[1] < 0:
            word = "slower" if change.percent > 0 else "faster"
            sentences.append(f"{change_name(change)} is {abs(change.percent):.1f} % {word}")
    text = "; ".join(sentences) if sentences else "No significant difference"
    if comparison.max_regress_percent is not None:
        text += f". At most {comparison.max_regress_percent:g} % slower is allowed: {comparison.verdict}"
    return f"{text}."


def remarks(comparison: BenchmarkComparison) -> list[str]:
    """Warnings and notes on the comparison."""
    lines = [f"warning: {text}" for text in comparison.warnings]
    lines += [f"machines: {text}" for text in comparison.machines]
    lines += [f"{change_name(c)}: {note}" for c in comparison.changes for note in c.notes]
    lines += [f"only before: {name}" for name in comparison.only_before]
    lines += [f"only after: {name}" for name in comparison.only_after]
    return lines


def change_name(change: Change) -> str:
    """Which model, backend and number of threads."""
    return f"{change.name} ({change.backend}, {threads(change.threads)})"


def between(change: Change) -> str:
    """``-1.2 % to +3.4 %``."""
    return (
        NOTHING if change.ci95 is None else f"{signed(change.ci95[0])} to {signed(change.ci95[1])}"
    )


def signed(percent: float) -> str:
    """``+3.4 %``."""
    return f"{percent:+,.1f} %"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned: the first column left, the others right."""
    clean = [[_plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in clean) for i in range(len(clean[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in clean
    ]


def _plain(line: str) -> str:
    """Replaces control characters, which file names may contain and a terminal would interpret."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
