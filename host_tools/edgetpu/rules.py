"""What Google's Edge TPU compiler maps, operator by operator, and what it does not read at all.

Sources. The table of operators and its limitations: "TensorFlow models on the Edge TPU", supported
operations, https://coral.ai/docs/edgetpu/models-intro/#supported-operations, with the column of the
newest runtime (14, compiler 16.0), repeated for the same chip by Axis,
https://developer.axis.com/computer-vision/on-device/system-on-chip/artpec-7/supported-ops/. The
model requirements (8 bits, constant sizes and parameters, three dimensions): the same page.

Versions of operators: compiler 16.0 is of July 2021 and the last one. It loads a file into the
TensorFlow Lite of its time first, and refuses the whole file where an operator is newer than that:
"Didn't find op for builtin opcode 'CONV_2D' version '6'" (google-coral/edgetpu issue 631),
'QUANTIZE' version '3' (879), 'TRANSPOSE_CONV' version '4' (845), 'EXP' version '2'
(google-coral/libedgetpu issue 71). The others are what TensorFlow 2.9, a year younger, registers in
``tensorflow/lite/kernels/register.cc``: the compiler cannot know a higher one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.artifact.tflite import DAMAGE, summarize
from edge_sdk.errors import CorruptArtifactError
from host_tools.tflite import schema, unpack_model

# What following wild indices through the unpacked objects raises, beside DAMAGE.
UNPACK_DAMAGE = (*DAMAGE, AttributeError, KeyError, MemoryError)


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor of the graph.

    Attributes:
        index: its number in the graph.
        name, shape, dtype: of it, as in ``conv/Relu``, ``(1, 32, 32, 16)`` and ``int8``.
        dynamic: a side other than the batch is known only when the model runs.
        scales: how many scales quantise it: 0 for none, 1 per tensor, more per channel.
        zero_point: the first one, 0 where there is none.
        data: the bytes of a constant, None of what is computed.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    dynamic: bool
    scales: int
    zero_point: int
    data: bytes | None

    @property
    def constant(self) -> bool:
        """Known when the model is compiled."""
        return self.data is not None

    def integers(self) -> tuple[int, ...]:
        """The numbers of a constant of integers, such as axes or paddings; empty of others."""
        stored = {"int32": "<i4", "int64": "<i8"}.get(self.dtype)
        if self.data is None or stored is None:
            return ()
        return tuple(int(x) for x in np.frombuffer(self.data, stored))


@dataclass(frozen=True, slots=True, eq=False)
class EdgeTpuOperator:
    """An operator of the graph.

    Attributes:
        index: its place in the order of execution.
        name: as ``CONV_2D``; a custom one's own name.
        custom: it is none of TensorFlow Lite's.
        version: of the operator, which rises with its features.
        inputs, outputs: its tensors; None for an optional one left out.
        options: its options in LiteRT's schema bindings, None where it has none.
    """

    index: int
    name: str
    custom: bool
    version: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Any

    def option(self, name: str) -> int:
        """An option by its name in the schema bindings; 0, its default there, where absent."""
        return int(getattr(self.options, name, 0) or 0)

    def input(self, position: int) -> Tensor | None:
        """An input by its position; None where there is none."""
        return self.inputs[position] if position < len(self.inputs) else None

    def computed(self) -> tuple[Tensor, ...]:
        """Inputs that are not constants, and outputs."""
        return (*(t for t in self.inputs if t is not None and not t.constant), *self.outputs)


def read_graph(model: bytes, name: str) -> tuple[EdgeTpuOperator, ...]:
    """The operators of a model's first graph, in the order of execution.

    Args:
        model: a ``.tflite`` flatbuffer; appended files do no harm.
        name: what to call it in errors.

    Raises:
        CorruptArtifactError: not a TFLite flatbuffer, or a damaged one.
        UnsupportedArtifactError: a model with no graph.
    """
    summarize(model, name)
    try:
        return _operators(unpack_model(model))
    except UNPACK_DAMAGE as error:
        raise CorruptArtifactError(
            f"{name}: the model is truncated or damaged ({error}); copy or convert it again"
        ) from error


def _operators(model: Any) -> tuple[EdgeTpuOperator, ...]:
    module = schema()
    names = _names(module.BuiltinOperator)
    graph = model.subgraphs[0]
    tensors = [_tensor(i, t, model.buffers) for i, t in enumerate(_listed(graph.tensors))]

    def tensor(index: int) -> Tensor | None:
        if index >= len(tensors):
            raise IndexError(f"tensor {index} of {len(tensors)}")
        return tensors[index] if index >= 0 else None

    operators = []
    for index, node in enumerate(_listed(graph.operators)):
        code = model.operatorCodes[node.opcodeIndex]
        # Codes above 127 live in builtinCode; older files have only the other field.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = number == module.BuiltinOperator.CUSTOM
        own_name = (code.customCode or b"CUSTOM").decode("utf-8", "replace")
        operators.append(
            EdgeTpuOperator(
                index=index,
                name=own_name if custom else names.get(number, f"BUILTIN_{number}"),
                custom=custom,
                version=code.version,
                inputs=tuple(tensor(int(i)) for i in _listed(node.inputs)),
                outputs=tuple(t for i in _listed(node.outputs) if (t := tensor(int(i)))),
                options=node.builtinOptions,
            )
        )
    return tuple(operators)


def _tensor(index: int, tensor: Any, buffers: Any) -> Tensor:
    shape = tuple(int(side) for side in _listed(tensor.shape))
    # Where the signature leaves the batch open, the shape fixes it: that is how files are compiled.
    signature = tuple(int(side) for side in _listed(tensor.shapeSignature)) or shape
    quantization = tensor.quantization
    scales = _listed(quantization.scale) if quantization else ()
    zero_points: Any = _listed(quantization.zeroPoint) if quantization else ()
    content = buffers[tensor.buffer].data
    constant = tensor.buffer > 0 and content is not None and len(content) > 0
    return Tensor(
        index=index,
        name=(tensor.name or b"").decode("utf-8", "replace"),
        shape=shape,
        dtype=_names(schema().TensorType).get(tensor.type, f"type {tensor.type}").lower(),
        dynamic=min((*shape, *signature[1:]), default=1) < 1,
        scales=len(scales),
        zero_point=int(zero_points[0]) if len(zero_points) else 0,
        data=bytes(np.asarray(content, np.uint8)) if constant else None,
    )


def _names(enumeration: Any) -> dict[int, str]:
    return {value: key for key, value in vars(enumeration).items() if isinstance(value, int)}


def _listed(vector: Any) -> Any:
    """An empty list in place of None."""
    return () if vector is None else vector


_SOFTMAX_LIMIT = 16_000
_NO_ACTIVATION = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an operator is not mapped, and what would change that."""

    reason: str
    remedy: str


