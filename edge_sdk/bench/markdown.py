"""A benchmark, or two, as Markdown for a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edge_sdk.bench.accuracy import Accuracy, accuracy_of
from edge_sdk.bench.compare import BenchmarkComparison
from edge_sdk.bench.figures import (
    NOTHING,
    fastest,
    interval,
    ms,
    number,
    rate,
    ratio,
    size,
    threads,
    timings,
    titles,
)
from edge_sdk.bench.page_costs import command, machine_facts
from edge_sdk.bench.page_summary import all_reasons, headline, is_valid, notes, percent_of, summary
from edge_sdk.bench.results import Benchmark
from edge_sdk.bench.table import between, change_name, outcome, remarks, signed

# Special characters of Markdown, and those that GitHub turns into links.
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$])")
_MENTION = re.compile(r"@(?=\w)")
_USUAL_FACTS = (
    "Board",
    "Processor",
    "Cores",
    "Real or not",
    "Clock",
    "Governor",
    "Temperature",
    "Throttling",
)


def markdown(benchmark: Benchmark, accuracies: Sequence[Accuracy] = ()) -> str:
    """Tables, the machine, and the command that repeats the measurement; ends with a newline.

    Args:
        benchmark: what was measured.
        accuracies: of a validation of the same files.
    """
    lines = [f"### {escape(headline(benchmark))}", ""]
    if not is_valid(benchmark):
        reasons = all_reasons(benchmark) or ["no reason is recorded"]
        lines += ["> [!CAUTION]", "> **Invalid: do not use these figures.**"]
        lines += [*(f"> - {escape(reason)}" for reason in reasons), ""]
    if not benchmark.complete:
        lines += ["> [!WARNING]", "> **Incomplete:** the measurement was interrupted.", ""]
    lines += [escape(summary(benchmark)), ""]
    if benchmark.models:
        lines += [*_figures(benchmark, accuracies), "", *_stages(benchmark), ""]
    bullets = [f"- {escape(note)}" for note in notes(benchmark)]
    bullets += [f"- {code(f.path)} was not measured: {escape(f.error)}" for f in benchmark.failed]
    lines += [*bullets, ""] if bullets else []
    rows = [
        row
        for row in machine_facts(benchmark.machine)
        if row[0] in _USUAL_FACTS and row[1] != NOTHING
    ]
    lines += ["<details><summary>Machine and command</summary>", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {escape(value)} |" for name, value in rows)]
    lines += [f"| Versions | {escape(dict(machine_facts(benchmark.machine))['Versions'])} |"]
    lines += [
        f"| Measured | {escape(benchmark.created)} with edgecls {escape(benchmark.edgecls)} |",
        "",
    ]
    return "\n".join([*lines, *_block(command(benchmark)), "", "</details>", ""])


def comparison_markdown(comparison: BenchmarkComparison) -> str:
    """A table of changes; ends with a newline."""
    budget = comparison.max_regress_percent is not None
    head = ["Model", "before, ms", "after, ms", "ratio", "change", "95 % interval"]
    head += ["verdict"] if budget else []
    lines = [f"### {escape(comparison.before)} against {escape(comparison.after)}", ""]
    lines += [escape(outcome(comparison)), "", *_head(head)]
    for change in comparison.changes:
        cells = [
            *(code(change_name(change)), ms(change.before_ms), ms(change.after_ms)),
            *(ratio(change.after_ms, change.before_ms), signed(change.percent), between(change)),
            *([change.verdict or NOTHING] if budget else []),
        ]
        lines.append(_row(cells))
    bullets = remarks(comparison)
    lines += ["", *(f"- {escape(remark)}" for remark in bullets)] if bullets else []
    return "\n".join([*lines, ""])


def escape(text: str) -> str:
    """Escapes text for Markdown, in one line."""
    plain = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return _MENTION.sub("@\N{ZERO WIDTH SPACE}", plain)  # no GitHub mention, which notifies a user


def code(text: str) -> str:
    """Text as a code span, also within a table; its fence is longer than any backticks in it."""
    plain = " ".join(text.split()).replace("|", r"\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    air = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{air}{plain}{air}{fence}"


def _figures(benchmark: Benchmark, accuracies: Sequence[Accuracy]) -> list[str]:
    base = fastest(benchmark)
    head = [
        *("Model", "backend", "p50, ms", "95 % interval", "ratio", "p99, ms", "per second"),
        *("cold start, ms", "memory, MB", "file", *(["accuracy"] if accuracies else [])),
    ]
    lines = _head(head)
    for name, model in zip(titles(benchmark.models), benchmark.models, strict=True):
        latency = timings(model).latency
        known = accuracy_of(model, accuracies)
        cells = [
            *(code(name), f"{escape(model.backend)}, {threads(model.threads)}"),
            *((ms(latency.p50), interval(latency.ci95)) if latency else (NOTHING, NOTHING)),
            ratio(latency.p50 if latency else None, base),
            ms(latency.p99 if latency else None),
            *(rate(model.throughput_fps), ms(model.cold_start_ms), number(model.peak_rss_mb)),
            size(model.size_bytes),
            *([percent_of(known.accuracy) if known else NOTHING] if accuracies else []),
        ]
        lines.append(_row(cells))
    return lines


def _stages(benchmark: Benchmark) -> list[str]:
    lines = _head(["p50 of the stages, ms", "preprocess", "inference", "postprocess"])
    for name, model in zip(titles(benchmark.models), benchmark.models, strict=True):
        parts = (timings(model).preprocess, timings(model).inference, timings(model).postprocess)
        lines.append(_row([code(name), *(ms(part.p50 if part else None) for part in parts)]))
    return lines


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), _row(["---", *("---:" for _ in cells[1:])])]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _block(text: str) -> list[str]:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{fence}sh", text, fence]
