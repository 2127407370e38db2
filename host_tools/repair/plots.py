"""The ladder as a picture: accuracy over size, latency in the label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from host_tools.repair.rungs import Rung
from host_tools.report.plots import BLUE, GRAY, ORANGE, figure_of


def pareto(rungs: Sequence[Rung], chosen: int, reference: float, float_ms: float) -> Any:
    """Accuracy over latency, a dot per rung as large as its file, the chosen one filled.

    Args:
        rungs: in the order tried.
        chosen: the number of the chosen one.
        reference: accuracy (0..1) of the float model.
        float_ms: its latency in milliseconds.
    """
    figure = figure_of(8, 4)
    axes = figure.add_subplot()
    largest = max(rung.size_bytes for rung in rungs)
    axes.axhline(100 * reference, color=GRAY, linestyle=":", linewidth=1, label="float accuracy")
    axes.axvline(float_ms, color=GRAY, linestyle="--", linewidth=1, label="float32 latency")
    for number, rung in enumerate(rungs):
        colour = ORANGE if number == chosen else BLUE
        axes.scatter(
            [rung.latency_ms],
            [100 * rung.accuracy],
            s=40 + 200 * rung.size_bytes / largest,
            facecolor=colour if number == chosen else "none",
            edgecolor=colour,
            linewidth=1.5,
            zorder=3,
        )
        axes.annotate(
            str(number + 1),
            (rung.latency_ms, 100 * rung.accuracy),
            textcoords="offset points",
            xytext=(9, 5),
            color=colour,
        )
    axes.set_xlabel("milliseconds of one inference here, one thread")
    axes.set_ylabel("accuracy, %, validation split")
    axes.grid(alpha=0.25)
    axes.margins(0.15)
    axes.set_xlim(left=0)
    axes.legend(loc="best", frameon=False, fontsize="small")
    figure.tight_layout()
    return figure