Rule = Callable[[EdgeTpuOperator], Refusal | None]


def _no_fused_activation(operator: EdgeTpuOperator) -> Refusal | None:
    """Pooling and concatenation take none."""
    if operator.option("fusedActivationFunction") == _NO_ACTIVATION:
        return None
    return Refusal(
        "it has a fused activation",
        "move the activation in front of it, or behind a convolution",
    )


def _same_dilation(operator: EdgeTpuOperator) -> Refusal | None:
    across, down = operator.option("dilationWFactor"), operator.option("dilationHFactor")
    if max(across, 1) == max(down, 1):
        return None
    return Refusal(f"its dilation is {across} across and {down} down", "use the same for both")


def _dense(operator: EdgeTpuOperator) -> Refusal | None:
    if operator.option("weightsFormat"):
        return Refusal(
            "its weights are in a shuffled format", "convert again with TensorFlow's converter"
        )
    weights = operator.input(1)
    if weights is not None and weights.scales > 1:
        return Refusal(
            "its weights have a scale per output, which TensorFlow Lite added after the compiler's "
            "release",
            "edgecls convert --edgetpu gives them one scale before it compiles",
        )
    output = operator.outputs[0].shape
    if any(side > 1 for side in output[:-1]):
        return Refusal(
            f"its output is {output}, more than one dimension",
            "flatten or pool before the dense layer, or use a 1x1 convolution",
        )
    return None


def _reduction(operator: EdgeTpuOperator) -> Refusal | None:
    source, axes = operator.input(0), operator.input(1)
    if source is None or axes is None:
        return None
    rank = len(source.shape)
    reduced = {axis % rank for axis in axes.integers()} if rank else set()
    if rank > 1 and 0 in reduced:
        return Refusal("it reduces the batch", "reduce height, width or channels only")
    if operator.name == "MEAN" and rank > 1 and rank - 1 in reduced and source.shape[-1] % 4:
        return Refusal(
            f"it averages {source.shape[-1]} channels", "use a multiple of 4 channels there"
        )
    return None


def _pack(operator: EdgeTpuOperator) -> Refusal | None:
    if operator.option("axis") % max(1, len(operator.outputs[0].shape)):
        return None
    return Refusal("it packs in the batch dimension", "pack along another axis")


def _pad(operator: EdgeTpuOperator) -> Refusal | None:
    paddings = operator.input(1)
    if paddings is None or not any(paddings.integers()[:2]) or len(operator.outputs[0].shape) < 4:
        return None
    return Refusal("it pads the batch dimension", "pad height, width or channels only")


def _split(operator: EdgeTpuOperator) -> Refusal | None:
    axis, source = operator.input(0), operator.input(1)
    if axis is None or source is None or not axis.integers() or not source.shape:
        return None
    if axis.integers()[0] % len(source.shape):
        return None
    return Refusal("it splits the batch dimension", "split along another axis")


def _prelu(operator: EdgeTpuOperator) -> Refusal | None:
    alpha = operator.input(1)
    if alpha is None or all(side == 1 for side in alpha.shape[:-1]):
        return None
    return Refusal(
        f"its alpha is {alpha.shape}", "share it over height and width: PReLU(shared_axes=[1, 2])"
    )


