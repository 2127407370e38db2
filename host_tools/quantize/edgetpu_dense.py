"""One scale for the weights of each dense layer, as the Edge TPU's compiler knows them.

TensorFlow's converter writes dense layers with a scale per output since 2024. The compiler is of
2021; the TensorFlow Lite in it reads one scale per dense layer and takes such a file without a word
(TensorFlow Lite Micro had the same trouble: "using incorrect quantization parameters",
tensorflow/tflite-micro pull request 2602). The numbers here are those of the converter's own switch,
``_experimental_disable_per_channel_quantization_for_dense_layers``, within one unit of rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_sdk.errors import CorruptArtifactError
from host_tools.quantize.edgetpu_graph import UNPACK_DAMAGE
from host_tools.tflite import pack_model, schema, unpack_model


def one_scale_per_dense(model: bytes, name: str) -> tuple[bytes, int]:
    """Gives the int8 weights of every dense layer a single scale.

    With scales ``s_c`` and stored weights ``q_c`` of output c, the single scale is ``s = max s_c``
    and the weights become ``round(q_c s_c / s)``; biases, whose scale is the input's times the
    weights', follow. Weights of outputs with small scales lose resolution, as they had before 2024.

    Args:
        model: a ``.tflite`` flatbuffer.
        name: what to call it in errors.

    Returns:
        The flatbuffer, the same bytes where there is nothing to do, and how many layers changed.

    Raises:
        CorruptArtifactError: a damaged flatbuffer.
    """
    try:
        unpacked = unpack_model(model)
        changed = _rescale(unpacked)
        return (pack_model(unpacked) if changed else model), changed
    except UNPACK_DAMAGE as error:
        raise CorruptArtifactError(
            f"{name}: the model is truncated or damaged ({error}); copy or convert it again"
        ) from error


def _rescale(model: Any) -> int:
    module = schema()
    graph = model.subgraphs[0]
    changed = 0
    for node in graph.operators:
        code = model.operatorCodes[node.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number != module.BuiltinOperator.FULLY_CONNECTED:
            continue
        source, weights = (graph.tensors[i] for i in node.inputs[:2])
        scales = _scales(weights)
        if weights.type != module.TensorType.INT8 or len(scales) < 2:
            continue
        scale = float(scales.max())
        stored = _content(model, weights, np.int8).reshape(len(scales), -1)
        _replace(model, weights, np.rint(stored * (scales / scale)[:, np.newaxis]), np.int8, scale)
        if len(node.inputs) > 2 and node.inputs[2] >= 0:
            bias = graph.tensors[node.inputs[2]]
            bias_scale = float(_scales(source)[0]) * scale
            values = _content(model, bias, np.int32) * (_scales(bias) / bias_scale)
            _replace(model, bias, np.rint(values), np.int32, bias_scale)
        changed += 1
    return changed


def _scales(tensor: Any) -> Any:
    scale = tensor.quantization.scale if tensor.quantization else None
    return np.asarray([] if scale is None else scale, np.float64)


def _content(model: Any, tensor: Any, dtype: type) -> Any:
    content = bytes(np.asarray(model.buffers[tensor.buffer].data, np.uint8))
    return np.frombuffer(content, dtype).astype(np.float64)


def _replace(model: Any, tensor: Any, values: Any, dtype: type, scale: float) -> None:
    # A buffer of its own: other tensors may share the old one.
    buffer = schema().BufferT()
    buffer.data = np.frombuffer(values.astype(dtype).tobytes(), np.uint8)
    tensor.buffer = len(model.buffers)
    model.buffers.append(buffer)
    tensor.quantization.scale = np.array([scale], np.float32)
    tensor.quantization.zeroPoint = np.array([0], np.int64)
    tensor.quantization.quantizedDimension = 0
