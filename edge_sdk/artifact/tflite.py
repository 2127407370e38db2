"""What a ``.tflite`` flatbuffer says of itself, read without an interpreter.

Only the fields we need, by their numbers in TensorFlow Lite's public schema (``schema.fbs``): so it
costs milliseconds, works with every runtime, and a damaged file ends in an error of ours instead of
a crash.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

from edge_sdk.errors import CorruptArtifactError, UnsupportedArtifactError
from edge_sdk.flatbuffer import DAMAGE, INT8, INT32, UINT32, Node, root
from edge_sdk.types import Quantization, TensorSpec

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
# The interpreter knows no more; the product of thousands of sides would be a number of megabytes.
_MAX_RANK = 8
# Operators that only change how numbers are laid out or stored, not what they mean.
_NEUTRAL = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE", "CAST")


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """The outside of a model.

    Attributes:
        inputs, outputs: the tensors at its borders.
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
        model: the bytes of a ``.tflite`` file; appended files do no harm.
        name: what to call it in errors.

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
        buffer.check_bytes(0)  # weights that reach past the end of a truncated file
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
    # Codes above 127 live in field 3; older files have only the int8 field 0.
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
