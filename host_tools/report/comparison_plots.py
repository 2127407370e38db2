"""Plots of several runs in one: a colour for each recipe, a dash for each of its repetitions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from host_tools.report.comparison import RunComparison
from host_tools.report.plots import BLUE, ORANGE, figure_of

# Ten that can be told apart; the eleventh recipe has the first again, in another dash.
_COLORS = (
    *(BLUE, ORANGE, "#15803d", "#b91c1c", "#7c3aed"),
    *("#0e7490", "#a16207", "#be185d", "#4b5563", "#65a30d"),
)
# Matplotlib's name, and the style of a border in CSS.
_DASHES = (("-", "solid"), ("--", "dashed"), (":", "dotted"))


@dataclass(frozen=True, slots=True)
class Look:
    """How a run is drawn: a colour as ``#rrggbb``, and the dash of its line."""

    color: str
    dash: str
    css: str


def looks(comparison: RunComparison) -> list[Look]:
    """One for each run; repetitions share their colour."""
    found = {}
    for color, (_, members) in enumerate(comparison.recipes):
        for repetition, place in enumerate(members):
            dash, css = _DASHES[(color // len(_COLORS) + repetition) % len(_DASHES)]
            found[place] = Look(_COLORS[color % len(_COLORS)], dash, css)
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
    for its, run in zip(looks(comparison), comparison.runs, strict=True):
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
