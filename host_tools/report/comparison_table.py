"""The figures of runs as text, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from host_tools.report.comparison import Group, RunComparison, Spread
from host_tools.report.runs import ComparedRun

UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class Form:
    """How a figure is written: times ``factor``, in ``pattern``, before ``unit``."""

    factor: float
    pattern: str
    unit: str

    def one(self, value: float) -> str:
        """A single value."""
        return self.pattern.format(value * self.factor) + self.unit

    def spread(self, spread: Spread) -> str:
        """Mean and standard deviation."""
        mean = self.pattern.format(spread.mean * self.factor)
        # Without a sign: it is no difference.
        sd = self.pattern.replace("+", "").format((spread.sd or 0.0) * self.factor)
        return f"{mean} ± {sd}{self.unit}" if spread.sd else f"{mean}{self.unit}"


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of the table.

    Attributes:
        key: of ``Figures``; ``accuracy_ci95`` for the interval.
        title: of the column.
        form: chosen by the size of a value.
        about: what it is, where the title does not say it.
    """

    key: str
    title: str
    form: Callable[[float], Form]
    about: str = ""


def _always(factor: float, pattern: str, unit: str = "") -> Callable[[float], Form]:
    form = Form(factor, pattern, unit)
    return lambda _: form


def _time(seconds: float) -> Form:
    if seconds < 120:
        return Form(1, "{:.0f}", " s")
    return Form(1 / 60, "{:.1f}", " min") if seconds < 7200 else Form(1 / 3600, "{:.1f}", " h")


_PERCENT = _always(100, "{:.2f}", " %")
_INTERVAL = "accuracy_ci95"
COLUMNS = (
    Column("accuracy", "Accuracy", _PERCENT),
    Column(_INTERVAL, "95 % interval", _PERCENT),
    Column("top5", "Top-5", _PERCENT),
    Column("macro_f1", "Macro F1", _always(1, "{:.3f}"), "mean of the classes' F1"),
    Column("ece", "ECE", _always(1, "{:.3f}"), "expected calibration error"),
    Column("corruption_accuracy", "Corrupted", _PERCENT, "mean accuracy on worse pictures"),
    Column("int8_accuracy", "int8", _PERCENT, "accuracy of the int8 artifact"),
    Column(
        "int8_drop_points",
        "int8 drop",
        _always(1, "{:+.2f}"),
        "points of accuracy that int8 lost, below 0 gained",
    ),
    Column("int8_size_bytes", "int8 size", _always(1e-3, "{:,.1f}", " kB")),
    Column("parameters", "Parameters", _always(1, "{:,.0f}")),
    Column("epochs", "Epochs", _always(1, "{:,.0f}")),
    Column("seconds", "Training", _time),
)


def known_columns(comparison: RunComparison) -> tuple[Column, ...]:
    """Those that at least one run can fill."""
    return tuple(
        column
        for column in COLUMNS
        if any(_value(run, column.key) is not None for run in comparison.runs)
    )


def group_columns(comparison: RunComparison) -> tuple[Column, ...]:
    """Those that at least one group of repetitions can fill; none without groups."""
    return tuple(
        column
        for column in COLUMNS
        if any(group.figures.get(column.key) is not None for group in comparison.groups)
    )


def evaluated_on(run: ComparedRun) -> str:
    """Split and number of pictures behind the figures of the float model."""
    return f"{run.split or 'unknown split'}, {run.n:,}" if run.n else "nothing"


def run_cells(run: ComparedRun, columns: Sequence[Column]) -> list[str]:
    """A cell for each column; a dash for what the run does not know."""
    return [_cell(run, column) for column in columns]


def group_cells(group: Group, columns: Sequence[Column]) -> list[str]:
    """The same of repetitions; where not all know a figure, it says of how many it is."""
    cells = []
    for column in columns:
        spread = group.figures.get(column.key)
        if spread is None:
            cells.append(UNKNOWN)
            continue
        missing = f" (of {spread.n})" if spread.n < len(group.members) else ""
        cells.append(column.form(spread.mean).spread(spread) + missing)
    return cells


def to_lines(comparison: RunComparison) -> list[str]:
    """Aligned text: a row per run, then one per group of repetitions."""
    columns = known_columns(comparison)
    rows = [["run", *(column.title for column in columns), "evaluated on"]]
    rows += [
        [name, *run_cells(run, columns), evaluated_on(run)]
        for name, run in zip(comparison.names, comparison.runs, strict=True)
    ]
    lines = aligned(rows)
    if comparison.groups:
        of_groups = group_columns(comparison)
        rows = [["mean ± standard deviation", *(column.title for column in of_groups)]]
        rows += [
            [f"{group.name} ({seeds_of(group)})", *group_cells(group, of_groups)]
            for group in comparison.groups
        ]
        lines += ["", *aligned(rows)]
    return lines


def seeds_of(group: Group) -> str:
    """How many repetitions there are, in words."""
    seeds, runs = group.seeds, len(group.members)
    return f"{seeds} seeds" if seeds == runs else f"{runs} runs, {seeds} seeds"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns as wide as their widest cell, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for row in rows
    ]


def _value(run: ComparedRun, key: str) -> float | tuple[float, float] | None:
    value: float | tuple[float, float] | None
    value = run.accuracy_ci95 if key == _INTERVAL else getattr(run.figures, key)
    return value


def _cell(run: ComparedRun, column: Column) -> str:
    value = _value(run, column.key)
    if value is None:
        return UNKNOWN
    if isinstance(value, tuple):
        low, high = value
        form = column.form(low)
        return f"{form.one(low).removesuffix(form.unit)} to {form.one(high)}"
    return column.form(value).one(value)
