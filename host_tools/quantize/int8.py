"""int8 models: ranges and precision of every operator, equalisation, bias correction.

An activation has one scale for all its channels, so one channel a hundred times larger than the
others takes their resolution away. Where an operator's output, through nothing but ReLU, padding or
pooling, goes into one other operator, channel c may be divided by any positive s_c in the producer
and multiplied again in the reader (Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction"). With a scale per channel the producer's weights lose
nothing; the reader's weights share a scale per output channel, unless it is depthwise. So s_c brings the
activation's observed peak and the reader's weights to the same size, as Xiao et al. 2023
("SmoothQuant") choose it with an exponent of a half.

Nagel et al. 2019, section 4.2: rounding changes the weights by dW, so that the mean of the output
moves by dW times the mean of the input. That mean is observed on calibration pictures here, per
position: the mean input of a weight of a window depends on its position, since there are zeros
beyond the border, a large share of a small map.

LiteRT Quantizer does the arithmetic; ``docs/adr`` has the reasons.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConversionError
from host_tools.extras import muted, require
from host_tools.progress import working
from host_tools.quantize.activations import Observed, RangeMethod, observe, ranges
from host_tools.quantize.graph import Graph, Operator, append_softmax
from host_tools.quantize.trial import tried
from host_tools.tflite import pack_model, schema, unpack_model

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
        Names of the operators whose output channels were scaled: their observed activations are
        no longer valid; those of all others are.
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


# Symmetric 8-bit weights, as TensorFlow Lite's quantisation specification has them.
_LARGEST_INT8 = 127


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
    scale = np.abs(weights).max(axis=others, keepdims=True) / _LARGEST_INT8
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


# Quantisation of pictures: uint8 values 0..255 stored as int8.
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
            input's is always 0..255.
        kept_float: names of operators that stay in float.
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
            continue  # a weight: the quantiser computes its ranges per channel
        low, high = (0.0, 255.0) if index in inputs else ranges.get(name, (0.0, 0.0))
        if index in unseen and name not in ranges:
            if unseen[index] not in ranges:
                raise ConversionError(
                    f"the model cannot be expressed in int8: the range of {name} is unknown; "
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
    """Float outputs beside each operator's first, which are not observed.

    Returns:
        By tensor, the name of the tensor whose range it shares: the input of a split and its
        outputs. Empty for operators that compute.
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


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a float model becomes an int8 one.

    Attributes:
        ranges: how an activation's range follows from what was observed.
        equalized: channels are equalised first, see ``equalize``.
        corrected: biases compensate the rounding of weights, see ``correct_biases``.
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
    """The same network with equalised channels, and its observed activations; arguments as above."""
    model = Graph.copy_of(graph)
    changed = equalize(model, observed)
    return model, {**observed, **observe(model, pixels, changed)} if changed else observed


def rounded_model(
    graph: Graph,
    observed: Mapping[str, Observed],
    limits: Mapping[str, tuple[float, float]],
    treatment: Treatment,
) -> bytes:
    """The int8 flatbuffer of a network: biases are corrected, channels are not equalised.

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
