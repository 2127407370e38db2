"""Which operators of an int8 model Google's Edge TPU compiler would map, and why not the others.

It predicts the compiler's verdict from the public documentation, on any machine and in
milliseconds; ``edgetpu/rules.py`` names the sources. The compiler decides: it applies limits
that Google has not published ("not mapped due to some unspecified limitation").

One stretch of the graph runs on the Edge TPU: "the compiler cannot partition the model more than
once, so as soon as an unsupported operation occurs, that operation and everything after it executes
on the CPU" (https://coral.ai/docs/edgetpu/models-intro/#compiling). "After" is meant as TensorFlow
Lite's delegates mean it, by the flow of data (``PartitionGraphIntoIndependentNodeSubsets`` in
``tensorflow/lite/graph_info.cc``): a branch beside the unsupported operator may still be mapped, and
what the CPU does first, such as quantising a float input, ends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edge_sdk.artifact.tflite import EDGETPU_OPERATOR
from edge_sdk.errors import ConversionError
from edge_sdk.files import size_text
from edge_sdk.plain import to_plain
from host_tools.edgetpu.rules import (
    CONSTANT_INPUTS,
    NEWEST_VERSION,
    REMEDIES,
    SIZE_DEPENDENT,
    SUPPORTED,
    EdgeTpuOperator,
    Refusal,
    Tensor,
    read_graph,
)

# "The Edge TPU has roughly 8 MB of SRAM that can cache the model's parameter data":
# https://coral.ai/docs/edgetpu/compiler/#parameter-data-caching
_SRAM_BYTES = 8 << 20
_EIGHT_BITS = ("int8", "uint8")
# What our int8 artifacts end in, in float32, on purpose.
_TAIL = ("DEQUANTIZE", "SOFTMAX", "LOGISTIC")
# A builtin operator that the compiler's TensorFlow Lite does not even have a number for: "Op
# builtin_code out of range: 150".
_FIRST_UNKNOWN_OPERATOR = "GELU"

Verdict = Literal["mapped", "cpu", "refused"]


@dataclass(frozen=True, slots=True)
class OperatorVerdict:
    """The predicted verdict on one operator.

    Attributes:
        index: its place in the order of execution.
        operator: as ``CONV_2D``.
        output: the name of its first output, to find it by.
        verdict: ``mapped`` to the Edge TPU, left to the ``cpu``, or ``refused``: the compiler does
            not read a file that has it.
        reason, remedy: why, and what to change; None where it is mapped, the remedy also where
            nothing needs to change.
    """

    index: int
    operator: str
    output: str
    verdict: Verdict
    reason: str | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class EdgeTpuCheck:
    """The verdicts on a model.

    Attributes:
        operators: one for each, in the order of execution.
        notes: further remarks for the user.
    """

    operators: tuple[OperatorVerdict, ...]
    notes: tuple[str, ...]

    @property
    def mapped(self) -> int:
        """How many would run on the Edge TPU, if the compiler reads the file."""
        return sum(o.verdict == "mapped" for o in self.operators)

    @property
    def refused(self) -> tuple[OperatorVerdict, ...]:
        """Operators for which the compiler refuses the whole file."""
        return tuple(o for o in self.operators if o.verdict == "refused")

    def to_json(self, path: str) -> dict[str, Any]:
        """The object of ``edgecls edgetpu check --json``; ``docs/json.md`` specifies it."""
        return {
            "schema": 1,
            "type": "edgetpu_check",
            "path": path,
            "compiles": not self.refused and self.mapped > 0,
            "n": len(self.operators),
            "mapped": self.mapped,
            "operators": to_plain(self.operators),
            "notes": list(self.notes),
        }


def check(model: bytes, name: str) -> EdgeTpuCheck:
    """Predicts the Edge TPU compiler's verdict on a model.

    Args:
        model: a ``.tflite`` flatbuffer; appended files do no harm.
        name: what to call it in errors.

    Raises:
        CorruptArtifactError: not a TFLite flatbuffer, or a damaged one.
        UnsupportedArtifactError: a model with no graph.
        ConversionError: a model that has been compiled already.
    """
    operators = read_graph(model, name)
    if any(operator.name == EDGETPU_OPERATOR for operator in operators):
        raise ConversionError(
            f"{name}: is compiled for the Edge TPU already; give the int8 file it was made from"
        )
    computed = {tensor.index for operator in operators for tensor in operator.outputs}
    refusals = {o.index: r for o in operators if (r := _refusal(o, computed)) is not None}
    first = _first_stretch(operators, set(refusals))
    tail = _tail(operators)
    # The operator that ends the first stretch, for the reason of those that follow it.
    start = min(first, default=0)
    ends = next((o.name for o in operators if o.index in refusals and o.index > start), "")
    verdicts = [
        _verdict(o, refusals.get(o.index), None if o.index in first else ends, tail)
        for o in operators
    ]
    return EdgeTpuCheck(tuple(verdicts), tuple(_notes(operators, verdicts)))


def _verdict(
    operator: EdgeTpuOperator, refusal: Refusal | None, follows: str | None, tail: int
) -> OperatorVerdict:
    output = operator.outputs[0].name if operator.outputs else ""
    place = (operator.index, operator.name, output)
    too_new = _too_new(operator)
    if too_new is not None:
        return OperatorVerdict(*place, "refused", too_new.reason, too_new.remedy)
    if operator.index >= tail:
        reason = (
            "float32, on purpose: 8 bits cannot represent small probabilities; it takes a few µs"
        )
        return OperatorVerdict(*place, "cpu", reason)
    if refusal is not None:
        return OperatorVerdict(*place, "cpu", refusal.reason, refusal.remedy)
    if follows is not None:
        reason = f"supported, but it follows {follows}, which is not mapped"
        return OperatorVerdict(*place, "cpu", reason, f"change {follows}")
    return OperatorVerdict(*place, "mapped")


def _too_new(operator: EdgeTpuOperator) -> Refusal | None:
    remedy = REMEDIES.get(operator.name, "convert with an older TensorFlow, or change the layer")
    if operator.name == _FIRST_UNKNOWN_OPERATOR or operator.name.startswith("STABLEHLO_"):
        return Refusal("newer than the compiler, which refuses the whole file", remedy)
    newest = NEWEST_VERSION.get(operator.name)
    if newest is None or operator.version <= newest:
        return None
    return Refusal(
        f"version {operator.version} of it; the compiler reads up to {newest} and refuses the whole file",
        remedy,
    )


def _refusal(operator: EdgeTpuOperator, computed: set[int]) -> Refusal | None:
    """Why the Edge TPU cannot compute an operator, at any position.

    Args:
        operator: to examine.
        computed: the tensors that operators of the model make.
    """
    if operator.name not in SUPPORTED or operator.custom:
        kind = "a custom operator" if operator.custom else "not supported"
        default = "replace it, or move it behind all operators that must run on the Edge TPU"
        return Refusal(kind, REMEDIES.get(operator.name, default))
    return (
        _types(operator, computed) or _constants(operator) or _shapes(operator) or _limits(operator)
    )


def _limits(operator: EdgeTpuOperator) -> Refusal | None:
    rule = SUPPORTED[operator.name]
    return rule(operator) if rule is not None and operator.outputs else None


def _types(operator: EdgeTpuOperator, computed: set[int]) -> Refusal | None:
    for tensor in operator.computed():
        if tensor.dtype in _EIGHT_BITS and tensor.scales:
            continue
        # An LSTM keeps its cell state in 16 bits.
        if tensor.dtype == "int16" and operator.name == "UNIDIRECTIONAL_SEQUENCE_LSTM":
            continue
        what = f"{tensor.dtype} without a scale" if tensor.dtype in _EIGHT_BITS else tensor.dtype
        remedy = "convert with --format int8, every operator of it in 8 bits"
        if operator.name == "QUANTIZE" and tensor.index not in computed:  # the model's input
            remedy = "convert with --io uint8"
        return Refusal(f"works on {what}; the Edge TPU computes with 8 bits", remedy)
    weights = operator.input(1)
    floats = weights is not None and weights.constant and weights.dtype.startswith("float")
    if floats:
        return Refusal("its weights are floats", "convert with --format int8")
    return None


def _shapes(operator: EdgeTpuOperator) -> Refusal | None:
    for tensor in operator.computed():
        if tensor.dynamic:
            return Refusal(
                f"{tensor.name or 'a tensor'} has no fixed size {tensor.shape}",
                "fix the model's input size and batch when it is converted",
            )
        if any(side > 1 for side in tensor.shape[:-3]):
            return Refusal(
                f"{tensor.name or 'a tensor'} is {tensor.shape}: more than three dimensions",
                "keep all but the last three sides at 1, the batch included",
            )
    return None


def _constants(operator: EdgeTpuOperator) -> Refusal | None:
    for position in CONSTANT_INPUTS.get(operator.name, ()):
        tensor = operator.input(position)
        if tensor is not None and not tensor.constant:
            return Refusal(
                f"its input {position} ({tensor.name}) is computed, not constant",
                "make weights, biases, axes and sizes constants of the model",
            )
    return None


def _first_stretch(operators: tuple[EdgeTpuOperator, ...], unsupported: set[int]) -> set[int]:
    """The operators of the first stretch that the Edge TPU computes, as TFLite partitions it."""
    starts_with = bool(operators) and operators[0].index not in unsupported
    changes: dict[int, int] = {}  # tensor: how often its data has changed sides
    of_operator: dict[int, int] = {}
    for operator in operators:
        able = operator.index not in unsupported
        turn = 0 if able == starts_with else 1
        for tensor in (t for t in operator.inputs if t is not None and t.index in changes):
            # Sides alternate: an even turn is on the side of the first operator.
            same_side = (changes[tensor.index] % 2 == 0) == (able == starts_with)
            turn = max(turn, changes[tensor.index] + (0 if same_side else 1))
        of_operator[operator.index] = turn
        changes.update((tensor.index, turn) for tensor in operator.outputs)
    first = 0 if starts_with else 1
    return {index for index, turn in of_operator.items() if turn == first}


def _tail(operators: tuple[EdgeTpuOperator, ...]) -> int:
    """Where the float softmax at the end begins, with the DEQUANTIZE before it."""
    start = len(operators)
    while start and operators[start - 1].name in _TAIL and _is_float(operators[start - 1].outputs):
        start -= 1
    begins = 0 < start < len(operators) and operators[start].name == "DEQUANTIZE"
    return start if begins else len(operators)


def _is_float(tensors: tuple[Tensor, ...]) -> bool:
    return bool(tensors) and all(tensor.dtype == "float32" for tensor in tensors)


def _notes(operators: tuple[EdgeTpuOperator, ...], verdicts: list[OperatorVerdict]) -> list[str]:
    on_edgetpu = [o for o, v in zip(operators, verdicts, strict=True) if v.verdict == "mapped"]
    notes = []
    parameters = {
        t.index: len(t.data) for o in on_edgetpu for t in o.inputs if t is not None and t.data
    }
    size = sum(parameters.values())
    if size > _SRAM_BYTES:
        notes.append(
            f"{size_text(size)} of weights; the Edge TPU caches about 8 MB and fetches the rest for "
            "every picture, which is slower: choose a smaller network"
        )
    doubtful = sorted({o.name for o in on_edgetpu if o.name in SIZE_DEPENDENT})
    if doubtful:
        notes.append(
            f"{', '.join(doubtful)}: the compiler leaves large ones to the CPU; Google does not say from "
            "which size on"
        )
    return notes
