"""Sections of the page: accuracy, threads, start, memory, energy, age, machine and method."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from edge_sdk.bench import plots
from edge_sdk.bench.accuracy import Accuracy, accuracy_of
from edge_sdk.bench.figures import NOTHING, ms, number, rate, ratio, size, timings, titles
from edge_sdk.bench.figures import threads as number_of
from edge_sdk.bench.markup import (
    Markup,
    bars,
    beside,
    breakable,
    facts,
    figure,
    join,
    legend,
    named,
    section,
    table,
    tag,
)
from edge_sdk.bench.page_summary import percent_of
from edge_sdk.bench.results import Benchmark, ModelResult
from edge_sdk.machine.facts import Machine
from edge_sdk.machine.watch import Conditions


def trade(benchmark: Benchmark, accuracies: Sequence[Accuracy]) -> Markup:
    """Accuracy against latency against size, where a validation report was given."""
    points, rows = [], []
    for i, (name, model) in enumerate(_named(benchmark)):
        known = accuracy_of(model, accuracies)
        latency = timings(model).latency
        if known is None or latency is None:
            continue
        p50 = latency.p50
        points.append((i, p50, known.accuracy, model.size_bytes))
        lost = NOTHING
        if known.drop_points is not None:
            lost = f"{known.drop_points:.2f}"
            if known.drop_ci95:
                lost += f" ({known.drop_ci95[0]:.2f} to {known.drop_ci95[1]:.2f})"
        rows.append(
            (
                named(i, f"{i + 1}: {name}"),
                percent_of(known.accuracy),
                lost,
                ms(p50),
                size(model.size_bytes),
            )
        )
    if not accuracies:
        return Markup("")
    title = "Accuracy against latency against size"
    if not points:
        text = "The validation report has none of these files: no name and size match."
        return section(title, tag("p", text))
    head = ("Model", "accuracy", "points lost (95 %)", "p50 ms", "file")
    caption = tag(
        "p",
        "Up and left is better. The area of a disc is the size of the file.",
        kind="quiet small",
    )
    drawn = join((caption, Markup(plots.trade(points))))
    return section(title, beside((drawn, table(head, rows))))


def threads(benchmark: Benchmark) -> Markup:
    """Throughput over threads."""
    # The same file on the same backend with other threads has the same points.
    seen: dict[tuple[str, str], tuple[int, ModelResult]] = {}
    for i, model in enumerate(benchmark.models):
        if len(model.scaling) > 1:
            seen.setdefault((model.path, model.backend), (i, replace(model, threads=1)))
    if not seen:
        return Markup("")
    names = titles([model for _, model in seen.values()])
    lines = [(i, name, model) for name, (i, model) in zip(names, seen.values(), strict=True)]
    numbers = [i for i, _, _ in lines]
    drawn = join(
        (
            legend([name for _, name, _ in lines], numbers),
            Markup(plots.scaling([(i, model.scaling) for i, _, model in lines])),
        )
    )
    counts = sorted({point.threads for _, _, model in lines for point in model.scaling})
    head = ("Pictures per second", *(f"with {number_of(count)}" for count in counts))
    rows = []
    for i, name, model in lines:
        points = {point.threads: point for point in model.scaling}
        base = model.scaling[0].fps
        cells = [
            f"{rate(points[n].fps)} ({ratio(points[n].fps, base)})" if n in points else NOTHING
            for n in counts
        ]
        rows.append((named(i, name), *cells))
    return section("Threads", beside((drawn, table(head, rows))))


def backends(benchmark: Benchmark) -> Markup:
    """The same file on several backends, with ratios."""
    groups: dict[str, list[tuple[str, ModelResult]]] = {}
    for name, model in _named(benchmark):
        groups.setdefault(model.sha256, []).append((name, model))
    rows = []
    for group in groups.values():
        known = [(latency.p50, m) for _, m in group if (latency := timings(m).latency)]
        if len({m.backend for _, m in known}) < 2:
            continue
        base = min(p50 for p50, _ in known)
        rows += [
            (
                breakable(m.name),
                m.backend,
                m.runtime,
                _xnnpack(m),
                str(m.threads),
                ms(p50),
                ratio(p50, base),
            )
            for p50, m in sorted(known, key=lambda entry: entry[0])
        ]
    head = ("Model", "backend", "runtime", "XNNPACK", "threads", "p50 ms", "times the fastest")
    return section("Backends", table(head, rows)) if rows else Markup("")


def costs(benchmark: Benchmark) -> Markup:
    """Start, memory and size."""
    models = _named(benchmark)
    cold = [
        (n, [(i, m.cold_start_ms)], f"{ms(m.cold_start_ms)} ms")
        for i, (n, m) in enumerate(models)
        if m.cold_start_ms is not None
    ]
    memory = [
        (n, [(i, m.peak_rss_mb)], f"{number(m.peak_rss_mb)} MB")
        for i, (n, m) in enumerate(models)
        if m.peak_rss_mb is not None
    ]
    files = [(n, [(i, float(m.size_bytes))], size(m.size_bytes)) for i, (n, m) in enumerate(models)]
    head = (
        "Model",
        "load ms",
        "first answer ms",
        "cold start ms",
        "peak memory MB",
        "file",
        "model in it",
    )
    rows = [
        (
            *(named(i, n), ms(m.load_ms), ms(m.first_ms), _cold(m)),
            *(number(m.peak_rss_mb), size(m.size_bytes), size(m.model_bytes)),
        )
        for i, (n, m) in enumerate(models)
    ]
    text = (
        "Cold start: a fresh process from its start to its first answer, median and range of several. "
        "Load: open, check and prepare the model in a process with its libraries loaded. "
        "Memory: the highest resident set of such a fresh process."
    )
    drawn = [
        figure(title, "", bars(part))
        for title, part in (("Cold start", cold), ("Peak memory", memory), ("File", files))
        if part
    ]
    return section(
        "Start, memory, size", beside(drawn), table(head, rows), tag("p", text, kind="quiet small")
    )


def sustained(benchmark: Benchmark) -> Markup:
    """A run without a pause."""
    drawn = []
    for i, (name, model) in enumerate(_named(benchmark)):
        run = model.sustained
        if run is None or not run.windows:
            continue
        kept = run.slowdown_percent
        caption = (
            f"{run.seconds:.0f} s without a pause: the last quarter is {abs(kept):.1f} % "
            f"{'slower' if kept > 0 else 'faster'} than the first"
        )
        drawn.append(
            figure(
                name, caption, plots.trace([(w.at_s, w.p50_ms) for w in run.windows], "p50 ms", i)
            )
        )
        clocks = [(w.at_s, w.cpu_mhz) for w in run.windows if w.cpu_mhz is not None]
        heat = [(w.at_s, w.temperature_c) for w in run.windows if w.temperature_c is not None]
        if len({mhz for _, mhz in clocks}) > 1:
            drawn.append(figure(f"{name}: clock", "", plots.trace(clocks, "MHz", i, zero=True)))
        if heat:
            drawn.append(figure(f"{name}: temperature", "", plots.trace(heat, "°C", i)))
    return section("Sustained", beside(drawn)) if drawn else Markup("")


def energy(benchmark: Benchmark) -> Markup:
    """Energy where the machine has a counter."""
    rows = [
        (
            *(name, f"{1000 * e.joules_per_run:.2f}", f"{e.busy_watts:.2f}", f"{e.idle_watts:.2f}"),
            *(f"{e.runs:,} in {e.seconds:.0f} s", e.source),
        )
        for name, model in _named(benchmark)
        if (e := model.energy)
    ]
    head = ("Model", "mJ per picture above idle", "W at work", "W idle", "runs", "counter")
    return section("Energy", table(head, rows)) if rows else Markup("")


def age(benchmark: Benchmark) -> Markup:
    """From the sensor to the decision."""
    drawn = []
    for i, (name, model) in enumerate(_named(benchmark)):
        run = model.age
        if run is None:
            continue
        latency = run.age
        caption = (
            f"{run.camera}: {run.frames:,} frames in {run.seconds:.0f} s, {run.dropped:,} dropped, "
            f"{run.duplicates:,} duplicated, {run.unreadable:,} unreadable."
        )
        caption += f" {run.note}" if run.note else ""
        if latency:
            caption += (
                f" Median age {ms(latency.p50)} ms, p99 {ms(latency.p99)}, max {ms(latency.max)}."
            )
        picture = plots.histogram(run.age_ms, latency, i) if latency else ""
        drawn.append(figure(name, caption, picture))
    return section("Age of a decision, from the sensor", beside(drawn)) if drawn else Markup("")


def _cold(model: ModelResult) -> str:
    text = ms(model.cold_start_ms)
    if len(model.cold_starts_ms) > 1:
        text += f" ({ms(min(model.cold_starts_ms))} to {ms(max(model.cold_starts_ms))})"
    return text


def _xnnpack(model: ModelResult) -> str:
    return {True: "yes", False: "no", None: NOTHING}[model.xnnpack]


def _named(benchmark: Benchmark) -> list[tuple[str, ModelResult]]:
    return list(zip(titles(benchmark.models), benchmark.models, strict=True))


def machine_facts(machine: Machine) -> list[tuple[str, str]]:
    """The facts about the machine, as names and values; unknown ones are shown as such."""
    clock = NOTHING if machine.clock_mhz is None else f"{number(machine.clock_mhz)} MHz"
    if machine.clock_max_mhz is not None:
        clock += f", at most {number(machine.clock_max_mhz)}"
    if machine.clock_allowed_mhz not in (None, machine.clock_max_mhz):
        clock += f", allowed {number(machine.clock_allowed_mhz)}"
    governor = machine.governor or NOTHING
    heat = NOTHING
    if machine.temperature_c is not None:
        heat = f"{machine.temperature_c:.1f} °C"
        if machine.temperature_limit_c is not None:
            heat += f", throttled from {machine.temperature_limit_c:.0f} °C"
    throttling = NOTHING
    if machine.throttling:
        now, ever = machine.throttling.now, machine.throttling.since_boot
        throttling = f"now: {', '.join(now) or 'none'}; since boot: {', '.join(ever) or 'none'}"
    undervoltage = {True: "yes", False: "no", None: NOTHING}[machine.undervoltage]
    kinds = (machine.emulated, machine.virtualised, machine.container)
    words = ("emulated by", "virtual machine of", "in a container of")
    guest = "; ".join(f"{word} {kind}" for word, kind in zip(words, kinds, strict=True) if kind)
    limit = machine.quota_cores
    quota = "" if limit is None else f"; a CPU quota allows {limit:.3g} on average"
    load = ", ".join(f"{value:.2f}" for value in machine.load) if machine.load else NOTHING
    return [
        ("Board", machine.board or NOTHING),
        ("Processor", machine.cpu or NOTHING),
        ("Cores", f"{machine.cores}, of which this process may use {machine.usable_cores}{quota}"),
        ("Architecture", machine.architecture),
        ("Real or not", guest or "no sign of emulation or virtualization"),
        ("Clock", clock),
        ("Governor", f"{governor} ({machine.driver})" if machine.driver else governor),
        ("Temperature", heat),
        ("Throttling", throttling),
        ("Under-voltage", undervoltage),
        (
            "Memory",
            f"{number(machine.memory_available_mb)} of {number(machine.memory_mb)} MB available",
        ),
        ("Swap", f"{number(machine.swap_used_mb)} of {number(machine.swap_mb)} MB used"),
        ("Load, 1, 5, 15 minutes", load),
        ("System", f"{machine.os or NOTHING}, kernel {machine.kernel}, Python {machine.python}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in machine.packages.items())),
    ]


def machine(benchmark: Benchmark) -> Markup:
    """Facts from before the measurement."""
    rows = machine_facts(benchmark.machine)
    for name, model in zip(titles(benchmark.models), benchmark.models, strict=True):
        used = {True: "XNNPACK", False: "without XNNPACK", None: "XNNPACK unknown"}[model.xnnpack]
        rows.append((breakable(name), f"{model.runtime}, {used}, SHA-256 {model.sha256[:12]}"))
    return section("The machine", facts(rows))


def meanwhile(benchmark: Benchmark) -> Markup:
    """Clock, temperature and load before, during and after."""
    conditions = benchmark.conditions
    if conditions is None:
        return Markup("")
    drawn = []
    for title, unit, points in _traces(conditions):
        if len(points) > 1:
            first, last = points[0][1], points[-1][1]
            low, high = min(v for _, v in points), max(v for _, v in points)
            digits = 0 if high >= 100 else 1
            caption = (
                f"before {first:.{digits}f}, between {low:.{digits}f} and {high:.{digits}f}, "
                f"after {last:.{digits}f} {unit}"
            )
            drawn.append(figure(title, caption, plots.trace(points, unit, 0, zero=unit != "°C")))
    n = len(conditions.readings)
    text = f"{n} readings over the seconds of the measurement, the first before it, the last at its end."
    return section(
        "The machine during the measurement", tag("p", text, kind="quiet small"), beside(drawn)
    )


def method(benchmark: Benchmark) -> Markup:
    """The method, and the command that repeats the measurement."""
    settings = benchmark.settings
    rows = []
    for name, model in zip(titles(benchmark.models), benchmark.models, strict=True):
        pictures = model.pictures
        origin = {
            "data": "from",
            "camera": "from the camera",
            "self-test": "of the artifact's self-test",
        }
        where = f"{origin.get(pictures.origin, pictures.origin)} {pictures.place}".strip()
        warm = "until timings were stable" if model.stable else "until the time limit"
        wide, high = pictures.size_px
        count = f"{pictures.n} {'picture' if pictures.n == 1 else 'pictures'}"
        text = (
            f"{model.warmup:,} runs to warm up, {warm}; {len(model.samples):,} runs timed; {count} "
            f"{where}, the first {wide} by {high} pixels, for an input of {model.input_px[0]} by "
            f"{model.input_px[1]}"
        )
        rows.append((breakable(name), text))
    text = (
        f"The models were interleaved in random order (seed {settings.seed}), until the interval of each "
        f"median was within {settings.precision_percent:g} %, or for {settings.seconds:g} s each."
    )
    return section(
        "How it was measured",
        tag("p", text),
        facts(rows) if rows else "",
        tag("p", "Measure again:"),
        tag("pre", command(benchmark)),
    )


def command(benchmark: Benchmark) -> str:
    """The command that repeats the measurement."""
    settings, models = benchmark.settings, benchmark.models
    parts = ["edgecls", "bench", *dict.fromkeys(_argument(model.path) for model in models)]
    backends_used = dict.fromkeys(model.backend for model in models)
    if list(backends_used) != ["cpu"]:
        for backend in backends_used:
            parts += ["--backend", backend]
    counts = ",".join(str(n) for n in dict.fromkeys(model.threads for model in models))
    parts += ["--threads", counts] if counts not in ("", "1") else []
    for model in models[:1]:
        if model.pictures.origin == "data":
            parts += ["--data", model.pictures.place]
        if model.age:
            parts += ["--camera", model.age.camera]
        if model.sustained:
            parts += ["--sustained", f"{model.sustained.seconds:.0f}"]
    parts += [
        "--seconds",
        f"{settings.seconds:g}",
        "--precision",
        f"{settings.precision_percent:g}",
    ]
    return shlex.join([*parts, "--seed", str(settings.seed)])


def _argument(path: str) -> str:
    """A path that cannot be read as an option."""
    return f"./{path}" if path.startswith("-") else path


def _traces(conditions: Conditions) -> list[tuple[str, str, list[tuple[float, float]]]]:
    readings = conditions.readings
    return [
        (
            title,
            unit,
            [(r.at_s, float(v)) for r in readings if (v := getattr(r, field)) is not None],
        )
        for title, unit, field in (
            ("Clock of the fastest core", "MHz", "clock_mhz"),
            ("Temperature of the processor", "°C", "temperature_c"),
            ("Used by other processes", "cores", "others"),
            ("Used by the host for other guests", "cores", "stolen"),
        )
    ]
