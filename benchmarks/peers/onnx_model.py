"""The same network for ONNX Runtime and OpenCV: tf2onnx, then two exact rewritings for their sake.

tf2onnx translates an int8 ``.tflite`` one to one. ONNX Runtime then ran half of its convolutions in
float: it has int8 kernels for uint8 activations on every processor, and a ``Clip`` between a
convolution and its ``QuantizeLinear`` prevents their fusion. For a fair comparison the file must be
as its own tools would make it, so the activations' zero points are moved by 128 together with their
type, and a ``Clip`` is removed where the quantisation saturates at least as early.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

# The first opset with per-channel QDQ and everything else the network needs.
_OPSET = 17


def write_onnx(tflite: Path, quantised: Path, float32: Path) -> None:
    """Converts an int8 ``.tflite`` to ``quantised``, and to ``float32`` with the same weights.

    Raises:
        subprocess.CalledProcessError: tf2onnx refuses the model.
    """
    subprocess.run(
        [
            *(sys.executable, "-m", "tf2onnx.convert", "--opset", str(_OPSET)),
            *("--tflite", tflite, "--output", quantised),
        ],
        check=True,
        capture_output=True,
    )
    model = onnx.load(quantised)
    _save(rewrite(model), quantised)
    _dequantise(model.graph)
    _save(model, float32)


def rewrite(model: Any) -> Any:
    """A QDQ model with both rewritings; ``model`` itself stays as it is."""
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    _drop_clips(rewritten.graph)
    _take_uint8(rewritten.graph)
    return rewritten


def _save(model: Any, path: Path) -> None:
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _constants(graph: Any) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in graph.initializer}


def _value(tensor: Any) -> Any:
    return numpy_helper.to_array(tensor)


def _drop_clips(graph: Any) -> None:
    """Without each ``Clip`` whose only readers quantise to a range within its bounds."""
    constants = _constants(graph)
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in [node for node in graph.node if node.op_type == "Clip"]:
        low, high = (float(_value(constants[name])) for name in node.input[1:3])
        after = readers[node.output[0]]
        if all(
            reader.op_type == "QuantizeLinear" and _within(reader, constants, low, high)
            for reader in after
        ):
            for reader in after:
                reader.input[0] = node.input[0]
            graph.node.remove(node)


def _within(quantize: Any, constants: dict[str, Any], low: float, high: float) -> bool:
    scale, zero_point = (_value(constants[name]) for name in quantize.input[1:3])
    limits = np.iinfo(zero_point.dtype)
    ends = [float(scale) * (limit - int(zero_point)) for limit in (limits.min, limits.max)]
    half = float(scale) / 2  # what is rounded away is not seen either
    return ends[0] >= low - half and ends[1] <= high + half


def _take_uint8(graph: Any) -> None:
    """Activations as uint8 instead of int8: 128 more in the zero point and in every value."""
    constants = _constants(graph)
    made = {node.output[0] for node in graph.node}
    moved: dict[str, str] = {}
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        activation = node.op_type == "QuantizeLinear" or node.input[0] in made
        zero_point = _value(constants[node.input[2]])
        if not activation or zero_point.dtype != np.int8:
            continue
        name = node.input[2]
        if name not in moved:
            moved[name] = f"{name}_uint8"
            shifted = (zero_point.astype(np.int16) + 128).astype(np.uint8)
            graph.initializer.append(numpy_helper.from_array(shifted, moved[name]))
        node.input[2] = moved[name]
    del graph.value_info[:]  # it names the old types


def _dequantise(graph: Any) -> None:
    """The same weights in float32, without any rounding between the layers."""
    constants = _constants(graph)
    outside = {graph.input[0].name, graph.output[0].name}
    stands_for: dict[str, str] = {}
    for node in list(graph.node):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if node.input[0] in constants:
            graph.initializer.append(_real(node, constants))
        elif outside.isdisjoint((node.input[0], node.output[0])):
            stands_for[node.output[0]] = node.input[0]
        else:
            continue
        graph.node.remove(node)
    for node in graph.node:
        for slot, name in enumerate(node.input):
            while name in stands_for:
                name = stands_for[name]
            node.input[slot] = name


def _real(node: Any, constants: dict[str, Any]) -> Any:
    stored, scale = (_value(constants[name]) for name in node.input[:2])
    zero_point = _value(constants[node.input[2]]) if len(node.input) > 2 else np.zeros((), np.int32)
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    if scale.ndim:
        shape = [1] * stored.ndim
        shape[axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    real = (stored.astype(np.float32) - zero_point.astype(np.float32)) * scale
    return numpy_helper.from_array(real.astype(np.float32), node.output[0])
