"""Cross-layer equalisation: the same function with channels of like size.

An activation has one scale for all its channels, so one channel a hundred times larger than the
others takes their resolution away. Where an operator's output, through nothing but ReLU, padding or
pooling, goes into one other operator, channel c may be divided by any positive s_c as it is made
and multiplied again as it is read (Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction"). With weights per channel the scale of what is made costs
nothing; what is read shares a scale per output channel, unless it is depthwise. So s_c brings the
activation's observed peak and the reader's weights to the same size, as Xiao et al. 2023
("SmoothQuant") choose it with an exponent of a half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from host_tools.quantize.activations import Observed
from host_tools.quantize.graph import Graph, Operator

_PRODUCERS = ("CONV_2D", "DEPTHWISE_CONV_2D")
# Positively homogeneous and channel by channel. RELU6 is not: its 6 would have to move.
_ACTIVATIONS = ("NONE", "RELU")
_TRANSPARENT = ("PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "RELU")
# Factors beyond this would only shift rounding into the weights.
_LARGEST = 1e4


def equalize(graph: Graph, observed: Mapping[str, Observed]) -> frozenset[str]:
    """Equalises every pair of operators that can be, in place.

    Args:
        graph: of a float model.
        observed: of the same graph, before.

    Returns:
        Names of the operators whose output has other channels now: what was observed of these no
        longer fits, of all others it does.
    """
    changed: set[str] = set()
    for producer in graph.operators:
        if producer.kind not in _PRODUCERS or producer.activation not in _ACTIVATIONS:
            continue
        found = _reader(graph, producer)
        if found is None or producer.name not in observed:
            continue
        reader, between = found
        if graph.is_shared(producer.inputs[1]) or graph.is_shared(reader.inputs[1]):
            continue  # of a layer used twice: each use would need weights of its own
        factors = _factors(graph, observed[producer.name].channel_peak, reader)
        if factors is None or np.allclose(factors, 1.0, rtol=0.01):
            continue
        _scale_output(graph, producer, np.reciprocal(factors))
        _scale_input(graph, reader, factors)
        changed.update((producer.name, *between))
    return frozenset(changed)


def _reader(graph: Graph, producer: Operator) -> tuple[Operator, list[str]] | None:
    """The one operator with weights that reads the producer's channels, and those in between."""
    tensor, channels = producer.output, graph.shape(producer.output)[-1]
    between: list[str] = []
    while True:
        readers = graph.consumers(tensor)
        if len(readers) != 1 or graph.is_output(tensor):
            return None
        (reader,) = readers
        if reader.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            weights = graph.constant(reader.inputs[1])
            axis = -1  # OHWI, 1HWO and (out, in)
            fits = weights is not None and weights.shape[axis] == channels
            multiplied = reader.kind == "DEPTHWISE_CONV_2D" and (
                graph.shape(reader.output)[-1] != channels
            )
            fits = fits and not multiplied and reader.inputs[0] == tensor
            return (reader, between) if fits else None
        if reader.kind not in _TRANSPARENT or reader.activation not in _ACTIVATIONS:
            return None
        if graph.shape(reader.output)[-1] != channels or _mixes_channels(graph, reader):
            return None
        between.append(reader.name)
        tensor = reader.output


def _mixes_channels(graph: Graph, operator: Operator) -> bool:
    """A mean over the channels of a square picture has as many columns as there were channels."""
    if operator.kind != "MEAN":
        return False
    last = len(graph.shape(operator.inputs[0])) - 1
    axes = graph.integers(operator.inputs[1])
    return not axes or any(axis in (last, -1) for axis in axes)


def _factors(
    graph: Graph, peak: NDArray[np.float32], reader: Operator
) -> NDArray[np.float32] | None:
    """``(C,)`` s_c, their geometric mean 1; None where the reader's weights are not known."""
    weights = graph.constant(reader.inputs[1])
    if weights is None:
        return None
    live = peak > 0
    if live.sum() < 2:
        return None
    read = np.abs(weights).reshape(-1, weights.shape[-1]).max(axis=0)
    if reader.kind == "DEPTHWISE_CONV_2D":  # each channel has a scale of its own there
        factors = peak.astype(np.float64)
    else:
        factors = np.sqrt(peak / np.maximum(read, 1e-12))
    live &= np.isfinite(factors) & (factors > 0) & (read > 0)
    if live.sum() < 2:
        return None
    middle = np.exp(np.log(factors[live]).mean())
    result = np.where(live, factors / middle, 1.0)
    return np.clip(result, 1 / _LARGEST, _LARGEST).astype(np.float32)


def _scale_output(graph: Graph, operator: Operator, factors: NDArray[np.float32]) -> None:
    weights = graph.constant(operator.inputs[1])
    assert weights is not None
    along = factors if operator.kind == "DEPTHWISE_CONV_2D" else factors[:, None, None, None]
    graph.set_constant(operator.inputs[1], weights * along)
    for bias_index in _bias(operator):
        bias = graph.constant(bias_index)
        if bias is not None:
            graph.set_constant(bias_index, bias * factors)


def _scale_input(graph: Graph, operator: Operator, factors: NDArray[np.float32]) -> None:
    weights = graph.constant(operator.inputs[1])
    assert weights is not None
    graph.set_constant(operator.inputs[1], weights * factors)


def _bias(operator: Operator) -> Iterator[int]:
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        yield operator.inputs[2]