def _softmax(operator: EdgeTpuOperator) -> Refusal | None:
    shape = operator.outputs[0].shape
    if all(side == 1 for side in shape[:-1]) and (not shape or shape[-1] <= _SOFTMAX_LIMIT):
        return None
    return Refusal(
        f"it works on {shape}; one dimension of up to {_SOFTMAX_LIMIT:,} elements is supported",
        "apply it to one list of scores, or leave it to the CPU",
    )


def _strided_slice(operator: EdgeTpuOperator) -> Refusal | None:
    strides = operator.input(3)
    if strides is not None and any(stride != 1 for stride in strides.integers()):
        return Refusal(
            f"its strides are {strides.integers()}", "slice with stride 1, or use a strided pooling"
        )
    if operator.option("ellipsisMask") or operator.option("newAxisMask"):
        return Refusal("it has an ellipsis or a new axis", "write out every range; reshape apart")
    return None


def _concatenation(operator: EdgeTpuOperator) -> Refusal | None:
    fused = _no_fused_activation(operator)
    constants = [t for t in operator.inputs if t is not None and t.constant]
    if fused is not None or not constants:
        return fused
    zeros = all(set(t.data or b"") <= {t.zero_point % 256} for t in constants)
    if len(operator.inputs) == 2 and zeros:
        return None
    return Refusal(
        "it appends a constant that is not all zeros, or to more than one tensor",
        "append zeros to one tensor (a padding), or compute the constant part",
    )


# Names are TensorFlow Lite's; the limitations are the functions above, None for none.
SUPPORTED: dict[str, Rule | None] = {
    "ADD": None,
    "AVERAGE_POOL_2D": _no_fused_activation,
    "CONCATENATION": _concatenation,
    "CONV_2D": _same_dilation,
    "DEPTHWISE_CONV_2D": _same_dilation,
    "EXPAND_DIMS": None,
    "FULLY_CONNECTED": _dense,
    "L2_NORMALIZATION": None,
    "LOGISTIC": None,
    "MAXIMUM": None,
    "MAX_POOL_2D": _no_fused_activation,
    "MEAN": _reduction,
    "MINIMUM": None,
    "MUL": None,
    "PACK": _pack,
    "PAD": _pad,
    "PRELU": _prelu,
    "QUANTIZE": None,
    "REDUCE_MAX": _reduction,
    "REDUCE_MIN": _reduction,
    "RELU": None,
    "RELU6": None,
    "RELU_N1_TO_1": None,
    "RESHAPE": None,
    "RESIZE_BILINEAR": None,
    "RESIZE_NEAREST_NEIGHBOR": None,
    "RSQRT": None,
    "SLICE": None,
    "SOFTMAX": _softmax,
    "SPACE_TO_DEPTH": None,
    "SPLIT": _split,
    "SQUARED_DIFFERENCE": None,
    "SQUEEZE": None,
    "STRIDED_SLICE": _strided_slice,
    "SUB": None,
    "SUM": _reduction,
    "TANH": None,
    "TRANSPOSE": None,
    "TRANSPOSE_CONV": None,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": None,
}
# Supported, and yet the compiler may leave them out: the documentation gives no sizes.
SIZE_DEPENDENT = ("RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
# Positions of the inputs that must be constant.
CONSTANT_INPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), (1, 2)),
    "TRANSPOSE_CONV": (0, 1, 3),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), (1,)),
    **dict.fromkeys(("PAD", "PRELU", "RESHAPE", "TRANSPOSE", "EXPAND_DIMS"), (1,)),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), (1,)),
    "SLICE": (1, 2),
    "SPLIT": (0,),
    "STRIDED_SLICE": (1, 2, 3),
}
# The newest version of an operator that the compiler's TensorFlow Lite may know.
NEWEST_VERSION: dict[str, int] = {
    "ADD": 4,
    "AVERAGE_POOL_2D": 3,
    "CONCATENATION": 3,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "DEQUANTIZE": 5,
    "EXP": 1,
    "FULLY_CONNECTED": 9,
    "GATHER": 5,
    "LEAKY_RELU": 2,
    "LOGISTIC": 3,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MUL": 5,
    "PACK": 3,
    "PAD": 4,
    "QUANTIZE": 2,
    "RELU": 3,
    "RELU6": 3,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "SLICE": 5,
    "SOFTMAX": 3,
    "SPLIT": 4,
    "STRIDED_SLICE": 6,
    "SUB": 5,
    "SUM": 2,
    "TANH": 3,
    "TRANSPOSE": 5,
    "TRANSPOSE_CONV": 3,
}
_RELU = "train with ReLU or ReLU6 in its place"
REMEDIES: dict[str, str] = {
    **dict.fromkeys(("HARD_SWISH", "GELU", "ELU"), _RELU),
    "LEAKY_RELU": f"{_RELU}, or with PReLU of one alpha per channel",
    "ARG_MAX": "let the model end in its scores",
    "BATCH_MATMUL": "use a dense layer or a convolution, whose weights are constant",
    "DEPTH_TO_SPACE": "use a transposed convolution, or resize by nearest neighbour",
    "DEQUANTIZE": "keep numbers in 8 bits up to the end of the model",
    "DIV": "multiply by the reciprocal where the divisor is constant",
    "LOG_SOFTMAX": "use a softmax",
}
