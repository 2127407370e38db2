"""Reading protocol buffers that nobody vouches for: every length is checked before it is followed.

The wire format is that of https://protobuf.dev/programming-guides/encoding: a message is a row of
fields, each a number, a kind, and a value that says how long it is. What is read from one file is
counted: a small one may hold a field every two bytes, and be asked for them again and again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

# What reading a message raises where it is damaged.
DAMAGE = (ValueError,)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
# Fields and integers of one file that may be read, about a second's work. A model of thousands of
# operators has tens of thousands; weights are one field each.
_MAX_FIELDS = 400_000


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: as in the schema.
        start: where the field begins, its number and length included.
        value: of an integer; None for anything else.
        body: where its bytes begin and end; of an integer, where it ends.
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
    """A message whose fields are asked for by their number in the schema.

    Args:
        buffer: the whole file.
        start, end: the part of it that is the message; None: all of it.
        allowance: shared by all messages of a file; None: a new one.

    Raises:
        ValueError: a field that reaches past the end, or is of no kind known; too many fields.
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
        """The last one counts, as protocol buffers say."""
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
    """A field of bytes, text or a message, as it stands in a file."""
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
        else:  # groups, which proto3 does not have
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
