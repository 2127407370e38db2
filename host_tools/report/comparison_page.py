"""The comparison of several runs as one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.files import write_atomically
from host_tools.pages import markup, render
from host_tools.report import plots
from host_tools.report.comparison import Group, RunComparison, Spread, spread
from host_tools.report.plots import BLUE, ORANGE, figure_of
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
        # Without a sign: it is not a difference.
        sd = self.pattern.replace("+", "").format((spread.sd or 0.0) * self.factor)
        return f"{mean} ± {sd}{self.unit}" if spread.sd else f"{mean}{self.unit}"


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of the table.

    Attributes:
        key: of ``Figures``; ``accuracy_ci95`` for the interval.
        title: of the column.
        form: chosen by the size of a value.
        about: a description, where the title needs one.
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
    Column("corruption_accuracy", "Corrupted", _PERCENT, "mean accuracy on corrupted pictures"),
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
    """A cell for each column; a dash for a figure that the run lacks."""
    return [_cell(run, column) for column in columns]


def group_cells(group: Group, columns: Sequence[Column]) -> list[str]:
    """The same of repetitions; where some lack a figure, it gives the number that have it."""
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


# Ten distinguishable colours; the eleventh recipe has the first again, in another dash.
_COLORS = (
    *(BLUE, ORANGE, "#15803d", "#b91c1c", "#7c3aed"),
    *("#0e7490", "#a16207", "#be185d", "#4b5563", "#65a30d"),
)
# Matplotlib's name, and the style of a border in CSS.
_DASHES = (("-", "solid"), ("--", "dashed"), (":", "dotted"))


@dataclass(frozen=True, slots=True)
class LineStyle:
    """How a run is drawn: a colour as ``#rrggbb``, and the dash of its line."""

    color: str
    dash: str
    css: str


