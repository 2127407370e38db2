"""The int8 model: every treatment of ranges and weights that costs nothing at run time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host_tools.quantize.activations import Observed, RangeMethod, observe, ranges
from host_tools.quantize.bias_correction import correct_biases
from host_tools.quantize.equalize import equalize
from host_tools.quantize.graph import Graph
from host_tools.quantize.integer import quantize_int8
from host_tools.quantize.softmax import append_softmax
from host_tools.quantize.trial import tried


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a float model becomes an int8 one.

    Attributes:
        ranges: how an activation's range follows from what was observed.
        equalized: channels of like size first, see ``equalize``.
        corrected: biases make up for the rounding of weights, see ``bias_correction``.
        kept_float: names of operators that stay in float.
        io: what the input tensor stores.
    """

    ranges: RangeMethod = "mse"
    equalized: bool = True
    corrected: bool = True
    kept_float: tuple[str, ...] = ()
    io: str = "uint8"


def quantized(
    graph: Graph,
    observed: Mapping[str, Observed],
    pixels: NDArray[np.uint8],
    treatment: Treatment,
) -> bytes:
    """An int8 flatbuffer with float32 probabilities.

    Args:
        graph: of the float model up to the logits; it stays as it is.
        observed: of ``graph`` on ``pixels``.
        pixels: ``(N, H, W, C)`` uint8 calibration pictures, the last two black and white.
        treatment: how.

    Raises:
        ConversionError: an operator that has no 8-bit form, or the result cannot be run.
    """
    if treatment.equalized:
        graph, observed = equalized(graph, observed, pixels)
    return rounded_model(graph, observed, ranges(observed, treatment.ranges), treatment)


def equalized(
    graph: Graph, observed: Mapping[str, Observed], pixels: NDArray[np.uint8]
) -> tuple[Graph, Mapping[str, Observed]]:
    """The same network with channels of like size, and what is observed of it; arguments as above."""
    model = Graph.copy_of(graph)
    changed = equalize(model, observed)
    return model, {**observed, **observe(model, pixels, changed)} if changed else observed


def rounded_model(
    graph: Graph,
    observed: Mapping[str, Observed],
    limits: Mapping[str, tuple[float, float]],
    treatment: Treatment,
) -> bytes:
    """The int8 flatbuffer of a network as it is now: biases are corrected, nothing is equalised.

    Args:
        graph: stays as it is.
        observed, limits: of it; its ranges.
        treatment: how.
    """
    if treatment.corrected:
        graph = Graph.copy_of(graph)
        correct_biases(graph, observed, treatment.kept_float)
    kept, io = treatment.kept_float, treatment.io
    made = append_softmax(quantize_int8(graph.pack(), limits, kept_float=kept, io=io))
    return tried(made, "int8")
