"""Damaged and forged model files, each identified by one number.

An accident changes bytes. An attack also writes a manifest that vouches for them: anyone can, since
hashes are no signatures.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table
from numpy.typing import NDArray

from edge_sdk.artifact.container import read_container, summarize_model
from edge_sdk.artifact.manifest import LABELS_FILE, MANIFEST_FILE
from edge_sdk.artifact.onnx import DIGEST_FILE, Message, is_onnx, metadata_entries
from edge_sdk.errors import EdgeClsError


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """A sound model file.

    Attributes:
        name: for people.
        data: the whole file.
        model_bytes: of the model at its start.
        described: the model with metadata that names labels and range, as a manifest needs.
        ours: edgecls made it.
        classes: how many.
        input_shape: ``(1, H, W, C)``.
    """

    name: str
    data: bytes
    model_bytes: int
    described: bytes
    ours: bool
    classes: int
    input_shape: tuple[int, ...]


def read_base(path: Path) -> Base:
    """Reads a sound file."""
    from host_tools.tflite import tflite_metadata, with_metadata

    container = read_container(path)
    model, shape = container.data[: container.model_bytes], container.summary.inputs[0].shape
    if container.manifest is None and container.kind == "tflite":
        model = with_metadata(model, "forged", tflite_metadata("forged", "", shape[3]))
    return Base(
        path.stem,
        container.data,
        container.model_bytes,
        model,
        ours=container.manifest is not None,
        classes=max(container.summary.outputs[0].shape),
        input_shape=shape,
    )


def damaged(base: Base, number: int, *, forged: bool) -> bytes:
    """The file after accident ``number``; the same for the same number.

    Args:
        base: the sound file.
        number: seeds what happens.
        forged: the accident happens to the model alone, and a manifest is written that fits it.
    """
    if not forged:
        return mutated(base.data, base.model_bytes, number)
    return forge(mutated(base.described, len(base.described), number), base)


def mutated(data: bytes, model_bytes: int, seed: int) -> bytes:
    """A file after one of eight accidents, most of them to what is no weight."""
    random = np.random.default_rng(seed)
    onnx = is_onnx(data)
    structure = _onnx_structure(data, model_bytes) if onnx else tflite_structure(data)
    result = bytearray(data)

    def place() -> int:
        anywhere = random.random() < 0.25
        return int(random.integers(len(data)) if anywhere else random.choice(structure))

    match int(random.integers(4 if onnx else 8)):
        case 0:  # flipped bits
            for _ in range(int(random.integers(1, 9))):
                result[place()] ^= 1 << int(random.integers(8))
        case 1:  # a run of other bytes
            at, length = place(), int(random.integers(1, 65))
            result[at : at + length] = random.bytes(len(result[at : at + length]))
        case 2:  # cut off
            del result[place() :]
        case 3:  # one block over another
            source, target, length = place(), place(), int(random.integers(1, 257))
            block = data[source : source + length]
            result[target : target + len(block)] = block
        case 4:  # an operator that says it is another
            codes = _children(_root(data), 1)
            code, other = codes[int(random.integers(len(codes)))], int(random.integers(127))
            _write(result, code, 0, "<b", other)
            _write(result, code, 3, "<i", other)
        case 5:  # an operator that takes or gives another tensor
            tensors, operators = _graph(data)
            operator = operators[int(random.integers(len(operators)))]
            _write_element(
                result, operator, int(random.integers(1, 3)), random, [-1, len(tensors), *range(20)]
            )
        case 6:  # a tensor of another shape or kind
            tensors, _ = _graph(data)
            tensor = tensors[int(random.integers(len(tensors)))]
            _write(result, tensor, 1, "<b", int(random.integers(19)))
            _write_element(result, tensor, 0, random, [-1, 0, 1, 2, 7, 100, 1 << 20, (1 << 31) - 1])
        case _:  # a table that forgot its fields
            tables = _tables(data)[0]
            table = tables[int(random.integers(len(tables)))]
            vtable = int(table.Pos) - int(table.Get(number_types.SOffsetTFlags, table.Pos))
            result[vtable : vtable + 4 + 2 * 6] = bytes(4 + 2 * 6)
    return bytes(result)


def forge(model: bytes, base: Base) -> bytes:
    """A model with a manifest, a self-test and hashes that fit, as an attacker writes them."""
    shape, classes = base.input_shape, base.classes
    try:
        summary = summarize_model(model, "x.onnx" if is_onnx(base.data) else "x")
        if len(summary.inputs) == 1 and len(summary.inputs[0].shape) == 4:
            shape = summary.inputs[0].shape
        if summary.outputs and 0 < int(np.prod(summary.outputs[0].shape)) < 10_000:
            classes = int(np.prod(summary.outputs[0].shape))
    except EdgeClsError:
        pass  # it will be refused, whatever the manifest says
    _, height, width, channels = shape
    if not 0 < height * width * channels <= 1 << 20 or height < 0 or width < 0:
        _, height, width, channels = base.input_shape
    labels = "".join(f"l{number}\n" for number in range(classes))
    pixels = np.zeros((1, height, width, channels), np.uint8)
    manifest = json.dumps(
        {
            "schema": 1,
            "name": "forged",
            "format": "int8",
            "preprocess": {
                "color": "rgb" if channels == 3 else "gray",
                "crop": "squash",
                "resize": "area-halving-linear",
                "width": width,
                "height": height,
            },
            "score": {"threshold": 0},
            "hashes": {
                "model_bytes": len(model),
                "model_sha256": hashlib.sha256(model).hexdigest(),
                "labels_sha256": hashlib.sha256(labels.encode()).hexdigest(),
            },
            "selftest": {
                "shape": list(pixels.shape),
                "pixels": base64.b64encode(zlib.compress(pixels.tobytes())).decode(),
                "scores": [[1.0 / classes] * classes],
            },
            "provenance": {},
        }
    )
    if is_onnx(base.data):
        digest = hashlib.sha256(manifest.encode()).hexdigest()
        files = {LABELS_FILE: labels, DIGEST_FILE: digest, MANIFEST_FILE: manifest}
        return model + metadata_entries({name: text.encode() for name, text in files.items()})
    buffer = io.BytesIO(model)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(LABELS_FILE, labels)
        archive.writestr(MANIFEST_FILE, manifest)
    return buffer.getvalue()


def tflite_structure(model: bytes) -> NDArray[np.int64]:
    """The positions of everything but the weights: a model is nearly all weights."""
    is_weight = np.zeros(len(model), bool)
    for buffer in _tables(model)[1]:
        offset = int(buffer.Offset(4))
        if offset:
            start = int(buffer.Vector(offset))
            is_weight[start : start + int(buffer.VectorLen(offset))] = True
    return np.flatnonzero(~is_weight)


def _onnx_structure(data: bytes, model_bytes: int) -> NDArray[np.int64]:
    is_weight = np.zeros(len(data), bool)
    graph = Message(data, 0, model_bytes).child(7)
    assert graph is not None
    for tensor in graph.children(5):
        for field in tensor.fields(9):
            is_weight[field.body[0] : field.body[1]] = True
    return np.flatnonzero(~is_weight)


def _root(model: bytes) -> Table:
    return Table(model, int.from_bytes(model[:4], "little"))


def _graph(model: bytes) -> tuple[list[Table], list[Table]]:
    """The tensors and operators of the first graph."""
    graph = _children(_root(model), 2)[0]
    return _children(graph, 0), _children(graph, 3)


def _write(data: bytearray, table: Table, field: int, kind: str, value: int) -> None:
    offset = int(table.Offset(4 + 2 * field))
    if offset:
        struct.pack_into(kind, data, int(table.Pos) + offset, value)


def _write_element(
    data: bytearray, table: Table, field: int, random: np.random.Generator, values: list[int]
) -> None:
    """One of some values over one element of a list of int32."""
    offset = int(table.Offset(4 + 2 * field))
    length = int(table.VectorLen(offset)) if offset else 0
    if length:
        at = int(table.Vector(offset)) + 4 * int(random.integers(length))
        struct.pack_into("<i", data, at, values[int(random.integers(len(values)))])


def _tables(model: bytes) -> tuple[list[Table], list[Table]]:
    """All tables of a model but its buffers, and its buffers."""
    root = _root(model)
    graphs = _children(root, 2)
    inner = [table for graph in graphs for field in (0, 3) for table in _children(graph, field)]
    return [root, *_children(root, 1), *graphs, *inner], _children(root, 4)


def _children(table: Table, field: int) -> list[Table]:
    offset = int(table.Offset(4 + 2 * field))
    if not offset:
        return []
    start = int(table.Vector(offset))
    places = [start + 4 * i for i in range(int(table.VectorLen(offset)))]
    return [
        Table(table.Bytes, place + int(table.Get(number_types.Uint32Flags, place)))
        for place in places
    ]
