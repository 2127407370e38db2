"""Bias correction: what rounding the weights shifts an operator's mean output by, taken back.

Nagel et al. 2019, section 4.2: rounding changes the weights by dW, so that the mean of the output
moves by dW times the mean of the input. That mean is observed on calibration pictures here, place by
place: what a weight of a window sees on average depends on where it stands, since beyond the border
there are zeros; on small maps that is a good part of all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from host_tools.quantize.activations import Observed
from host_tools.quantize.graph import Graph, Operator

# Symmetric 8-bit weights, as TensorFlow Lite's quantisation specification has them.
_LARGEST = 127


def correct_biases(
    graph: Graph, observed: Mapping[str, Observed], kept_float: Collection[str] = ()
) -> int:
    """Corrects the bias of every convolution and dense operator, in place.

    Args:
        graph: of a float model.
        observed: of the same graph.
        kept_float: names of operators whose weights are not rounded.

    Returns:
        How many biases changed.
    """
    made_by = {operator.output: operator.name for operator in graph.operators}
    corrected = 0
    for operator in graph.operators:
        if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        if operator.name in kept_float:
            continue
        source = made_by.get(operator.inputs[0], graph.input_name)
        weights = graph.constant(operator.inputs[1])
        bias_index = operator.inputs[2] if len(operator.inputs) > 2 else -1
        bias = graph.constant(bias_index)
        if source not in observed or weights is None or bias is None:
            continue
        shift = _shift(graph, operator, weights, observed[source].mean)
        if shift is None:
            continue
        graph.set_constant(bias_index, bias - shift)
        corrected += 1
    return corrected


def rounded(weights: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """The weights after 8-bit rounding, symmetric per output channel.

    Args:
        weights: ``(O, H, W, I)`` of a convolution, ``(1, H, W, O)`` of a depthwise one, ``(O, I)``
            of a dense layer.
        kind: the operator's.
    """
    output = weights.ndim - 1 if kind == "DEPTHWISE_CONV_2D" else 0
    others = tuple(axis for axis in range(weights.ndim) if axis != output)
    scale = np.abs(weights).max(axis=others, keepdims=True) / _LARGEST
    scale = np.where(scale > 0, scale, 1.0)
    return np.asarray(np.round(weights / scale) * scale, np.float32)


def _shift(
    graph: Graph, operator: Operator, weights: NDArray[np.float32], mean: NDArray[np.float64]
) -> NDArray[np.float32] | None:
    """``(O,)``: by how much each output channel's mean moves; None for convolutions in groups."""
    change = rounded(weights, operator.kind).astype(np.float64) - weights
    if operator.kind == "FULLY_CONNECTED":
        return np.asarray(change @ mean.reshape(-1, weights.shape[-1]).mean(axis=0), np.float32)
    down, across = (_places(graph, operator, axis) for axis in (0, 1))
    seen = np.einsum("ih,jw,hwc->ijc", down, across, mean[0], optimize=True)
    if operator.kind == "DEPTHWISE_CONV_2D":
        of_input = np.repeat(seen, weights.shape[-1] // seen.shape[-1], axis=-1)
        return np.asarray((change[0] * of_input).sum(axis=(0, 1)), np.float32)
    if weights.shape[-1] != seen.shape[-1]:
        return None
    return np.asarray(np.tensordot(change, seen, axes=3), np.float32)


def _places(graph: Graph, operator: Operator, axis: int) -> NDArray[np.float64]:
    """``(kernel, size)``: how often each row (or column) of a window is on each of the picture's.

    A share of all places of the window; less than 1 in all for a row that is beyond the border at
    some of them.
    """
    size = graph.shape(operator.inputs[0])[1 + axis]
    count = graph.shape(operator.output)[1 + axis]
    kernel = graph.shape(operator.inputs[1])[1 + axis]
    stride, dilation = operator.strides[axis], operator.dilation[axis]
    beyond = max((count - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    first = -(beyond // 2) if operator.pads else 0
    at = first + stride * np.arange(count) + dilation * np.arange(kernel)[:, np.newaxis]
    hits = at[:, :, np.newaxis] == np.arange(size)
    return np.asarray(hits.mean(axis=1))
