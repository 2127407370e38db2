"""A conversion under a budget: climb, confirm on the test split, write down what was found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.files import write_atomically
from host_tools.quantize.activations import observe
from host_tools.quantize.checked import CheckedCalibration
from host_tools.quantize.equalize import equalize
from host_tools.quantize.graph import Graph
from host_tools.quantize.layer_report import LayerError, layer_report
from host_tools.repair.answers import answers
from host_tools.repair.outcome import outcome
from host_tools.repair.page import write_page
from host_tools.repair.rungs import Ladder, RepairBudget
from host_tools.validate.gates import Verdict

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

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "n": self.n,
            "reference": self.reference,
            "accuracy": self.accuracy,
            "drop_points": self.drop_points,
            "drop_ci95": list(self.drop_ci95),
            "class_drop_points": self.class_drop_points,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Repaired:
    """The end of a repair.

    Attributes:
        path: of the chosen artifact.
        ladder: what was tried.
        budget: what was kept to.
        confirmed: the test split's word; None where there is no test split.
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
            "test": self.confirmed.to_json() if self.confirmed else None,
        }


def confirm(
    float_model: bytes,
    chosen: bytes,
    pixels: NDArray[np.uint8],
    truth: NDArray[np.int64],
    budget: RepairBudget,
) -> Confirmed | None:
    """Asks both models about the test split, once; None where it is empty."""
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
        repaired: what to write down.
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
    figures = {**repaired.to_json(), "layers": [layer.to_json() for layer in layers]}
    write_atomically(Path(f"{stem}_repair.json"), json.dumps(figures, indent=1) + "\n")
    write_page(Path(f"{stem}_repair.html"), repaired, layers)
