"""Reading untrusted flatbuffers."""

from __future__ import annotations

import struct
from collections.abc import Callable

import flatbuffers
import numpy as np
import pytest
from flatbuffers import number_types
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.artifact.tflite import DAMAGE, INT8, INT32, UINT8, UINT32, Allowance, Node, root

_INT64 = number_types.Int64Flags
# Fields of the sample table.
_NAME, _SMALL, _LARGE, _BLOB, _FLOATS, _CHILD, _CHILDREN, _ABSENT = range(8)


def _table(builder: flatbuffers.Builder, name: str) -> int:
    text = builder.CreateString(name)
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, text, 0)
    return int(builder.EndObject())


def _sample() -> bytes:
    """A table with one field of each kind that we read, written by flatbuffers' own builder."""
    builder = flatbuffers.Builder(64)
    children = [_table(builder, name) for name in ("first", "second")]
    builder.StartVector(4, 2, 4)
    for child in reversed(children):
        builder.PrependUOffsetTRelative(child)
    many = builder.EndVector()
    one = _table(builder, "only")
    name = builder.CreateString("größe")
    blob = builder.CreateByteVector(b"\x00\x01\xff")
    floats = builder.CreateNumpyVector(np.array([0.5, -2.0], "<f4"))
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(_NAME, name, 0)
    builder.PrependInt8Slot(_SMALL, -3, 0)
    builder.PrependUint32Slot(_LARGE, 4_000_000_000, 0)
    builder.PrependUOffsetTRelativeSlot(_BLOB, blob, 0)
    builder.PrependUOffsetTRelativeSlot(_FLOATS, floats, 0)
    builder.PrependUOffsetTRelativeSlot(_CHILD, one, 0)
    builder.PrependUOffsetTRelativeSlot(_CHILDREN, many, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _walk(node: Node, depth: int = 3) -> None:
    """Asks for every field as every kind, as if the schema said so."""
    for field in range(9):
        for read in (
            lambda f: node.number(f, INT8),
            lambda f: node.number(f, UINT8),
            lambda f: node.number(f, INT32),
            lambda f: node.number(f, UINT32),
            lambda f: node.number(f, _INT64),
            lambda f: node.text(f),
            lambda f: node.bytes(f),
            lambda f: node.array(f, "<f4"),
            lambda f: node.integers(f, "<i8"),
            lambda f: _descend(node.child(f), depth),
            lambda f: [_descend(child, depth) for child in node.children(f)],
        ):
            try:
                read(field)
            except DAMAGE:
                continue


def _descend(node: Node | None, depth: int) -> None:
    if node is not None and depth:
        node.number(0, INT32)
        node.text(0)
        _descend(node.child(0), depth - 1)


def test_every_kind_of_field_is_read_as_it_was_written() -> None:
    node = root(_sample())
    assert node.text(_NAME) == "größe"
    assert node.number(_SMALL, INT8) == -3
    assert node.number(_LARGE, UINT32) == 4_000_000_000
    assert node.bytes(_BLOB) == b"\x00\x01\xff"
    assert node.integers(_BLOB, "u1") == [0, 1, 255]
    assert node.array(_FLOATS, "<f4") == [0.5, -2.0]
    child = node.child(_CHILD)
    assert child is not None
    assert child.text(0) == "only"
    assert [child.text(0) for child in node.children(_CHILDREN)] == ["first", "second"]


@pytest.mark.parametrize(
    "field", [pytest.param(_ABSENT, id="left out"), pytest.param(40, id="of a newer schema")]
)
def test_a_field_that_is_not_there_has_its_default(field: int) -> None:
    node = root(_sample())
    assert node.number(field, INT32) == 0
    assert node.number(field, INT32, 7) == 7
    assert node.text(field) == ""
    assert node.bytes(field) == b""
    assert node.array(field, "<f4") == []
    assert node.integers(field, "<i4") == []
    assert node.child(field) is None
    assert list(node.children(field)) == []


def test_text_that_is_not_utf8_is_still_text() -> None:
    data = _sample().replace("größe".encode(), b"gr\xff\xfe\xfd\xfce")
    assert root(data).text(_NAME) == "gr\ufffd\ufffd\ufffd\ufffde"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x04\x00", id="two bytes"),
        pytest.param(struct.pack("<I", 4), id="root behind the end"),
        pytest.param(struct.pack("<I", 0xFFFFFFFF) + bytes(60), id="root far away"),
        pytest.param(struct.pack("<Ii", 4, 0x7FFFFFFF) + bytes(8), id="vtable far before"),
        pytest.param(struct.pack("<Ii", 4, -0x7FFFFFFF) + bytes(8), id="vtable far behind"),
    ],
)
def test_an_offset_out_of_the_buffer_is_damage(data: bytes) -> None:
    with pytest.raises(DAMAGE):
        root(data).number(0, INT32)


