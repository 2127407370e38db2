"""The top of a report: outcome, validity, figures, notes."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.bench.accuracy import Accuracy, accuracy_of
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
from edge_sdk.bench.markup import (
    Markup,
    join,
    listed,
    named,
    section,
    table,
    tag,
)
from edge_sdk.bench.results import Benchmark, ModelResult


def headline(benchmark: Benchmark) -> str:
    """``3 models on Raspberry Pi 4 Model B Rev 1.4``."""
    n = len({model.path for model in benchmark.models})
    return f"{n} {'model' if n == 1 else 'models'} on {machine_name(benchmark)}"


def summary(benchmark: Benchmark) -> str:
    """The outcome in a sentence or two; also for Markdown."""
    base = fastest(benchmark)
    if base is None:
        return "Nothing was measured."
    names = titles(benchmark.models)
    known = [
        (latency.p50, i)
        for i, model in enumerate(benchmark.models)
        if (latency := timings(model).latency)
    ]
    (_, best), *others = sorted(known)
    model = benchmark.models[best]
    latency = timings(model).latency
    between = f" (95 % interval {interval(latency.ci95)})" if latency and latency.ci95 else ""
    text = (
        f"{names[best]} takes {ms(base)} ms{between} from a picture in memory to the answer with "
        f"{threads(model.threads)} of {model.backend}: {rate(model.throughput_fps)} pictures per second."
    )
    if len(known) > 1:
        slower = [f"{names[i]} takes {ratio(p50, base)} as long" for p50, i in others[:3]]
        more = len(others) - len(slower)
        rest = f", {more} more {'is' if more == 1 else 'are'} slower" if more else ""
        text += f" {'; '.join(slower)}{rest}."
    return text


def top(benchmark: Benchmark) -> Markup:
    """Title, verdict, outcome."""
    when = benchmark.created.replace("T", " ").split(".")[0].removesuffix("+00:00")
    return join(
        (
            tag("h1", headline(benchmark)),
            tag("p", f"{when} UTC, edgecls {benchmark.edgecls}", kind="quiet small"),
            _verdict(benchmark),
            tag("p", summary(benchmark), kind="lead"),
            _failed(benchmark),
            _notes(benchmark),
        )
    )


def all_reasons(benchmark: Benchmark) -> list[str]:
    """Why the figures are invalid: of the machine, then of single models."""
    names = titles(benchmark.models)
    common = dict.fromkeys(benchmark.invalid_reasons)
    own = [
        f"{name}: {reason}"
        for name, model in zip(names, benchmark.models, strict=True)
        for reason in model.invalid_reasons
        if reason not in common
    ]
    return [*common, *dict.fromkeys(own)]


def is_valid(benchmark: Benchmark) -> bool:
    """Whether the figures of all models are valid."""
    return benchmark.valid and all(model.valid for model in benchmark.models)


def figures_table(benchmark: Benchmark, accuracies: Sequence[Accuracy]) -> Markup:
    """One row for each model."""
    base = fastest(benchmark)
    head = [
        *("Model", "p50 ms", "95 % interval", "times the fastest", "p90", "p99", "slowest"),
        *("per second", "cold start ms", "peak memory MB", "file"),
        *(("accuracy", "lost, points") if accuracies else ()),
    ]
    rows = [
        [
            _name(name, i, model),
            *_latency(model, base),
            rate(model.throughput_fps),
            ms(model.cold_start_ms),
            number(model.peak_rss_mb),
            size(model.size_bytes),
            *(_accuracy(accuracy_of(model, accuracies)) if accuracies else ()),
        ]
        for i, (name, model) in enumerate(
            zip(titles(benchmark.models), benchmark.models, strict=True)
        )
    ]
    text = (
        "From a picture in memory to the answer: crop and resize, inference, ranking. All runs are "
        "included, the slowest too. The interval is a distribution-free interval of the median."
    )
    return section("Figures", table(head, rows), tag("p", text, kind="quiet small"))


def _name(name: str, i: int, model: ModelResult) -> Markup:
    text = f"{model.format}, {model.backend}, {threads(model.threads)}"
    marks = [*(() if model.valid else ("invalid",)), *(() if model.complete else ("incomplete",))]
    return join(
        (
            Markup(f"{named(i, name)}<br>{tag('span', text, kind='quiet small')}"),
            *(tag("span", mark, kind="tag small") for mark in marks),
        )
    )


def _latency(model: ModelResult, base: float | None) -> list[str]:
    latency = timings(model).latency
    if latency is None:
        return [NOTHING] * 6
    return [
        *(ms(latency.p50), interval(latency.ci95), ratio(latency.p50, base)),
        *(ms(latency.p90), ms(latency.p99), ms(latency.max)),
    ]


def _accuracy(known: Accuracy | None) -> tuple[str, str]:
    if known is None:
        return NOTHING, NOTHING
    lost = NOTHING if known.drop_points is None else f"{known.drop_points:.2f}"
    return percent_of(known.accuracy), lost


def percent_of(accuracy: float) -> str:
    """An accuracy to the hundredth of a point."""
    return f"{100 * accuracy:.2f} %"


def _verdict(benchmark: Benchmark) -> Markup:
    reasons = all_reasons(benchmark)
    parts = []
    if not is_valid(benchmark) or reasons:
        parts.append(
            section(
                "Invalid: do not use these figures",
                "The state of the machine makes them invalid:",
                listed(reasons or ["no reason is recorded"]),
                "Ratios between interleaved models are less affected than the times themselves.",
                kind="bad",
            )
        )
    if not benchmark.complete:
        text = "The measurement was interrupted; these are the figures until then."
        parts.append(section("Incomplete", tag("p", text), kind="bad"))
    return join(parts)


def _failed(benchmark: Benchmark) -> Markup:
    rows = [
        tag("span", tag("code", failure.path), f" on {failure.backend}: {failure.error}")
        for failure in benchmark.failed
    ]
    return section("Not measured", listed(rows), kind="warn") if rows else Markup("")


def notes(benchmark: Benchmark) -> list[str]:
    """Notes for the reader: on the machine, on several models, on single ones."""
    found = list(benchmark.conditions.notes) if benchmark.conditions else []
    common = frozenset(found)
    if benchmark.machine.virtualised:
        found.append(f"a virtual machine ({benchmark.machine.virtualised}): its host may be busy")
    precision = f"{benchmark.settings.precision_percent:g} %"
    owners: dict[str, list[str]] = {}
    for name, model in zip(titles(benchmark.models), benchmark.models, strict=True):
        own = [note for note in model.notes if note not in common]
        if timings(model).latency and not model.stable:
            own.append("timings were still falling when the warm-up ended")
        if timings(model).latency and not model.settled:
            own.append(f"the interval of the median is wider than the requested {precision}")
        for note in dict.fromkeys(own):
            owners.setdefault(note, []).append(name)
    for note, names in owners.items():
        all_models = len(names) == len(benchmark.models) > 1
        found.append(f"{'all models' if all_models else ', '.join(names)}: {note}")
    return found


def _notes(benchmark: Benchmark) -> Markup:
    found = notes(benchmark)
    return section("Notes", listed(found), kind="warn") if found else Markup("")