def looks_of_runs(comparison: RunComparison) -> list[LineStyle]:
    """One for each run; repetitions share their colour."""
    found = {}
    for color, (_, members) in enumerate(comparison.recipes):
        for repetition, place in enumerate(members):
            dash, css = _DASHES[(color // len(_COLORS) + repetition) % len(_DASHES)]
            found[place] = LineStyle(_COLORS[color % len(_COLORS)], dash, css)
    return [found[place] for place in range(len(comparison.runs))]


def validation_accuracy(comparison: RunComparison) -> Any:
    """Validation accuracy over the epochs; None where no run has any."""
    return _curves(comparison, ("val_accuracy",), 1.01)


def losses(comparison: RunComparison) -> Any:
    """Validation loss over the epochs, and faintly the training loss; None where no run has any."""
    return _curves(comparison, ("loss", "val_loss"), None)


def _curves(comparison: RunComparison, keys: tuple[str, ...], top: float | None) -> Any:
    figure = figure_of(4.8, 3.6)
    axes = figure.add_subplot()
    lines = 0
    for its, run in zip(looks_of_runs(comparison), comparison.runs, strict=True):
        for key in keys:
            points = [
                (row["epoch"], row[key])
                for row in run.history
                if math.isfinite(row.get(key, math.nan))
            ]
            if not points:
                continue
            x, y = zip(*points, strict=True)
            main = key == keys[-1]
            axes.plot(
                x,
                y,
                its.dash,
                color=its.color,
                linewidth=1.8 if main else 1,
                alpha=1 if main else 0.35,
                # A single epoch is a point.
                marker="o" if len(points) == 1 else None,
                markersize=4,
            )
            lines += 1
    if not lines:
        return None
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if top is not None:
        axes.set_ylim(top=top)
    figure.tight_layout()
    return figure


# The most classes of a readable table.
MOST_CLASSES = 50
# The smallest range of the colour scale, so that equal accuracies are not exaggerated.
_LEAST_RANGE = 0.1


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class with its accuracy in each recipe of the comparison.

    Attributes:
        label: its name.
        n: pictures, as many as all runs have; None where they have different ones.
        accuracy: of each recipe, the mean of its runs, 0..1; None where none has a picture of it.
        range: between the best and the worst recipe; None where fewer than two have it.
    """

    label: str
    n: int | None
    accuracy: tuple[float | None, ...]
    range: float | None


def write_comparison_page(path: Path, comparison: RunComparison) -> None:
    """Writes the page.

    Args:
        path: of the page.
        comparison: what to show.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
        WriteError: the disk is full, or a folder is in the way.
    """
    # A folder name need not be valid UTF-8.
    write_atomically(path, _render(comparison).encode(errors="backslashreplace"))


def class_rows(comparison: RunComparison) -> list[ClassRow]:
    """Every class that some run was evaluated on, in the order of the labels."""
    labels = next((run.labels for run in comparison.runs if run.labels), ())
    return [row for place, label in enumerate(labels) if (row := _row(comparison, label, place))]


def shown_classes(rows: Sequence[ClassRow]) -> list[ClassRow]:
    """At most ``MOST_CLASSES``: those in which the runs differ most, in the order of the labels."""
    by_range = sorted(range(len(rows)), key=lambda place: -(rows[place].range or 0))
    return [rows[place] for place in sorted(by_range[:MOST_CLASSES])]


def differing_rows(comparison: RunComparison) -> list[tuple[str, list[list[str | None]]]]:
    """Each recipe key that is not the same for all, with the different values of each recipe's runs."""
    return [
        (
            key,
            [list(dict.fromkeys(values[m] for m in members)) for _, members in comparison.recipes],
        )
        for key, values in comparison.differing.items()
    ]


def heat(accuracy: float, lowest: float) -> str:
    """A background from white, all right, to red, the lowest accuracy of the table.

    Args:
        accuracy: to colour, 0..1.
        lowest: of the table, 0..1.
    """
    wrong = (1 - accuracy) / max(_LEAST_RANGE, 1 - lowest)
    return f"background: hsl(8 80% {100 - 38 * wrong:.0f}%)"


def _row(comparison: RunComparison, label: str, place: int) -> ClassRow | None:
    evaluated = [run for run in comparison.runs if run.class_counts]
    of_run = [run.class_accuracy[place] if run.class_accuracy else None for run in comparison.runs]
    means = [spread([of_run[member] for member in members]) for _, members in comparison.recipes]
    accuracy = tuple(None if mean is None else mean.mean for mean in means)
    known = [value for value in accuracy if value is not None]
    if not known:
        return None
    counts = {run.class_counts[place] for run in evaluated}
    return ClassRow(
        label,
        counts.pop() if len(counts) == 1 else None,
        accuracy,
        max(known) - min(known) if len(known) > 1 else None,
    )


def _drawn(comparison: RunComparison) -> Iterator[tuple[str, str]]:
    figures = (
        ("Validation accuracy", validation_accuracy(comparison)),
        ("Loss", losses(comparison)),
    )
    for title, figure in figures:
        if figure is not None:
            yield title, markup(plots.svg(figure))


def _render(comparison: RunComparison) -> str:
    columns = known_columns(comparison)
    of_groups = group_columns(comparison)
    rows = class_rows(comparison)
    shown = shown_classes(rows)
    lowest = min((a for row in shown for a in row.accuracy if a is not None), default=1.0)
    looks = looks_of_runs(comparison)
    return render(
        "comparison.html",
        comparison=comparison,
        runs=list(zip(comparison.names, comparison.runs, looks, strict=True)),
        columns=columns,
        cells=[run_cells(run, columns) for run in comparison.runs],
        group_columns=of_groups,
        groups=[
            (
                group.name,
                seeds_of(group),
                [comparison.names[member] for member in group.members],
                group_cells(group, of_groups),
            )
            for group in comparison.groups
        ],
        plots=list(_drawn(comparison)),
        breakable=markup(".<wbr>"),
        recipes=[(name, looks[members[0]], len(members)) for name, members in comparison.recipes],
        differing=differing_rows(comparison),
        classes=shown,
        n_classes=len(rows),
        heat=lambda accuracy: heat(accuracy, lowest),
        evaluated_on=evaluated_on,
    )
