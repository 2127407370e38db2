"""Reading flatbuffers that nobody vouches for: every offset is checked before it is followed.

Tables may share what they point to, so a small file can describe millions of parts. What is read from
one buffer is counted, and limited by its size: a reader's time and memory follow from the file's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

INT8, INT32 = number_types.Int8Flags, number_types.Int32Flags
UINT8, UINT32 = number_types.Uint8Flags, number_types.Uint32Flags

# What reading at a wild offset raises, in struct, numpy and the flatbuffers runtime.
DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError)


# Parts of one buffer that may be read, about half a second's work: a network of thousands of operators
# has tens of thousands. A part takes at least four bytes, and no reader asks for one four times.
_MAX_PARTS = 200_000
_SPARE_PARTS = 1_000
# A text is one part per so many bytes.
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
    """A flatbuffers table whose fields are asked for by their number in the schema."""

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
        """How many elements a list has, which are not read."""
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
        """Makes sure that the bytes of a field are all there, without copying them."""
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
