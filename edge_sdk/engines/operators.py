"""A ``.tflite`` model cut into one model per operator, each ready to run: for timing them alone.

LiteRT tells Python nothing about single operators; a model that holds one of them can be timed.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.engines.litert import interpreter_module
from edge_sdk.errors import CorruptArtifactError, EngineError, EngineNotInstalledError
from edge_sdk.types import Tensor

# What the schema's generated code and the interpreter raise at an operator that cannot stand alone.
_CANNOT = (ValueError, RuntimeError, TypeError, AttributeError, IndexError, KeyError)
_NO_TENSOR = -1  # an optional input that was left out


@dataclass(frozen=True, slots=True)
class Slice:
    """One operator as a model.

    Attributes:
        index: in the graph.
        operator: its name, as ``CONV_2D``.
        output: name of the first tensor that it computes.
        model: a flatbuffer.
    """

    index: int
    operator: str
    output: str
    model: bytes


def slice_operators(model: bytes) -> Iterator[Slice]:
    """Cuts the first graph of a model into its operators, in their order.

    An operator whose inputs are all constant, such as the DEQUANTIZE of a float16 weight, gets no
    slice of its own: it comes along with those that use its output, as runtimes compute it once when
    they load the model.

    Raises:
        EngineNotInstalledError: LiteRT's tools are not installed; tflite-runtime has none.
        EngineError: this LiteRT's tools cannot read the model.
    """
    tools = _tools()
    try:
        tree = tools.read_model_from_bytearray(bytearray(model))
        graph = tree.subgraphs[0]
        constant = _constant(tree)
        for index, operator in enumerate(graph.operators):
            if any(int(i) in constant for i in operator.outputs):
                continue
            code = tree.operatorCodes[operator.opcodeIndex]
            outputs = [i for i in operator.outputs if i != _NO_TENSOR]
            name = graph.tensors[outputs[0]].name if outputs else b""
            yield Slice(
                index,
                tools.opcode_to_name(tree, operator.opcodeIndex) or f"CUSTOM {code.customCode}",
                name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or ""),
                bytes(tools.convert_object_to_bytearray(_alone(tree, operator, constant))),
            )
    except _CANNOT as error:
        raise EngineError(f"the model cannot be cut into its operators ({error})") from error


class SliceRunner:
    """Runs one slice on inputs that are made up: time hardly depends on the numbers.

    Args:
        model: of a ``Slice``.
        threads, xnnpack: as for the engine whose operators are looked at.

    Raises:
        CorruptArtifactError: the operator cannot run alone.
    """

    def __init__(self, model: bytes, *, threads: int, xnnpack: bool) -> None:
        module = interpreter_module("litert")
        options: dict[str, Any] = {}
        if not xnnpack:
            options["experimental_op_resolver_type"] = (
                module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            )
        try:
            self._interpreter = module.Interpreter(
                model_content=model, num_threads=threads, **options
            )
            self._interpreter.allocate_tensors()
            for detail in self._interpreter.get_input_details():
                self._interpreter.set_tensor(detail["index"], _numbers(detail))
            self._interpreter.invoke()
        except _CANNOT as error:
            raise CorruptArtifactError(f"an operator does not run alone ({error})") from error
        self.run = self._interpreter.invoke


def _constant(tree: Any) -> dict[int, Any]:
    """Operators that compute the same for every picture, by the tensors that they give."""
    graph = tree.subgraphs[0]
    known = {
        index
        for index, tensor in enumerate(graph.tensors)
        if _content(tree, tensor) is not None and not tensor.isVariable
    }
    constant: dict[int, Any] = {}
    for operator in graph.operators:
        inputs = [int(i) for i in operator.inputs if i != _NO_TENSOR]
        if inputs and all(i in known or i in constant for i in inputs):
            constant |= {int(i): operator for i in operator.outputs}
    return constant


def _content(tree: Any, tensor: Any) -> Any:
    """The bytes of a constant tensor; None of any other."""
    data = tree.buffers[tensor.buffer].data
    return data if data is not None and len(data) else None


def _with_constants(operator: Any, constant: dict[int, Any]) -> list[Any]:
    """An operator behind those that give its constant inputs."""
    before = [constant[int(i)] for i in operator.inputs if int(i) in constant]
    return [*(one for b in before for one in _with_constants(b, constant)), operator]


def _alone(tree: Any, operator: Any, constant: dict[int, Any]) -> Any:
    """A model of one operator: its constants come along, its other inputs become the model's."""
    graph = tree.subgraphs[0]
    operators = _with_constants(operator, constant)
    wanted = dict.fromkeys(
        int(i) for one in operators for i in (*one.inputs, *one.outputs) if i != _NO_TENSOR
    )
    places = {old: new for new, old in enumerate(wanted)}
    buffers = [copy.copy(tree.buffers[0])]
    tensors = []
    for old in wanted:
        tensor = copy.copy(graph.tensors[old])
        if _content(tree, tensor) is None:
            tensor.buffer = 0
        else:
            buffers.append(tree.buffers[tensor.buffer])
            tensor.buffer = len(buffers) - 1
        tensors.append(tensor)
    codes = list(dict.fromkeys(one.opcodeIndex for one in operators))
    moved = [_moved(one, places, codes) for one in operators]
    made_here = {i for one in moved for i in one.outputs}
    alone = copy.copy(graph)
    alone.tensors, alone.operators = tensors, moved
    alone.outputs = moved[-1].outputs
    alone.inputs = [
        i
        for i in dict.fromkeys(i for one in moved for i in one.inputs)
        if i != _NO_TENSOR
        and i not in made_here
        and not tensors[i].buffer
        and not tensors[i].isVariable
    ]
    made = copy.copy(tree)
    made.operatorCodes = [tree.operatorCodes[index] for index in codes]
    made.subgraphs, made.buffers = [alone], buffers
    made.metadata = made.metadataBuffer = made.signatureDefs = None
    return made


def _moved(operator: Any, places: dict[int, int], codes: list[int]) -> Any:
    """The operator in a model where tensors and codes have other numbers."""
    moved = copy.copy(operator)
    moved.opcodeIndex = codes.index(operator.opcodeIndex)
    moved.inputs = [places.get(int(i), _NO_TENSOR) for i in operator.inputs]
    moved.outputs = [places[int(i)] for i in operator.outputs if i != _NO_TENSOR]
    return moved


def _numbers(detail: dict[str, Any]) -> Tensor:
    """Values for one input: small floats, any bytes, zeros for what may be an index."""
    random = np.random.default_rng(0)
    shape, dtype = tuple(detail["shape"]), np.dtype(detail["dtype"])
    if dtype.kind == "f":
        return random.uniform(-1, 1, shape).astype(dtype)
    if dtype.itemsize <= 2 and dtype.kind in "iu":
        info = np.iinfo(dtype)
        return random.integers(info.min, info.max, shape, dtype, endpoint=True)
    return np.zeros(shape, dtype)


def _tools() -> Any:
    try:
        return importlib.import_module("ai_edge_litert.tools.flatbuffer_utils")
    except ImportError as error:
        raise EngineNotInstalledError(
            f"times of single operators need LiteRT's tools ({error}); pip install ai-edge-litert"
        ) from error
