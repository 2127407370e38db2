"""Plots of several runs in one; each run has a colour and a dash of its own, also for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from host_tools.report.compared_run import ComparedRun
from host_tools.report.plots import BLUE, ORANGE, figure_of

# Ten that can be told apart; the eleventh run has the first again, in another dash.
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


def look(place: int) -> Look:
    """Of the run with this index."""
    dash, css = _DASHES[place // len(_COLORS) % len(_DASHES)]
    return Look(_COLORS[place % len(_COLORS)], dash, css)


def validation_accuracy(runs: Sequence[ComparedRun]) -> Any:
    """Validation accuracy over the epochs; None where no run has any."""
    return _curves(runs, ("val_accuracy",), 1.01)


def losses(runs: Sequence[ComparedRun]) -> Any:
    """Validation loss over the epochs, and faintly the training loss; None where no run has any."""
    return _curves(runs, ("loss", "val_loss"), None)


def _curves(runs: Sequence[ComparedRun], keys: tuple[str, ...], top: float | None) -> Any:
    figure = figure_of(4.8, 3.6)
    axes = figure.add_subplot()
    lines = 0
    for place, run in enumerate(runs):
        its = look(place)
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
