"""A model's operators: each as a separate model for timing, and which of them XNNPACK runs.

LiteRT reports nothing about single operators to Python; a model of one operator can be timed.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from edge_sdk.engines.litert import interpreter_module
from edge_sdk.errors import CorruptArtifactError, EngineError, EngineNotInstalledError
from edge_sdk.types import Tensor

# Raised by the schema's generated code and the interpreter on an operator that cannot run alone.
_CANNOT = (ValueError, RuntimeError, TypeError, AttributeError, IndexError, KeyError)
_NO_TENSOR = -1  # an omitted optional input


@dataclass(frozen=True, slots=True)
class Slice:
    """A model of one operator.

    Attributes:
        index: its position in the graph.
        operator: its name, such as ``CONV_2D``.
        output: name of its first output tensor.
        model: a flatbuffer.
    """

    index: int
    operator: str
    output: str
    model: bytes


def slice_operators(model: bytes) -> Iterator[Slice]:
    """Splits the first graph of a model into its operators, in order.

    An operator whose inputs are all constant, such as the DEQUANTIZE of a float16 weight, gets no
    slice: it is included in the slices that use its output, since runtimes compute it once when they
    load the model.

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
        raise EngineError(f"the model cannot be split into its operators ({error})") from error


class SliceRunner:
    """Runs one slice on synthetic inputs: the time hardly depends on their values.

    Args:
        model: the model of a ``Slice``.
        threads, xnnpack: as for the engine whose operators are measured.

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
    """Operators whose output is the same for every picture, by their output tensors."""
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
    """The bytes of a constant tensor; None for any other."""
    data = tree.buffers[tensor.buffer].data
    return data if data is not None and len(data) else None


def _with_constants(operator: Any, constant: dict[int, Any]) -> list[Any]:
    """An operator, preceded by those that compute its constant inputs."""
    before = [constant[int(i)] for i in operator.inputs if int(i) in constant]
    return [*(one for b in before for one in _with_constants(b, constant)), operator]


def _alone(tree: Any, operator: Any, constant: dict[int, Any]) -> Any:
    """A model of one operator: its constants are included, its other inputs are the model's."""
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
    """The operator, renumbered for a model with other tensor and code indices."""
    moved = copy.copy(operator)
    moved.opcodeIndex = codes.index(operator.opcodeIndex)
    moved.inputs = [places.get(int(i), _NO_TENSOR) for i in operator.inputs]
    moved.outputs = [places[int(i)] for i in operator.outputs if i != _NO_TENSOR]
    return moved


def _numbers(detail: dict[str, Any]) -> Tensor:
    """Values for one input: small floats, any bytes, zeros where the input may be an index."""
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


_NODE = "DELEGATE"
# Quantisation at both ends and a softmax in float often stay in the interpreter; they cost little.
_NEARLY_ALL = 0.85
_MOST_NAMED = 6
# The packages of a backend; the first one installed is used. Other backends have no XNNPACK.
_PACKAGES = {
    "cpu": ("litert", "tflite-runtime"),
    "litert": ("litert",),
    "tflite-runtime": ("tflite-runtime",),
}


@dataclass(frozen=True, slots=True)
class Delegated:
    """How much of a graph a delegate runs.

    Attributes:
        operators: how many the model has.
        delegated: how many run inside the delegate.
        parts: how many pieces of the graph the delegate runs; between two of them the interpreter
            takes over.
        left: names of the operators that the interpreter runs, each once, in order.
    """

    operators: int
    delegated: int
    parts: int
    left: tuple[str, ...]

    @property
    def used(self) -> bool:
        """Whether at least one operator runs inside the delegate."""
        return self.delegated > 0

    @property
    def note(self) -> str:
        """A note for the report; empty if nearly all operators run inside the delegate."""
        if self.delegated >= _NEARLY_ALL * self.operators:
            return ""
        outside = ", ".join(self.left[:_MOST_NAMED]) + (", …" if self.left[_MOST_NAMED:] else "")
        return (
            f"XNNPACK runs {self.delegated} of {self.operators} operators; the interpreter's slower "
            f"kernels run the rest: {outside}"
        )


def xnnpack_share(model: bytes, backend: str, *, threads: int = 1) -> Delegated | None:
    """Counts the operators that XNNPACK runs, by opening the model once more.

    The line "Created TensorFlow Lite XNNPACK delegate for CPU" only means that the delegate was
    created: it also appears when the delegate then takes no operator (int16x8 models), and once per
    process. The interpreter's list of operators gets one more node for each piece of the graph that
    a delegate takes, with the piece's inputs and outputs; the operators between those are delegated.
    Both runtimes expose the list through a private name, which a later version may drop.

    Args:
        model: the bytes of a ``.tflite`` that has been opened before: a damaged one may crash.
        backend: as on the command line.
        threads: as for inference; in some runtimes one thread means no delegate.

    Returns:
        None for a backend without XNNPACK, a missing package, a model that the package refuses, or a
        runtime that does not expose its graph.
    """
    module = _module(backend)
    if module is None:
        return None
    try:
        interpreter = module.Interpreter(model_content=model, num_threads=threads)
        plain = len(interpreter._get_ops_details())
        interpreter.allocate_tensors()
        nodes = interpreter._get_ops_details()
    except (AttributeError, ValueError, RuntimeError, SystemError):
        return None
    return _count(nodes[:plain], [node for node in nodes[plain:] if node["op_name"] == _NODE])


def _module(backend: str) -> ModuleType | None:
    for package in _PACKAGES.get(backend, ()):
        with contextlib.suppress(EngineNotInstalledError):
            return interpreter_module(package)
    return None


def _count(operators: Sequence[Any], pieces: Sequence[Any]) -> Delegated:
    """Walks back from the outputs of each piece to its inputs."""
    maker = {tensor: i for i, node in enumerate(operators) for tensor in _tensors(node["outputs"])}
    taken: set[int] = set()
    for piece in pieces:
        given = set(_tensors(piece["inputs"]))
        wanted = list(_tensors(piece["outputs"]))
        seen = set(wanted)
        while wanted:
            tensor = wanted.pop()
            made_by = maker.get(tensor)
            if made_by is None or tensor in given:
                continue
            taken.add(made_by)
            fresh = [t for t in _tensors(operators[made_by]["inputs"]) if t not in seen]
            seen.update(fresh)
            wanted += fresh
    left = [node["op_name"] for i, node in enumerate(operators) if i not in taken]
    return Delegated(len(operators), len(taken), len(pieces), tuple(dict.fromkeys(left)))


def _tensors(indices: Iterable[int]) -> list[int]:
    return [int(index) for index in indices if index >= 0]  # -1: an omitted optional tensor
