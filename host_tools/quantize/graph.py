"""A float ``.tflite`` as a graph of named operators whose weights can be read and changed.

TensorFlow's converter would quantise a softmax too, to steps of 1/256. So the
model is converted up to its logits, and the softmax is added to the flatbuffer.
"""

from __future__ import annotations

import re
from collections import Counter
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConversionError
from host_tools.tflite import pack_model, schema, unpack_model

# The suffixes of operations in the names that TensorFlow's converter makes of Keras layers.
_COMPUTES = {
    "CONV_2D": "/convolution",
    "DEPTHWISE_CONV_2D": "/depthwise",
    "FULLY_CONNECTED": "/MatMul",
}
# The models that ``convert`` wraps around a network, and what Keras appends to make names unique.
_WRAPPERS = re.compile(r"^(?:logits|body|image|functional|model)(?:_\d+)?$")
_NUMBER = re.compile(r"_\d+$")


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a graph.

    Attributes:
        name: unique; of its output tensor too. The Keras layer's where that is known.
        kind: TensorFlow Lite's name, such as ``CONV_2D``.
        inputs: tensors it reads; -1 for an optional one left out.
        output: the tensor it writes, its first where there are several.
        activation: fused into it: ``NONE``, ``RELU``, ``RELU6``, ...
        strides, dilation: of a window, down and across.
        pads: a window extends beyond the border over zeros ("same" padding).
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    output: int
    activation: str
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: bool = False


class Graph:
    """The first subgraph of a model with float weights.

    Args:
        flatbuffer: the model; tensors are renamed so that operators have short unique names.
    """

    def __init__(self, flatbuffer: bytes) -> None:
        self._model = unpack_model(flatbuffer)
        self._graph = self._model.subgraphs[0]
        self._part_constants()
        self.operators = tuple(self._named())
        self._consumers: dict[int, list[Operator]] = {}
        for operator in self.operators:
            for tensor in set(operator.inputs):
                self._consumers.setdefault(tensor, []).append(operator)

    @property
    def input_name(self) -> str:
        """Of the tensor that pictures go into."""
        name: str = self._graph.tensors[self._graph.inputs[0]].name.decode("utf-8", "replace")
        return name

    @classmethod
    def copy_of(cls, other: Graph) -> Self:
        """A copy with the same weights."""
        return cls(other.pack())

    def pack(self) -> bytes:
        """The flatbuffer."""
        return pack_model(self._model)

    def consumers(self, tensor: int) -> list[Operator]:
        """The operators that read a tensor."""
        return self._consumers.get(tensor, [])

    def is_output(self, tensor: int) -> bool:
        """Whether this tensor is an output of the graph."""
        return tensor in list(self._graph.outputs)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Of a tensor."""
        return tuple(int(side) for side in self._graph.tensors[tensor].shape)

    def constant(self, tensor: int) -> NDArray[np.float32] | None:
        """The values of a float weight or bias, a copy; None for anything else."""
        if not self._is_constant(tensor):
            return None
        record = self._graph.tensors[tensor]
        data = self._model.buffers[record.buffer].data
        return (
            np.frombuffer(bytes(np.asarray(data, np.uint8)), np.float32)
            .reshape(self.shape(tensor))
            .copy()
        )

    def integers(self, tensor: int) -> tuple[int, ...]:
        """The values of a constant of int32, such as axes; none for anything else."""
        record = self._graph.tensors[tensor]
        data = self._model.buffers[record.buffer].data
        if record.type != schema().TensorType.INT32 or data is None:
            return ()
        return tuple(np.frombuffer(bytes(np.asarray(data, np.uint8)), np.int32).tolist())

    def is_shared(self, tensor: int) -> bool:
        """Whether other operators compute with the same values, as of a layer that is used twice."""
        buffer = self._graph.tensors[tensor].buffer
        users = [other for other in self._graph.tensors if other.buffer == buffer]
        return len(users) > 1

    def set_constant(self, tensor: int, values: NDArray[np.float32]) -> None:
        """Replaces the values of a weight or bias; values shared by other operators are unchanged."""
        record = self._graph.tensors[tensor]
        if self.is_shared(tensor):
            record.buffer = len(self._model.buffers)
            self._model.buffers.append(schema().BufferT())
        raw = np.ascontiguousarray(values, np.float32).tobytes()
        self._model.buffers[record.buffer].data = np.frombuffer(raw, np.uint8)

    def _is_constant(self, tensor: int) -> bool:
        if tensor < 0:
            return False
        record = self._graph.tensors[tensor]
        data = self._model.buffers[record.buffer].data
        is_float = bool(record.type == schema().TensorType.FLOAT32)
        return is_float and data is not None and len(data) > 0

    def _part_constants(self) -> None:
        """A tensor of its own for each operator's weights and biases.

        TensorFlow's converter merges equal constants, all biases of zeros for example. The bytes
        stay shared.
        """
        taken: set[int] = set()
        for operator in self._graph.operators:
            inputs = [int(tensor) for tensor in operator.inputs]
            for slot, tensor in enumerate(inputs):
                if tensor in taken and self._is_constant(tensor):
                    inputs[slot] = len(self._graph.tensors)
                    own = copy(self._graph.tensors[tensor])
                    own.name += f"_{inputs[slot]}".encode()
                    self._graph.tensors.append(own)
                taken.add(tensor)
            operator.inputs = inputs

    def _named(self) -> list[Operator]:
        module = schema()
        kinds = _names_of(module.BuiltinOperator)
        activations = _names_of(module.ActivationFunctionType)
        taken: Counter[str] = Counter()
        found = []
        for record in self._graph.operators:
            code = self._model.operatorCodes[record.opcodeIndex]
            kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
            output = int(record.outputs[0])
            tensor = self._graph.tensors[output]
            name = _layer_name(tensor.name.decode("utf-8", "replace"), kind)
            taken[name] += 1
            if taken[name] > 1:
                name = f"{name}_{kind.lower()}_{taken[name]}"
            tensor.name = name.encode()
            options = record.builtinOptions
            fused = getattr(options, "fusedActivationFunction", 0)
            inputs = tuple(int(index) for index in record.inputs)
            for position, index in enumerate(inputs):
                # A constant's own name lists all layers that went into it: kilobytes in all.
                if self._is_constant(index):
                    self._graph.tensors[index].name = f"{name}/{position}".encode()
            found.append(
                Operator(
                    *(name, kind, inputs, output, activations[fused]),
                    strides=(getattr(options, "strideH", 1), getattr(options, "strideW", 1)),
                    dilation=(
                        getattr(options, "dilationHFactor", 1),
                        getattr(options, "dilationWFactor", 1),
                    ),
                    pads=getattr(options, "padding", None) == module.Padding.SAME,
                )
            )
        return found


def _names_of(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _layer_name(tensor: str, kind: str) -> str:
    """The Keras layer behind a tensor's name such as ``logits_1/body_1/conv1_1/convolution;...``."""
    parts = [part for part in tensor.split(";") if "/" in part]
    computing = [part for part in parts if _COMPUTES.get(kind, "\0") in part]
    for part in computing or parts:
        layers = [one for one in part.split("/")[:-1] if one and not _WRAPPERS.match(one)]
        if layers:
            return _NUMBER.sub("", layers[0])
    return kind.lower() if tensor.startswith("StatefulPartitionedCall") or not tensor else tensor


