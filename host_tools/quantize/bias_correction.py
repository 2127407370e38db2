"""Bias correction: what rounding the weights shifts an operator's mean output by, taken back.

Nagel et al. 2019, section 4.2: rounding changes the weights by dW, so that the mean of the output
moves by dW times the mean of the input. That mean is observed on calibration pictures here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from host_tools.quantize.activations import Observed
from host_tools.quantize.graph import Graph, Operator

# Symmetric 8-bit weights, as TensorFlow Lite's quantisation specification has them.
_LARGEST = 127


def correct_biases(graph: Graph, observed: Mapping[str, Observed]) -> int:
    """Corrects the bias of every convolution and dense operator, in place.

    Args:
        graph: of a float model.
        observed: of the same graph.

    Returns:
        How many biases changed.
    """
    made_by = {operator.output: operator.name for operator in graph.operators}
    corrected = 0
    for operator in graph.operators:
        if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        source = made_by.get(operator.inputs[0], graph.input_name)
        weights = graph.constant(operator.inputs[1])
        bias_index = operator.inputs[2] if len(operator.inputs) > 2 else -1
        bias = graph.constant(bias_index)
        if source not in observed or weights is None or bias is None:
            continue
        mean = observed[source].channel_mean
        if weights.shape[-1] != len(mean):
            continue
        graph.set_constant(bias_index, bias - _shift(operator, weights, mean).astype(np.float32))
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
    operator: Operator, weights: NDArray[np.float32], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``(O,)``: by how much each output channel's mean moves."""
    change = rounded(weights, operator.kind).astype(np.float64) - weights
    if operator.kind == "DEPTHWISE_CONV_2D":
        return np.asarray(change.sum(axis=(0, 1, 2)) * mean)
    flat = change.reshape(change.shape[0], -1, change.shape[-1]).sum(axis=1)
    return np.asarray(flat @ mean)
