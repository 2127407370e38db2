"""8-bit models from float ones, every range and every operator's precision in our hands.

LiteRT Quantizer does the arithmetic; ``docs/adr`` says why it, and not TensorFlow's converter.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from edge_sdk.errors import ConversionError
from host_tools.extras import muted, require
from host_tools.progress import working
from host_tools.tflite import pack_model, schema, unpack_model

# Of pictures: uint8 values 0..255 stored as int8.
_INPUT_SCALE, _INPUT_ZERO_POINT = 1.0, -128


def quantize_int8(
    float_model: bytes,
    ranges: Mapping[str, tuple[float, float]],
    *,
    kept_float: Collection[str] = (),
    activations: int = 8,
    io: str = "uint8",
) -> bytes:
    """An integer model: weights symmetric per channel, activations asymmetric per tensor.

    Args:
        float_model: a flatbuffer of ``Graph.pack``, its input RGB 0..255.
        ranges: lowest and highest value per tensor, by name; see ``activations.ranges``. The
            input's is 0..255 whatever is said here.
        kept_float: names of operators that go on computing in float.
        activations: bits of an activation, 8 or 16.
        io: what the input tensor stores, ``uint8``, ``int8`` or ``float32``. The output is float32.

    Raises:
        ConversionError: an operator that has no 8-bit form.
    """
    quantizer_module = require("litert_quantizer.quantizer")
    recipes = require("litert_quantizer.recipe")
    names = require("litert_quantizer.qtyping").TFLOperationName
    leave = quantizer_module.AlgorithmName.NO_QUANTIZE
    logging.getLogger("absl").setLevel(logging.ERROR)
    quantizer = quantizer_module.Quantizer(bytearray(float_model))
    quantizer.load_quantization_recipe(
        recipes.static_wi8_ai8() if activations == 8 else recipes.static_wi8_ai16()
    )
    quantizer.update_quantization_recipe(".*", names.OUTPUT, None, leave)
    if io == "float32":
        quantizer.update_quantization_recipe(".*", names.INPUT, None, leave)
    for name in kept_float:
        quantizer.update_quantization_recipe(
            f"^{re.escape(name)};", names.ALL_SUPPORTED, None, leave
        )
    try:
        with working("rounding to 8 bits"), muted(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = quantizer.quantize(
                _statistics(float_model, ranges), enable_progress_report=False
            )
    except (ValueError, RuntimeError, NotImplementedError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConversionError(f"the model cannot be expressed in int8: {reason}") from error
    flatbuffer = bytes(result.quantized_model)
    return _with_uint8_input(flatbuffer) if io == "uint8" else flatbuffer


def weights_int4(float_model: bytes) -> bytes:
    """The model with 4-bit weights per channel, unpacked to float when it is loaded.

    Raises:
        ConversionError: an operator that has no such form.
    """
    quantizer_module = require("litert_quantizer.quantizer")
    logging.getLogger("absl").setLevel(logging.ERROR)
    quantizer = quantizer_module.Quantizer(bytearray(float_model))
    quantizer.load_quantization_recipe(require("litert_quantizer.recipe").weight_only_wi4_afp32())
    try:
        with working("rounding weights to 4 bits"), muted(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = quantizer.quantize(enable_progress_report=False)
    except (ValueError, RuntimeError, NotImplementedError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConversionError(f"the model cannot be expressed in int4: {reason}") from error
    return bytes(result.quantized_model)


def _statistics(float_model: bytes, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Ranges as LiteRT Quantizer keeps them: arrays with the tensor's number of dimensions."""
    model = unpack_model(float_model)
    graph = model.subgraphs[0]
    inputs = set(graph.inputs)
    unseen = _further_outputs(model)
    found = {}
    for index, tensor in enumerate(graph.tensors):
        name = tensor.name.decode("utf-8", "replace")
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data):
            continue  # a weight: it looks at those itself, channel by channel
        low, high = (0.0, 255.0) if index in inputs else ranges.get(name, (0.0, 0.0))
        if index in unseen and name not in ranges:
            if unseen[index] not in ranges:
                raise ConversionError(
                    f"the model cannot be expressed in int8: nothing is known of the range of {name}; "
                    "replace the layer that makes it, or choose another --format"
                )
            low, high = ranges[unseen[index]]
        shape = (1,) * max(1, len(tensor.shape))
        found[name] = {
            "min": np.full(shape, low, np.float32),
            "max": np.full(shape, high, np.float32),
        }
    return found


def _further_outputs(model: Any) -> dict[int, str]:
    """Float outputs beside each operator's first, which nobody observes.

    Returns:
        By tensor, the name of the one whose range it has: what is taken apart, and what it is taken
        apart into. Empty for operators that compute.
    """
    module, graph = schema(), model.subgraphs[0]
    moving = (
        module.BuiltinOperator.SPLIT,
        module.BuiltinOperator.SPLIT_V,
        module.BuiltinOperator.UNPACK,
    )
    found = {}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        moves = max(code.builtinCode, code.deprecatedBuiltinCode) in moving
        floats = [
            i
            for i in operator.inputs
            if i >= 0 and graph.tensors[i].type == module.TensorType.FLOAT32
        ]
        source = (
            graph.tensors[floats[0]].name.decode("utf-8", "replace") if moves and floats else ""
        )
        for index in list(operator.outputs)[1:]:
            if graph.tensors[index].type == module.TensorType.FLOAT32:
                found[int(index)] = source
    return found


def _with_uint8_input(flatbuffer: bytes) -> bytes:
    """The int8 model behind a QUANTIZE operator that takes uint8, as MediaPipe and cameras give it."""
    module = schema()
    model = unpack_model(flatbuffer)
    graph = model.subgraphs[0]
    (inner,) = graph.inputs
    quantization = graph.tensors[inner].quantization
    found = (float(quantization.scale[0]), int(quantization.zeroPoint[0]))
    if graph.tensors[inner].type != module.TensorType.INT8 or found != (
        _INPUT_SCALE,
        _INPUT_ZERO_POINT,
    ):
        raise ConversionError(
            f"the integer model's input has scale and zero point {found}, expected "
            f"{(_INPUT_SCALE, _INPUT_ZERO_POINT)}; this is a bug, report it"
        )
    outer = module.TensorT()
    outer.name = b"image"
    outer.shape = list(graph.tensors[inner].shape)
    outer.type = module.TensorType.UINT8
    outer.buffer = len(model.buffers)
    model.buffers.append(module.BufferT())
    outer.quantization = module.QuantizationParametersT()
    outer.quantization.scale = [1.0]
    outer.quantization.zeroPoint = [0]
    graph.tensors.append(outer)
    code = module.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = module.BuiltinOperator.QUANTIZE
    code.version = 1
    model.operatorCodes.append(code)
    operator = module.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [len(graph.tensors) - 1], [inner]
    graph.operators.insert(0, operator)
    graph.inputs = [len(graph.tensors) - 1]
    # Signatures name tensors by index; the runtime and MediaPipe read the graph's own list.
    for signature in model.signatureDefs or []:
        for entry in signature.inputs:
            entry.tensorIndex = len(graph.tensors) - 1
    return pack_model(model)
