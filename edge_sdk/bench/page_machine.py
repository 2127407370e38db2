"""The end of a report: the machine, what it did meanwhile, and how to measure again."""

from __future__ import annotations

import shlex

from edge_sdk.bench import plots
from edge_sdk.bench.figures import NOTHING, number, titles
from edge_sdk.bench.markup import Markup, beside, breakable, facts, figure, section, tag
from edge_sdk.bench.results import Benchmark
from edge_sdk.machine.conditions import Conditions
from edge_sdk.machine.facts import Machine


def machine_facts(machine: Machine) -> list[tuple[str, str]]:
    """What the machine says about itself, as names and values; unknown facts are said to be so."""
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
            heat += f", slowed down from {machine.temperature_limit_c:.0f} °C"
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
        ("Real or not", guest or "nothing speaks against a real machine"),
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
    told = f"{n} readings, the first before and the last at the end, over the seconds of the measurement."
    return section(
        "What the machine did meanwhile", tag("p", told, kind="quiet small"), beside(drawn)
    )


def method(benchmark: Benchmark) -> Markup:
    """How it was measured, and the command that measures again."""
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
        warm = "until its timings stood still" if model.stable else "until its time was over"
        wide, high = pictures.size_px
        count = f"{pictures.n} {'picture' if pictures.n == 1 else 'pictures'}"
        told = (
            f"{model.warmup:,} runs to warm up, {warm}; {len(model.samples):,} runs timed; {count} "
            f"{where}, the first {wide} by {high} pixels, for an input of {model.input_px[0]} by "
            f"{model.input_px[1]}"
        )
        rows.append((breakable(name), told))
    told = (
        f"The models took turns in random order (seed {settings.seed}), each until the interval of its "
        f"median was within {settings.precision_percent:g} % or {settings.seconds:g} s were over."
    )
    return section(
        "How it was measured",
        tag("p", told),
        facts(rows) if rows else "",
        tag("p", "Measure again:"),
        tag("pre", command(benchmark)),
    )


def command(benchmark: Benchmark) -> str:
    """What to type to measure the same again."""
    settings, models = benchmark.settings, benchmark.models
    parts = ["edgecls", "bench", *dict.fromkeys(_argument(model.path) for model in models)]
    asked = dict.fromkeys(model.backend for model in models)
    if list(asked) != ["cpu"]:
        for backend in asked:
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
    """A path that is not taken for an option."""
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
            ("Kept busy by other processes", "cores", "others"),
            ("Taken by the host for other guests", "cores", "stolen"),
        )
    ]
