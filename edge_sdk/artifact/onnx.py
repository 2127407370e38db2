"""Reads the description of an ``.onnx`` file without a runtime; every length is checked.

The wire format is that of https://protobuf.dev/programming-guides/encoding: a message is a sequence of
fields, each a number, a kind, and a value with its length. All fields read from one file are counted:
a small file may hold a field every two bytes, and fields may be read many times.

Only the fields needed, by their numbers in ONNX's public schema (``onnx.proto``), as ``tflite`` does
for the other format: a damaged file raises one of our errors before an engine loads it.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from edge_sdk.artifact.tflite import ModelSummary
from edge_sdk.errors import CorruptArtifactError, UnsupportedArtifactError
from edge_sdk.types import Quantization, TensorSpec

# Raised while a damaged message is read.
DAMAGE = (ValueError,)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
# Limit on fields and integers read from one file, about a second's work. A model of thousands of
# operators has tens of thousands; weights are one field each.
_MAX_FIELDS = 400_000


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: as in the schema.
        start: where the field begins, its number and length included.
        value: of an integer; None for anything else.
        body: where its bytes begin and end; for an integer, where it ends.
    """

    number: int
    start: int
    value: int | None
    body: tuple[int, int]


class _Allowance:
    """How many fields may still be read from one file."""

    def __init__(self) -> None:
        self._left = _MAX_FIELDS

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {_MAX_FIELDS} fields, too many for a model")


class Message:
    """A message; fields are read by their number in the schema.

    Args:
        buffer: the whole file.
        start, end: the part of it that is the message; None: all of it.
        allowance: shared by all messages of a file; None: a new one.

    Raises:
        ValueError: a field past the end or of an unknown kind, or too many fields.
    """

    def __init__(
        self,
        buffer: bytes,
        start: int = 0,
        end: int | None = None,
        allowance: _Allowance | None = None,
    ) -> None:
        self._buffer = buffer
        self._allowance = allowance or _Allowance()
        self.end = len(buffer) if end is None else end
        self._fields: dict[int, list[Field]] = {}
        for field in _fields(buffer, start, self.end, self._allowance):
            self._fields.setdefault(field.number, []).append(field)

    def fields(self, number: int) -> list[Field]:
        return self._fields.get(number, [])

    def number(self, number: int, default: int = 0) -> int:
        """The last value counts, as protocol buffers define."""
        values = self.integers(number)
        return values[-1] if values else default

    def text(self, number: int) -> str:
        texts = self.texts(number)
        return texts[-1] if texts else ""

    def texts(self, number: int) -> list[str]:
        return [body.decode("utf-8", "replace") for body in self.bodies(number)]

    def bodies(self, number: int) -> list[bytes]:
        return [self._buffer[start:end] for start, end in self._spans(number)]

    def children(self, number: int) -> Iterator[Message]:
        for start, end in self._spans(number):
            yield Message(self._buffer, start, end, self._allowance)

    def child(self, number: int) -> Message | None:
        spans = self._spans(number)
        return Message(self._buffer, *spans[-1], self._allowance) if spans else None

    def integers(self, number: int) -> list[int]:
        """A repeated integer, packed into one field or not."""
        values = []
        for field in self.fields(number):
            if field.value is not None:
                values.append(field.value)
            at, end = field.body
            while at < end:
                self._allowance.take()
                value, at = _varint(self._buffer, at, end)
                values.append(value)
        return values

    def _spans(self, number: int) -> list[tuple[int, int]]:
        return [field.body for field in self.fields(number)]


def encode_field(number: int, body: bytes) -> bytes:
    """A field of bytes, text or a message, encoded for a file."""
    return _encode_varint(number << 3 | _BYTES) + _encode_varint(len(body)) + body


