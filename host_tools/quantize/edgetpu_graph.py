"""A ``.tflite`` graph as the Edge TPU check looks at it: operators, their tensors, what is constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.artifact.tflite import summarize
from edge_sdk.errors import CorruptArtifactError
from edge_sdk.flatbuffer import DAMAGE
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
class Operator:
    """An operator of the graph.

    Attributes:
        index: its place in the order of execution.
        name: as ``CONV_2D``; a custom one's own name.
        custom: it is none of TensorFlow Lite's.
        version: of the operator, which rises as it learns something.
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
        """Inputs that are no constants, and outputs."""
        return (*(t for t in self.inputs if t is not None and not t.constant), *self.outputs)


def read_graph(model: bytes, name: str) -> tuple[Operator, ...]:
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


def _operators(model: Any) -> tuple[Operator, ...]:
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
            Operator(
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
    """An empty one for the None that stands for it."""
    return () if vector is None else vector
