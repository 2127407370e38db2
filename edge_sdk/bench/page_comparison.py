"""Two benchmarks on one page: before and after, or two boards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edge_sdk.bench import plots
from edge_sdk.bench.compare import BenchmarkComparison, Change
from edge_sdk.bench.figures import NOTHING, interval, ms, number, rate, ratio, size, timings
from edge_sdk.bench.markup import (
    Markup,
    bars,
    beside,
    breakable,
    figure,
    join,
    legend,
    listed,
    section,
    table,
    tag,
    whole_page,
)
from edge_sdk.bench.page_costs import command, machine_facts
from edge_sdk.bench.page_summary import all_reasons, is_valid
from edge_sdk.bench.results import Benchmark, ModelResult
from edge_sdk.bench.table import between, change_name, outcome, remarks, signed
from edge_sdk.files import write_atomically

_BOTH = tuple[Change, ModelResult, ModelResult]


def comparison_page(comparison: BenchmarkComparison, before: Benchmark, after: Benchmark) -> str:
    """The page as text.

    Args:
        comparison: of the two.
        before, after: what was compared.
    """
    names = (comparison.before, comparison.after)
    both = _both(comparison, before, after)
    return whole_page(
        f"{names[0]} against {names[1]}: edgecls bench",
        (
            tag("h1", breakable(f"{names[0]} against {names[1]}")),
            *(
                _invalid(name, benchmark)
                for name, benchmark in zip(names, (before, after), strict=True)
            ),
            tag("p", outcome(comparison), kind="lead"),
            section("Remarks", listed(remarks(comparison)), kind="warn")
            if remarks(comparison)
            else "",
            _changes(comparison),
            _distributions(both, names),
            _costs(both, names),
            _machines(names, before, after),
            _again(names, before, after),
        ),
    )


def write_comparison_page(
    comparison: BenchmarkComparison, before: Benchmark, after: Benchmark, path: Path
) -> None:
    """Writes the page.

    Raises:
        WriteError: the disk is full, or the folder may not be written to.
    """
    write_atomically(path, comparison_page(comparison, before, after))


def against(comparison: BenchmarkComparison) -> Markup:
    """The comparison as a section of the page of the newer benchmark."""
    lines = remarks(comparison)
    words = join((tag("p", outcome(comparison)), listed(lines) if lines else ""))
    return join((section(f"Against {comparison.before}", words), _changes(comparison)))


def _both(comparison: BenchmarkComparison, before: Benchmark, after: Benchmark) -> list[_BOTH]:
    def find(benchmark: Benchmark, change: Change) -> ModelResult:
        wanted = (change.name, change.backend, change.threads)
        return next(m for m in benchmark.models if (m.name, m.backend, m.threads) == wanted)

    return [(change, find(before, change), find(after, change)) for change in comparison.changes]


def _invalid(name: str, benchmark: Benchmark) -> Markup:
    if is_valid(benchmark):
        return Markup("")
    reasons = all_reasons(benchmark) or ["no reason is recorded"]
    return section(f"Invalid: {name}", listed(reasons), kind="bad")


def _changes(comparison: BenchmarkComparison) -> Markup:
    budget = comparison.max_regress_percent is not None
    head = [
        *("Model", "before, p50 ms", "after, p50 ms", "ratio", "change", "95 % interval"),
        *(("verdict",) if budget else ()),
    ]
    rows = [
        [
            breakable(change_name(change)),
            *(ms(change.before_ms), ms(change.after_ms), ratio(change.after_ms, change.before_ms)),
            *(signed(change.percent), between(change)),
            *([_verdict(change)] if budget else []),
        ]
        for change in comparison.changes
    ]
    text = (
        f"Before: {comparison.before}; after: {comparison.after}. The interval is from resampled blocks, "
        "plus the variation between sessions; if it contains 0, there is no significant difference."
    )
    return section("Median latency", table(head, rows), tag("p", text, kind="quiet small"))


def _verdict(change: Change) -> Markup:
    word = change.verdict or NOTHING
    return tag("span", word, kind="tag" if word == "fail" else "")


def _distributions(both: Sequence[_BOTH], names: tuple[str, str]) -> Markup:
    drawn = []
    for change, old, new in both:
        latencies = [timings(model).latency for model in (old, new)]
        parts = [f"{ms(t.p50)} ms ({interval(t.ci95)})" for t in latencies if t]
        curves = [(i, np.array(m.samples.total_ms)) for i, m in enumerate((old, new))]
        caption = f"Median {', then '.join(parts)}"
        drawn.append(figure(change_name(change), caption, plots.distribution(curves)))
    return section("Distribution of latencies", legend(names), beside(drawn))


def _costs(both: Sequence[_BOTH], names: tuple[str, str]) -> Markup:
    tables, stages = [], []
    for change, old, new in both:
        title = change_name(change)
        rows = [
            (label, shown(first), shown(second), ratio(second, first))
            for (label, first, shown), (_, second, _) in zip(
                _others(old), _others(new), strict=True
            )
        ]
        tables.append(figure(title, "", table(("", *names, "ratio"), rows)))
        for name, model in zip(names, (old, new), strict=True):
            known = (
                timings(model).preprocess,
                timings(model).inference,
                timings(model).postprocess,
            )
            parts = [stage.p50 if stage else 0.0 for stage in known]
            stages.append((f"{title}, {name}", list(enumerate(parts)), f"{ms(sum(parts))} ms"))
    return join(
        (
            section("Stages", legend(["preprocess", "inference", "postprocess"]), bars(stages)),
            section("Other figures", beside(tables)),
        )
    )


def _others(model: ModelResult) -> list[tuple[str, float | None, Callable[[float | None], str]]]:
    """Further figures: name, value, and format."""
    latency = timings(model).latency
    return [
        ("pictures per second", model.throughput_fps, rate),
        ("p99, ms", latency.p99 if latency else None, ms),
        ("cold start, ms", model.cold_start_ms, ms),
        ("load, ms", model.load_ms, ms),
        ("peak memory, MB", model.peak_rss_mb, number),
        ("file", float(model.size_bytes), lambda n: size(int(n or 0))),
    ]


def _machines(names: tuple[str, str], before: Benchmark, after: Benchmark) -> Markup:
    pairs = zip(machine_facts(before.machine), machine_facts(after.machine), strict=True)
    rows = [(fact, old, "the same" if old == new else new) for (fact, old), (_, new) in pairs]
    return section("The machines", table(("", *names), rows, kind="facts"))


def _again(names: tuple[str, str], before: Benchmark, after: Benchmark) -> Markup:
    commands = list(dict.fromkeys((command(before), command(after))))
    texts = (
        ["Measure again:"] if len(commands) == 1 else [f"Measure {name} again:" for name in names]
    )
    pieces = [join((tag("p", t), tag("pre", c))) for t, c in zip(texts, commands, strict=True)]
    return section("How it was measured", *pieces)