@pytest.mark.parametrize("position", [-1, 100, 1 << 40], ids=["negative", "at the end", "beyond"])
def test_a_table_must_begin_within_the_buffer(position: int) -> None:
    with pytest.raises(IndexError):
        Node(bytes(100), position, Allowance(10))


@pytest.mark.parametrize("length", [101, 0xFFFFFFFF], ids=["too long", "four billion"])
@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda node: node.bytes(_BLOB), id="bytes"),
        pytest.param(lambda node: node.array(_BLOB, "<f4"), id="floats"),
        pytest.param(lambda node: node.integers(_BLOB, "<i8"), id="integers"),
        pytest.param(lambda node: list(node.children(_BLOB)), id="tables"),
    ],
)
def test_a_list_longer_than_its_buffer_is_damage(
    read: Callable[[Node], object], length: int
) -> None:
    data = bytearray(_sample())
    blob = data.index(b"\x03\x00\x00\x00\x00\x01\xff")  # the length and content of _BLOB
    struct.pack_into("<I", data, blob, length)
    node = root(bytes(data))
    with pytest.raises(DAMAGE):
        read(node)


@given(st.binary(max_size=200))
def test_any_bytes_at_all_end_in_values_or_damage(data: bytes) -> None:
    try:
        node = root(data)
    except DAMAGE:
        return
    _walk(node)


@settings(max_examples=300)
@given(st.data())
def test_an_altered_buffer_ends_in_values_or_damage(draw: st.DataObject) -> None:
    data = bytearray(_sample())
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        node = root(bytes(data))
    except DAMAGE:
        return
    _walk(node)


def _shared(tables: int, numbers: int) -> bytes:
    """A list of tables that are all the same one, which holds a list of numbers and a long text."""
    builder = flatbuffers.Builder(64)
    text = builder.CreateString("x" * 4 * numbers)
    floats = builder.CreateNumpyVector(np.zeros(numbers, "<f4"))
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(_NAME, text, 0)
    builder.PrependUOffsetTRelativeSlot(_FLOATS, floats, 0)
    one = builder.EndObject()
    builder.StartVector(4, tables, 4)
    for _ in range(tables):
        builder.PrependUOffsetTRelative(one)
    many = builder.EndVector()
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(_CHILDREN, many, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


@pytest.mark.parametrize(
    "read",
    [
        lambda node: node.array(_FLOATS, "<f4"),
        lambda node: node.integers(_FLOATS, "<i4"),
        lambda node: node.text(_NAME),
        lambda node: list(node.children(_CHILDREN)),
    ],
    ids=["numbers", "integers", "text", "tables"],
)
def test_a_small_file_of_shared_parts_cannot_ask_for_millions(
    read: Callable[[Node], object],
) -> None:
    data = _shared(tables=10_000, numbers=10_000)

    def walk() -> None:
        top = root(data)
        for _ in range(20):
            for child in top.children(_CHILDREN):
                read(child)

    assert len(data) < 150_000
    with pytest.raises(ValueError, match="too many for a file of its size"):
        walk()


def test_a_part_that_is_asked_for_twice_is_no_attack() -> None:
    data = _shared(tables=100, numbers=100)
    top = root(data)
    assert sum(1 for _ in range(2) for _ in top.children(_CHILDREN)) == 200


def test_a_length_is_known_without_reading() -> None:
    node = root(_sample())
    assert node.length(_FLOATS) == 2
    assert node.length(_ABSENT) == 0