def append_softmax(flatbuffer: bytes) -> bytes:
    """The same model with a SOFTMAX operator behind its float32 output ``(1, classes)``.

    Raises:
        ConversionError: the output is not float32.
    """
    module = schema()
    model = unpack_model(flatbuffer)
    graph = model.subgraphs[0]
    logits = graph.tensors[graph.outputs[0]]
    if logits.type != module.TensorType.FLOAT32:
        raise ConversionError(
            "the converted model's output is not float32; this is a bug, report it"
        )
    code = module.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = module.BuiltinOperator.SOFTMAX
    code.version = 1
    model.operatorCodes.append(code)

    probabilities = module.TensorT()
    probabilities.name = b"probabilities"
    probabilities.shape = list(logits.shape)
    probabilities.type = module.TensorType.FLOAT32
    probabilities.buffer = len(model.buffers)
    model.buffers.append(module.BufferT())
    graph.tensors.append(probabilities)

    softmax = module.OperatorT()
    softmax.opcodeIndex = len(model.operatorCodes) - 1
    softmax.inputs = [graph.outputs[0]]
    softmax.outputs = [len(graph.tensors) - 1]
    softmax.builtinOptionsType = module.BuiltinOptions.SoftmaxOptions
    softmax.builtinOptions = module.SoftmaxOptionsT()
    softmax.builtinOptions.beta = 1.0
    graph.operators.append(softmax)
    graph.outputs = [len(graph.tensors) - 1]
    # Signatures name tensors by index; the runtime and MediaPipe read the graph's own list.
    for signature in model.signatureDefs or []:
        for output in signature.outputs:
            output.tensorIndex = len(graph.tensors) - 1
    return pack_model(model)
