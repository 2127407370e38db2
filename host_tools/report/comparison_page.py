"""The comparison of several runs as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.files import write_atomically
from host_tools.pages import markup, render
from host_tools.report import comparison_plots, plots
from host_tools.report.comparison import RunComparison, spread
from host_tools.report.comparison_table import (
    evaluated_on,
    group_cells,
    group_columns,
    known_columns,
    run_cells,
    seeds_of,
)

# Classes of a table that can still be read.
MOST_CLASSES = 50
# Accuracies closer than this are coloured as if they were this far apart: nothing is made of nothing.
_LEAST_RANGE = 0.1


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class, as each recipe of the comparison knows it.

    Attributes:
        label: its name.
        n: pictures, as many as all runs have; None where they have different ones.
        accuracy: of each recipe, the mean of its runs, 0..1; None where none has a picture of it.
        range: between the best and the worst recipe; None where fewer than two know it.
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
    # The name of a folder need not be text.
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
        ("Validation accuracy", comparison_plots.validation_accuracy(comparison)),
        ("Loss", comparison_plots.losses(comparison)),
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
    looks = comparison_plots.looks(comparison)
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
