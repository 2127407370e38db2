"""Reads the description of a ``.tflite`` file without an interpreter; every offset is checked.

Tables may share the data they point to, so a small file can describe millions of parts. The parts read
from one buffer are counted and limited by its size: so are a reader's time and memory.

Only the fields needed, by their numbers in TensorFlow Lite's public schema (``schema.fbs``): this takes
milliseconds, works with every runtime, and a damaged file raises one of our errors instead of crashing.

Field numbers follow the public ``metadata_schema.fbs``; ``host_tools/tflite.py`` writes it.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

from edge_sdk.errors import CorruptArtifactError, UnsupportedArtifactError
from edge_sdk.types import Quantization, TensorSpec
from edge_sdk.vision.tensors import Normalization

INT8, INT32 = number_types.Int8Flags, number_types.Int32Flags
UINT8, UINT32 = number_types.Uint8Flags, number_types.Uint32Flags

# Raised on reads at a bad offset by struct, numpy and the flatbuffers runtime.
DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError)


# Limit on parts read from one buffer, about half a second's work: a network of thousands of operators
# has tens of thousands. A part takes at least four bytes, and no reader reads one four times.
_MAX_PARTS = 200_000
_SPARE_PARTS = 1_000
# A text counts as one part per so many bytes.
_TEXT_BYTES = 16


class Allowance:
    """How much may still be read from one buffer.

    Args:
        parts: tables, numbers and pieces of text.
    """

    def __init__(self, parts: int) -> None:
        self._allowed = self._left = parts

    def take(self, parts: int) -> None:
        """Counts parts before they are read.

        Raises:
            ValueError: there are too many.
        """
        self._left -= parts
        if self._left < 0:
            raise ValueError(f"more than {self._allowed} parts, too many for a file of its size")


class Node:
    """A flatbuffers table; fields are read by their number in the schema."""

    def __init__(self, buffer: bytes, position: int, allowance: Allowance) -> None:
        if not 0 <= position < len(buffer):
            raise IndexError(f"offset {position} in {len(buffer)} bytes")
        allowance.take(1)
        self._buffer = buffer
        self._allowance = allowance
        self._table = Table(buffer, position)

    def _at(self, field: int) -> int:
        offset = int(self._table.Offset(4 + 2 * field))
        return offset + int(self._table.Pos) if offset else 0

    def number(self, field: int, flags: type, default: int = 0) -> int:
        at = self._at(field)
        return int(self._table.Get(flags, at)) if at else default

    def text(self, field: int) -> str:
        at = self._at(field)
        if not at:
            return ""
        text = bytes(self._table.String(at))
        self._allowance.take(len(text) // _TEXT_BYTES)
        return text.decode("utf-8", "replace")

    def child(self, field: int) -> Node | None:
        at = self._at(field)
        return Node(self._buffer, int(self._table.Indirect(at)), self._allowance) if at else None

    def length(self, field: int) -> int:
        """The number of elements of a list, which are not read."""
        return self._vector(field)[1]

    def array(self, field: int, dtype: str) -> list[float]:
        start, length = self._vector(field)
        self._allowance.take(length)
        return [float(x) for x in np.frombuffer(self._buffer, dtype, length, start)]

    def integers(self, field: int, dtype: str) -> list[int]:
        start, length = self._vector(field)
        self._allowance.take(length)
        return [int(x) for x in np.frombuffer(self._buffer, dtype, length, start)]

    def bytes(self, field: int) -> bytes:
        self.check_bytes(field)
        start, length = self._vector(field)
        return self._buffer[start : start + length]

    def check_bytes(self, field: int) -> None:
        """Checks that all bytes of a field are in the buffer, without copying them."""
        start, length = self._vector(field)
        if start + length > len(self._buffer):
            raise IndexError(f"{length} bytes at {start} of {len(self._buffer)}")

    def children(self, field: int) -> Iterator[Node]:
        start, length = self._vector(field)
        for index in range(length):
            yield Node(self._buffer, int(self._table.Indirect(start + 4 * index)), self._allowance)

    def _vector(self, field: int) -> tuple[int, int]:
        offset = int(self._table.Offset(4 + 2 * field))
        if not offset:
            return 0, 0
        length = int(self._table.VectorLen(offset))
        if length > len(self._buffer):
            raise IndexError(f"a list of {length} in {len(self._buffer)} bytes")
        return int(self._table.Vector(offset)), length


def root(buffer: bytes) -> Node:
    """The table that the first four bytes point to."""
    (position,) = struct.unpack_from("<I", buffer, 0)
    return Node(buffer, position, Allowance(min(_MAX_PARTS, len(buffer) + _SPARE_PARTS)))


EDGETPU_OPERATOR = "edgetpu-custom-op"

_CUSTOM = 32
_OPERATORS = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
    EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
    LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
    RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS
    SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
    BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE
    UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT
    LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG
    PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE
    EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD
    REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
    REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
    SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE
    RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
    NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
    BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D
    IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
    CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS
    RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE
    RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
    UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD
    STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP
    STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
    STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE
    STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE
    STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT
    STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA
    STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE
    STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW
    STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
""".split()
_DTYPES = (
    "float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 "
    "uint64 resource variant uint32 uint16 int4 bfloat16"
).split()
# The interpreter's limit; the product of thousands of sides would be an integer of megabytes.
_MAX_RANK = 8
# Operators that change only the layout or storage of numbers, not their meaning.
_NEUTRAL = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE", "CAST")


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """The inputs, outputs and operators of a model.

    Attributes:
        inputs, outputs: the model's tensors.
        operators: how many of each operator, by name; custom ones by their own name.
        ends_in_softmax: its first output is the result of a SOFTMAX (or LOGISTIC).
        per_tensor_weights: 8-bit convolutions share one scale per tensor, as legacy models do.
        metadata: the TFLite Metadata flatbuffer, None where there is none.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    ends_in_softmax: bool
    per_tensor_weights: bool
    metadata: bytes | None


def summarize(model: bytes, name: str) -> ModelSummary:
    """Reads the flatbuffer ``model``.

    Args:
        model: the bytes of a ``.tflite`` file; appended files are ignored.
        name: its name in errors.

    Raises:
        CorruptArtifactError: not a TFLite flatbuffer, or a damaged one.
        UnsupportedArtifactError: a model with no subgraph.
    """
    if model[4:8] != b"TFL3":
        raise CorruptArtifactError(
            f"{name}: not a TensorFlow Lite model (no TFL3 mark in its first bytes); "
            "expected a .tflite file, as edgecls convert writes them"
        )
    try:
        return _summarize(root(model), name)
    except UnsupportedArtifactError:
        raise
    except DAMAGE as error:
        raise CorruptArtifactError(
            f"{name}: the model is truncated or damaged ({error}); copy or convert it again"
        ) from error


def _summarize(model: Node, name: str) -> ModelSummary:
    for buffer in model.children(4):
        buffer.check_bytes(0)  # weights past the end of a truncated file
    codes = [_operator_name(code) for code in model.children(1)]
    graph = next(model.children(2), None)
    if graph is None:
        raise UnsupportedArtifactError(f"{name}: a model without a graph; nothing to run")
    tensors = list(graph.children(0))
    inputs, outputs = graph.integers(1, "<i4"), graph.integers(2, "<i4")
    if min((*inputs, *outputs), default=0) < 0:
        raise IndexError("a negative tensor index")
    operators = [
        (codes[node.number(0, UINT32)], node.integers(1, "<i4"), node.integers(2, "<i4"))
        for node in graph.children(3)
    ]
    return ModelSummary(
        inputs=tuple(_spec(tensors[i]) for i in inputs),
        outputs=tuple(_spec(tensors[i]) for i in outputs),
        operators=dict(sorted(Counter(code for code, _, _ in operators).items())),
        ends_in_softmax=bool(outputs) and _is_probability(outputs[0], operators),
        per_tensor_weights=any(
            code == "CONV_2D" and len(ins) > 1 and _is_per_tensor(tensors[ins[1]])
            for code, ins, _ in operators
        ),
        metadata=_metadata_buffer(model),
    )


def _operator_name(code: Node) -> str:
    # Codes above 127 are in field 3; older files have only the int8 field 0.
    number = max(code.number(0, INT8), code.number(3, INT32))
    if number == _CUSTOM:
        return code.text(1) or "CUSTOM"
    return _OPERATORS[number] if number < len(_OPERATORS) else f"BUILTIN_{number}"


def _spec(tensor: Node) -> TensorSpec:
    kind = tensor.number(1, INT8)
    dtype = _DTYPES[kind] if 0 <= kind < len(_DTYPES) else f"type {kind}"
    quantization = None
    details = tensor.child(4)
    if details is not None and dtype in ("uint8", "int8", "int16"):
        scales, zero_points = details.array(2, "<f4"), details.integers(3, "<i8")
        if len(scales) == 1 and scales[0] > 0:
            quantization = Quantization(scales[0], zero_points[0] if zero_points else 0)
    rank = tensor.length(0)
    if rank > _MAX_RANK:
        raise ValueError(f"a tensor of {rank} dimensions")
    shape = tuple(tensor.integers(0, "<i4"))
    return TensorSpec(tensor.text(3), shape, dtype, quantization)


def _is_per_tensor(weights: Node) -> bool:
    details = weights.child(4)
    if details is None or weights.number(1, INT8) not in (3, 9):  # UINT8, INT8
        return False
    if details.length(2) != 1 or not weights.length(0):
        return False
    return weights.integers(0, "<i4")[0] > 1


def _is_probability(output: int, operators: list[tuple[str, list[int], list[int]]]) -> bool:
    producers = {result: (code, ins) for code, ins, outs in operators for result in outs}
    for _ in range(len(operators)):
        code, ins = producers.get(output, ("", []))
        if code in ("SOFTMAX", "LOGISTIC"):
            return True
        if code not in _NEUTRAL or not ins:
            break
        output = ins[0]
    return False


def _metadata_buffer(model: Node) -> bytes | None:
    for entry in model.children(6):
        if entry.text(0) == "TFLITE_METADATA":
            index = entry.number(1, UINT32)
            buffer = next(itertools.islice(model.children(4), index, None), None)
            if buffer is None:
                raise IndexError(f"no buffer {index}")
            return buffer.bytes(0) or None
    return None


@dataclass(frozen=True, slots=True)
class Metadata:
    """The part of TFLite Metadata that concerns a classifier.

    Attributes:
        name, description: of the model, empty where not given.
        normalization: of its input, None where not given.
        files: names of all associated files.
        labels_file: the one that holds the labels of the output, None where not given.
    """

    name: str
    description: str
    normalization: Normalization | None
    files: tuple[str, ...]
    labels_file: str | None


def read_metadata(buffer: bytes, name: str) -> Metadata:
    """Reads a TFLite Metadata flatbuffer.

    Raises:
        CorruptArtifactError: it is damaged.
    """
    try:
        return _metadata(root(buffer))
    except DAMAGE as error:
        raise CorruptArtifactError(f"{name}: its TFLite Metadata is damaged ({error})") from error


def _metadata(model: Node) -> Metadata:
    graph = next(model.children(3), None)
    inputs = list(graph.children(2)) if graph else []
    outputs = list(graph.children(3)) if graph else []
    files = [node.text(0) for node in model.children(6)]
    files += [node.text(0) for node in graph.children(4)] if graph else []
    for tensor in (*inputs, *outputs):
        files += [node.text(0) for node in tensor.children(6)]
    labels = [
        node.text(0)
        for tensor in outputs
        for node in tensor.children(6)
        if node.number(2, INT8) == 2  # TENSOR_AXIS_LABELS
    ]
    units = [unit for tensor in inputs for unit in tensor.children(4)]
    return Metadata(
        name=model.text(0),
        description=model.text(1),
        normalization=next((n for n in map(_normalization, units) if n), None),
        files=tuple(files),
        labels_file=labels[0] if labels else None,
    )


def _normalization(unit: Node) -> Normalization | None:
    options = unit.child(1)
    if unit.number(0, UINT8) != 1 or options is None:  # 1: NormalizationOptions
        return None
    mean, std = options.array(0, "<f4"), options.array(1, "<f4")
    if (
        len(mean) != len(std)
        or len(mean) not in (1, 3)
        or 0.0 in std
        or not all(map(math.isfinite, mean + std))
    ):
        raise ValueError(f"normalisation with mean {mean} and std {std}")
    return Normalization(tuple(mean), tuple(std))
