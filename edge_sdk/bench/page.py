"""``write_page``: a benchmark as one self-contained HTML page.

No scripts, no network, inline charts; light and dark mode; for large and small screens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_sdk.bench import page_comparison, page_costs, plots
from edge_sdk.bench.accuracy import Accuracy
from edge_sdk.bench.compare import BenchmarkComparison
from edge_sdk.bench.figures import (
    interval,
    ms,
    number,
    percent,
    ratio,
    timings,
    titles,
)
from edge_sdk.bench.markup import (
    Markup,
    bars,
    beside,
    figure,
    join,
    legend,
    named,
    section,
    table,
    tag,
    whole_page,
)
from edge_sdk.bench.page_summary import figures_table, headline, top
from edge_sdk.bench.results import Benchmark, ModelResult, OperatorProfile
from edge_sdk.files import write_atomically

_STAGES = ("preprocess", "inference", "postprocess")
_MOST_OPERATORS = 8


def distributions(benchmark: Benchmark) -> Markup:
    """Histograms, and all models together."""
    measured = _measured(benchmark)
    drawn = []
    for i, name, model in measured:
        latency = timings(model).latency
        assert latency is not None
        caption = (
            f"{latency.n:,} runs: median {ms(latency.p50)} ms (95 % interval {interval(latency.ci95)}), "
            f"p99 {ms(latency.p99)}, standard deviation {ms(latency.std)}"
        )
        drawn.append(figure(name, caption, plots.histogram(model.samples.total_ms, latency, i)))
    if not drawn:
        return Markup("")
    together = Markup("")
    if len(measured) > 1:
        curves = {i: np.array(model.samples.total_ms) for i, _, model in measured}
        names = [name for _, name, _ in measured]
        together = join(
            (
                tag("h3", "All together"),
                legend(names, list(curves)),
                Markup(plots.distribution(list(curves.items()))),
            )
        )
    told_all = (
        "Vertical line: the median, with its interval in grey. Right of the dotted line, on a separate "
        "scale: runs more than four times as far above the median as the 90th percentile. All figures "
        "include them."
    )
    return section(
        "Distribution of latencies",
        tag("p", told_all, kind="quiet small"),
        beside((*drawn, together)),
    )


def drift(benchmark: Benchmark) -> Markup:
    """Latency over the time of the measurement."""
    drawn = []
    for i, name, model in _measured(benchmark):
        if len(model.samples) < 2:
            continue
        values = model.samples.total_ms
        third = max(1, len(values) // 3)
        first, last = float(np.median(values[:third])), float(np.median(values[-third:]))
        change = f"{100 * (last / first - 1):+.1f} %" if first > 0 else ""
        caption = f"Median of the first third {ms(first)} ms, of the last {ms(last)} ms: {change}"
        drawn.append(figure(name, caption, plots.over_time(model.samples, i)))
    text = (
        "Over the seconds of the measurement. Line: median; area: the middle 90 %; dots at the upper "
        "edge: slow runs. The models are interleaved, so that changes of the machine affect all of them."
    )
    return (
        section("Over time", tag("p", text, kind="quiet small"), beside(drawn))
        if drawn
        else Markup("")
    )


def stages(benchmark: Benchmark) -> Markup:
    """Medians of the three stages."""
    rows, cells = [], []
    for i, name, model in _measured(benchmark):
        known = [getattr(timings(model), stage) for stage in _STAGES]
        parts = [0.0 if stage is None else stage.p50 for stage in known]
        rows.append((name, list(enumerate(parts)), f"{ms(sum(parts))} ms"))
        whole = ratio(sum(parts), parts[1])
        cells.append([named(i, name), *(ms(part) for part in parts), whole])
    if not rows:
        return Markup("")
    head = ("Model", "preprocess ms", "inference ms", "postprocess ms", "whole ÷ inference")
    return section(
        "Stages", legend(["preprocess", "inference", "postprocess"]), bars(rows), table(head, cells)
    )


def operators(benchmark: Benchmark) -> Markup:
    """The slowest operators, each run as a separate model."""
    drawn = []
    for i, name, model in _measured(benchmark):
        profile = model.operators
        if profile is None or not profile.operators:
            continue
        kinds: dict[str, tuple[int, float]] = {}
        for entry in profile.operators:
            count, total = kinds.get(entry.operator, (0, 0.0))
            kinds[entry.operator] = (count + 1, total + entry.ms)
        order = sorted(kinds.items(), key=lambda kind: -kind[1][1])
        share = max(profile.sum_ms, 1e-12)
        rows = [
            (f"{count} × {kind}", [(i, total)], f"{ms(total)} ms, {percent(total / share)}")  # noqa: RUF001
            for kind, (count, total) in order[:_MOST_OPERATORS]
        ]
        rest = sum(total for _, (_, total) in order[_MOST_OPERATORS:])
        if rest:
            rows.append(("all others", [(i, rest)], f"{ms(rest)} ms, {percent(rest / share)}"))
        caption = (
            f"Sum {ms(profile.sum_ms)} ms, the whole model {ms(profile.whole_ms)} ms "
            f"({percent(profile.sum_ms / max(profile.whole_ms, 1e-12))})."
        )
        caption += f" {profile.note}" if profile.note else ""
        drawn.append(figure(name, caption, join((bars(rows), _each(profile)))))
    text = (
        "Each operator as a separate model; alone, operators are not fused and their data is not in the "
        "cache, so the sum differs from the whole model."
    )
    return (
        section("Operators", tag("p", text, kind="quiet small"), beside(drawn))
        if drawn
        else Markup("")
    )


def _each(profile: OperatorProfile) -> Markup:
    slowest = sorted(profile.operators, key=lambda entry: -entry.ms)
    rows = [
        (f"{entry.index}: {entry.operator}", ms(entry.ms), percent(entry.share), entry.output)
        for entry in slowest[:30]
    ]
    text = f"The slowest {len(rows)} of {number(len(slowest))} one by one"
    inner = table(("Operator", "ms", "share", "computes"), rows)
    return tag("details", tag("summary", text), inner)


def _measured(benchmark: Benchmark) -> list[tuple[int, str, ModelResult]]:
    """Number, title and result of every model that ran at least once."""
    return [
        (i, name, model)
        for i, (name, model) in enumerate(
            zip(titles(benchmark.models), benchmark.models, strict=True)
        )
        if timings(model).latency
    ]


def page(
    benchmark: Benchmark,
    accuracies: Sequence[Accuracy] = (),
    comparison: BenchmarkComparison | None = None,
) -> str:
    """The page as text.

    Args:
        benchmark: what was measured.
        accuracies: of a validation of the same files; see ``read_accuracies``.
        comparison: with a baseline.
    """
    return whole_page(
        f"{headline(benchmark)}: edgecls bench",
        (
            top(benchmark),
            figures_table(benchmark, accuracies),
            page_comparison.against(comparison) if comparison else "",
            page_costs.trade(benchmark, accuracies),
            distributions(benchmark),
            stages(benchmark),
            drift(benchmark),
            operators(benchmark),
            page_costs.threads(benchmark),
            page_costs.backends(benchmark),
            page_costs.costs(benchmark),
            page_costs.sustained(benchmark),
            page_costs.energy(benchmark),
            page_costs.age(benchmark),
            page_costs.machine(benchmark),
            page_costs.meanwhile(benchmark),
            page_costs.method(benchmark),
        ),
    )


def write_page(
    benchmark: Benchmark,
    path: Path,
    accuracies: Sequence[Accuracy] = (),
    comparison: BenchmarkComparison | None = None,
) -> None:
    """Writes the page; see ``page``.

    Raises:
        WriteError: the disk is full, or the folder may not be written to.
    """
    write_atomically(path, page(benchmark, accuracies, comparison))
