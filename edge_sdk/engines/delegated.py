"""Which operators of a model a runtime really hands to its XNNPACK kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edge_sdk.engines.litert import interpreter_module
from edge_sdk.errors import EngineNotInstalledError

_NODE = "DELEGATE"
# Quantisation at the ends and a softmax in float are often left, and do not matter.
_NEARLY_ALL = 0.85
_MOST_NAMED = 6
# The packages behind a backend, the first that is installed; other backends have no XNNPACK.
_PACKAGES = {
    "cpu": ("litert", "tflite-runtime"),
    "litert": ("litert",),
    "tflite-runtime": ("tflite-runtime",),
}


@dataclass(frozen=True, slots=True)
class Delegated:
    """How much of a graph a delegate runs.

    Attributes:
        operators: of the model.
        delegated: those that run inside the delegate.
        parts: how many delegates' pieces the graph fell into; between two of them data is handed
            back to the interpreter.
        left: names of operators that stayed with the interpreter, each once, in order.
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
        """What a reader should know; empty where nearly all operators run inside."""
        if self.delegated >= _NEARLY_ALL * self.operators:
            return ""
        outside = ", ".join(self.left[:_MOST_NAMED]) + (", …" if self.left[_MOST_NAMED:] else "")
        return (
            f"XNNPACK runs {self.delegated} of {self.operators} operators; with the slower kernels of "
            f"the interpreter: {outside}"
        )


def xnnpack_share(model: bytes, backend: str, *, threads: int = 1) -> Delegated | None:
    """Counts the operators that XNNPACK runs, by opening the model once more.

    The line "Created TensorFlow Lite XNNPACK delegate for CPU" says only that the delegate was made:
    it is printed too where it then takes no operator (int16x8 models), and once per process. The
    interpreter's list of operators grows by one node for each piece of the graph that a delegate
    took, with the piece's inputs and outputs; what lies between those is delegated. Both runtimes
    give the list through a private name, so that a later one may not.

    Args:
        model: the bytes of a ``.tflite`` that has been opened before: a damaged one may crash.
        backend: as on the command line.
        threads: as it will run; with some runtimes one thread means no delegate.

    Returns:
        None for other backends than LiteRT and tflite-runtime without a delegate of their own, a
        package that is missing, a model that it refuses, or a runtime that does not show its graph.
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
    return [int(index) for index in indices if index >= 0]  # -1: an optional one that is left out
