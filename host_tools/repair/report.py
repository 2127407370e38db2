"""A conversion under a budget: confirms the choice on the test split and writes the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.files import write_atomically
from edge_sdk.plain import to_plain
from host_tools import pages
from host_tools.quantize.activations import LayerError, layer_report, observe
from host_tools.quantize.graph import Graph
from host_tools.quantize.int8 import equalize
from host_tools.quantize.lint import CheckedCalibration
from host_tools.repair.rungs import Ladder, RepairBudget, Rung, answers, outcome
from host_tools.report.plots import BLUE, GRAY, ORANGE, figure_of, svg
from host_tools.validate.statistics import Verdict

if TYPE_CHECKING:
    from host_tools.quantize.activations import LayerError


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


_LAYERS = 40


def write_page(path: Path, repaired: Repaired, layers: Sequence[LayerError]) -> None:
    """Writes the page.

    Args:
        path: where to.
        repaired: the ladder, the chosen artifact, and its result on the test split.
        layers: of the chosen int8 model, the worst first; empty for float16.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
        WriteError: the disk is full, or a folder is in the way.
    """
    ladder = repaired.ladder
    picture = svg(pareto(ladder.rungs, ladder.chosen, ladder.reference, ladder.float_ms))
    pages.write_page(
        path,
        "repair.html",
        name=repaired.path.name,
        ladder=ladder,
        confirmed=repaired.confirmed,
        max_drop=repaired.budget.max_drop,
        verdict=repaired.verdict,
        picture=pages.markup(picture),
        layers=layers[:_LAYERS],
        more=max(0, len(layers) - _LAYERS),
    )


# Pictures that the layers are compared on.
_LAYER_PICTURES = 16


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The chosen model on the test split; accuracies 0..1, drops in points."""

    n: int
    reference: float
    accuracy: float
    drop_points: float
    drop_ci95: tuple[float, float]
    class_drop_points: float
    verdict: Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Repaired:
    """The result of a repair.

    Attributes:
        path: of the chosen artifact.
        ladder: what was tried.
        budget: the limits of the search.
        confirmed: the result on the test split; None where there is none.
    """

    path: Path
    ladder: Ladder
    budget: RepairBudget
    confirmed: Confirmed | None

    @property
    def verdict(self) -> Verdict:
        """The test split's, else the validation split's."""
        if self.confirmed is not None:
            return self.confirmed.verdict
        return self.ladder.best.verdict

    def to_json(self) -> dict[str, Any]:
        """The JSON object, as in the file beside the artifact."""
        return {
            "schema": 1,
            "type": "repair",
            "path": str(self.path),
            "max_drop": self.budget.max_drop,
            "max_class_drop": self.budget.max_class_drop,
            "verdict": self.verdict,
            **self.ladder.to_json(),
            "test": to_plain(self.confirmed),
        }


def confirm(
    float_model: bytes,
    chosen: bytes,
    pixels: NDArray[np.uint8],
    truth: NDArray[np.int64],
    budget: RepairBudget,
) -> Confirmed | None:
    """Runs both models on the test split, once; None where it is empty."""
    n = len(truth)
    if not n:
        return None
    before = answers(float_model, pixels, "confirming: float").argmax(axis=1) == truth
    after = answers(chosen, pixels, "confirming: chosen").argmax(axis=1) == truth
    found = outcome(before, after, truth, budget.max_drop, budget.max_class_drop)
    return Confirmed(
        n,
        float(before.mean()),
        float(after.mean()),
        found.drop_points,
        found.drop_ci95,
        found.class_drop_points,
        found.verdict,
    )


def record(repaired: Repaired, graph: Graph, calibration: CheckedCalibration) -> None:
    """Writes ``<artifact>_repair.json`` and ``.html`` beside the artifact.

    Args:
        repaired: the result to write.
        graph: of the float model.
        calibration: the pictures that the ladder calibrated with; layers are compared on some.
    """
    layers: tuple[LayerError, ...] = ()
    if repaired.ladder.best.format == "int8":
        # Each tensor beside the same one in float: equalised where the integer one is.
        tuned = repaired.ladder.graph
        reference = Graph.copy_of(tuned or graph)
        if repaired.ladder.equalized:
            seen = observe(tuned, calibration.pixels) if tuned else calibration.observed
            equalize(reference, seen)
        pixels = calibration.pixels[:-2][:_LAYER_PICTURES]
        layers = layer_report(reference, repaired.ladder.flatbuffer, pixels)
    stem = repaired.path.with_suffix("")
    figures = {**repaired.to_json(), "layers": to_plain(layers)}
    write_atomically(Path(f"{stem}_repair.json"), json.dumps(figures, indent=1) + "\n")
    write_page(Path(f"{stem}_repair.html"), repaired, layers)