def _encode_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _fields(buffer: bytes, at: int, end: int, allowance: _Allowance) -> Iterator[Field]:
    while at < end:
        allowance.take()
        start = at
        key, at = _varint(buffer, at, end)
        number, kind = key >> 3, key & 7
        value: int | None = None
        if number == 0:
            raise ValueError(f"a field without a number at byte {start}")
        body = at
        if kind == _VARINT:
            value, at = _varint(buffer, at, end)
            body = at
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            length, body = _varint(buffer, at, end)
            at = body + length
        else:  # groups, which proto3 lacks
            raise ValueError(f"a field of kind {kind} at byte {start}")
        if at > end:
            raise ValueError(f"a field of {at - body} bytes at byte {body} of {end}")
        yield Field(number, start, value, (body, at))


def _varint(buffer: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for index in range(min(_MAX_VARINT_BYTES, end - at)):
        byte = buffer[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError(f"an unfinished number at byte {at}")


# The producer of edgecls: such a file without a manifest was truncated or stripped.
PRODUCER = "edgecls"
# The SHA-256 of the manifest, in hexadecimal: unlike a zip, a protocol buffer has no checksum.
DIGEST_FILE = "edgecls.json.sha256"

# Fields of ModelProto.
_PRODUCER_NAME, _GRAPH, _METADATA = 2, 7, 14
# Fields of GraphProto, of NodeProto and of TensorProto.
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE_INITIALIZER = 1, 5, 11, 12, 15
_NODE_INPUT, _NODE_OUTPUT, _OP_TYPE, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
_FLOAT_DATA, _INT32_DATA, _NAME, _RAW_DATA, _EXTERNAL, _LOCATION = 4, 5, 8, 9, 13, 14
# Those of AttributeProto that hold tensors or graphs: t, tensors; g, graphs.
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = (5, 10), (6, 11)
# The values of TensorProto.DataType, from 1.
_DTYPES = (
    "float32 uint8 int8 uint16 int16 int32 int64 string bool float16 float64 uint32 uint64 complex64 "
    "complex128 bfloat16"
).split()
_LONGEST_SIDE = 1 << 31
_MAX_RANK = 8
_DEEPEST_GRAPH = 8
# Operators that change only the layout or storage of numbers, not their meaning.
_NEUTRAL = (
    "DequantizeLinear",
    "QuantizeLinear",
    "Reshape",
    "Squeeze",
    "Flatten",
    "Cast",
    "Identity",
)
_PROBABILITIES = ("Softmax", "Sigmoid")


@dataclass(frozen=True, slots=True, eq=False)
class OnnxFile:
    """The parts of an ``.onnx`` file.

    Attributes:
        summary: the model's inputs, outputs and operators.
        model_bytes: offset of the requested metadata entries; the size of the file if there are
            none.
        files: those entries by their keys.
        producer: the tool that wrote the file.
    """

    summary: ModelSummary
    model_bytes: int
    files: dict[str, bytes]
    producer: str


@dataclass(frozen=True, slots=True)
class _Node:
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def is_onnx(data: bytes, name: str = "") -> bool:
    """Whether to read a model file as ONNX: no TFLite mark, and an ONNX name or first byte.

    Args:
        data: the file.
        name: its path, if any.
    """
    if data[4:8] == b"TFL3":
        return False
    # Field 1, ir_version, a small integer; the writers of all frameworks put it first.
    return name.endswith(".onnx") or (data[:1] == b"\x08" and data[1:2] < b"\x80")


def is_channels_first(shape: tuple[int, ...]) -> bool:
    """A picture tensor as PyTorch lays it out, ``(1, C, H, W)``."""
    return len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)


def read_onnx(data: bytes, name: str, keys: tuple[str, ...] = ()) -> OnnxFile:
    """Reads an ONNX model.

    A batch of any size is read as 1. A channels-first input is reported as channels-last: the engine
    transposes it.

    Args:
        data: the file.
        name: its name in errors.
        keys: metadata entries to extract; they must be the last fields of the file.

    Raises:
        CorruptArtifactError: not an ONNX model, or a damaged one.
        UnsupportedArtifactError: a model without a graph, or with its weights in other files.
    """
    try:
        return _read(Message(data), data, name, keys)
    except (CorruptArtifactError, UnsupportedArtifactError):
        raise
    except (*DAMAGE, struct.error) as error:
        raise CorruptArtifactError(
            f"{name}: no ONNX model, or a truncated or damaged one ({error}); copy or convert it again"
        ) from error


def metadata_entries(files: dict[str, bytes]) -> bytes:
    """Metadata entries, encoded for the end of a file.

    Args:
        files: their values, UTF-8, by their keys.
    """
    return b"".join(
        encode_field(_METADATA, encode_field(1, key.encode()) + encode_field(2, value))
        for key, value in files.items()
    )


def _read(model: Message, data: bytes, name: str, keys: tuple[str, ...]) -> OnnxFile:
    graph = model.child(_GRAPH)
    if graph is None:
        raise UnsupportedArtifactError(f"{name}: an ONNX file without a graph; nothing to run")
    _refuse_external(graph, name)
    files, model_bytes = _entries(model, data, name, keys)
    return OnnxFile(_summarize(graph), model_bytes, files, model.text(_PRODUCER_NAME))


def _entries(
    model: Message, data: bytes, name: str, keys: tuple[str, ...]
) -> tuple[dict[str, bytes], int]:
    files: dict[str, bytes] = {}
    begins, ends = len(data), len(data)
    for field, entry in zip(model.fields(_METADATA), model.children(_METADATA), strict=True):
        key = entry.text(1)
        if key not in keys:
            continue
        if key in files or (files and field.start != ends):
            raise CorruptArtifactError(
                f"{name}: its {key} is not where edgecls writes it; another tool has changed the "
                "file, convert the model again"
            )
        begins, ends = min(begins, field.start), field.body[1]
        files[key] = (entry.bodies(2) or [b""])[-1]
    if files and ends != len(data):
        raise CorruptArtifactError(
            f"{name}: data was added after its manifest; convert the model again"
        )
    return files, begins


def _refuse_external(graph: Message, name: str, depth: int = 0) -> None:
    """Refuses weights in other files: a path from an untrusted file, and a model in several files."""
    if depth > _DEEPEST_GRAPH:
        raise ValueError(f"graphs within graphs, {depth} deep")
    tensors = list(graph.children(_INITIALIZER))
    for sparse in graph.children(_SPARSE_INITIALIZER):
        tensors += [*sparse.children(1), *sparse.children(2)]
    for node in graph.children(_NODE):
        for attribute in node.children(_ATTRIBUTE):
            for number in _ATTRIBUTE_TENSORS:
                tensors += attribute.children(number)
            for number in _ATTRIBUTE_GRAPHS:
                for inner in attribute.children(number):
                    _refuse_external(inner, name, depth + 1)
    for tensor in tensors:
        if tensor.number(_LOCATION) or tensor.fields(_EXTERNAL):
            raise UnsupportedArtifactError(
                f"{name}: its weights are in another file, expected all in one; save it again with "
                "onnx.save(model, path, save_as_external_data=False)"
            )


def _summarize(graph: Message) -> ModelSummary:
    nodes, operators = [], Counter[str]()
    for node in graph.children(_NODE):
        operator, domain = node.text(_OP_TYPE), node.text(_DOMAIN)
        operators[f"{domain}.{operator}" if domain else operator] += 1
        ends = node.texts(_NODE_INPUT), node.texts(_NODE_OUTPUT)
        nodes.append(_Node(operator, tuple(ends[0]), tuple(ends[1])))
    constants = {tensor.text(_NAME): tensor for tensor in graph.children(_INITIALIZER)}
    inputs = [_spec(value) for value in graph.children(_INPUT)]
    outputs = [_spec(value) for value in graph.children(_OUTPUT)]
    # Files older than IR version 4 list their weights among the inputs.
    scaled_by = _scaled_by(nodes)
    inputs = [
        _quantized(spec, scaled_by, constants) for spec in inputs if spec.name not in constants
    ]
    outputs = [_quantized(spec, scaled_by, constants) for spec in outputs]
    return ModelSummary(
        inputs=tuple(_channels_last(spec) for spec in inputs),
        outputs=tuple(outputs),
        operators=dict(sorted(operators.items())),
        ends_in_softmax=bool(outputs) and _is_probability(outputs[0].name, nodes),
        per_tensor_weights=False,
        metadata=None,
    )


def _spec(value: Message) -> TensorSpec:
    type_ = value.child(2)
    tensor = type_.child(1) if type_ else None
    if tensor is None:
        return TensorSpec(value.text(1), (), "no tensor", None)
    shape_ = tensor.child(2)
    # A symbolic or missing size is 0: unknown.
    if shape_ is not None and len(shape_.fields(1)) > _MAX_RANK:
        raise ValueError(f"a tensor of {len(shape_.fields(1))} dimensions")
    shape = [side.number(1) for side in shape_.children(1)] if shape_ else []
    if any(side >= _LONGEST_SIDE for side in shape):  # negative ones are huge as unsigned
        raise ValueError(f"a tensor of shape {shape}")
    if len(shape) > 1 and shape[0] == 0:
        shape[0] = 1
    kind = tensor.number(1)
    dtype = _DTYPES[kind - 1] if 1 <= kind <= len(_DTYPES) else f"type {kind}"
    return TensorSpec(value.text(1), tuple(shape), dtype, None)


def _channels_last(spec: TensorSpec) -> TensorSpec:
    if not is_channels_first(spec.shape):
        return spec
    batch, channels, height, width = spec.shape
    return TensorSpec(spec.name, (batch, height, width, channels), spec.dtype, spec.quantization)


def _scaled_by(nodes: list[_Node]) -> dict[str, _Node]:
    """The operator that quantises or dequantises each input or output tensor, by the tensor's name."""
    found = {}
    for node in nodes:
        if node.operator in ("DequantizeLinear", "Cast") and node.inputs:
            found[node.inputs[0]] = node
        elif node.operator == "QuantizeLinear" and node.outputs:
            found[node.outputs[0]] = node
    return found


def _quantized(
    spec: TensorSpec, scaled_by: dict[str, _Node], constants: dict[str, Message]
) -> TensorSpec:
    """An input or output tensor with its quantisation, from the operator that uses or produces it."""
    node = scaled_by.get(spec.name)
    if spec.dtype not in ("uint8", "int8"):
        return spec
    quantization = None
    if node is not None and node.operator == "Cast":
        quantization = Quantization(1.0, 0)
    elif node is not None:
        quantization = _scale_and_zero_point(node, constants, signed=spec.dtype == "int8")
    return TensorSpec(spec.name, spec.shape, spec.dtype, quantization)


def _scale_and_zero_point(
    node: _Node, constants: dict[str, Message], *, signed: bool
) -> Quantization | None:
    tensors = [constants.get(name) for name in node.inputs[1:3]]
    if not tensors or tensors[0] is None:
        return None
    spans = tensors[0].fields(_RAW_DATA) or tensors[0].fields(_FLOAT_DATA)
    if sum(field.body[1] - field.body[0] for field in spans) != 4:
        return None  # one scale per channel, which no input or output has
    raw = b"".join(tensors[0].bodies(_RAW_DATA) or tensors[0].bodies(_FLOAT_DATA))
    (scale,) = struct.unpack("<f", raw)
    if not math.isfinite(scale) or scale <= 0:
        return None
    zero_point = 0
    if len(tensors) > 1 and tensors[1] is not None:
        raw = b"".join(tensors[1].bodies(_RAW_DATA))
        stored = raw[0] if raw else (tensors[1].integers(_INT32_DATA) or [0])[0] & 0xFF
        zero_point = stored - 256 if signed and stored > 127 else stored
    return Quantization(scale, zero_point)


def _is_probability(output: str, nodes: list[_Node]) -> bool:
    producers = {result: node for node in nodes for result in node.outputs}
    for _ in nodes:
        node = producers.get(output)
        if node is None or (node.operator not in _NEUTRAL and node.operator not in _PROBABILITIES):
            break
        if node.operator in _PROBABILITIES:
            return True
        output = node.inputs[0] if node.inputs else ""
    return False
