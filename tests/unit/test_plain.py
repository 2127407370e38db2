"""Frozen values to plain data and back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.plain import PlainError, from_plain, key, nearest, to_plain


@dataclass(frozen=True, slots=True)
class _Inner:
    share: float = key(0.5, "a share", (0, 1))
    word: Literal["low", "high"] = "low"


class _Hex(NamedTuple):
    bits: int

    def to_plain(self) -> str:
        return f"{self.bits:#x}"

    @classmethod
    def from_plain(cls, value: object) -> _Hex:
        return cls(int(str(value), 16))


_NONE = _Hex(0)


@dataclass(frozen=True, slots=True)
class _Outer:
    name: str
    count: int = 0
    ratio: float = 1.0
    on: bool = False
    pair: tuple[int, float] | None = None
    inner: _Inner = _Inner()
    inners: tuple[_Inner, ...] = ()
    numbers: tuple[float, ...] = ()
    table: dict[str, int] | None = None
    anything: Any = None
    flags: _Hex = _NONE


_INNERS = st.builds(_Inner, share=st.floats(0, 1), word=st.sampled_from(["low", "high"]))
_OUTERS = st.builds(
    _Outer,
    name=st.text(),
    count=st.integers(),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    on=st.booleans(),
    pair=st.none() | st.tuples(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    inner=_INNERS,
    inners=st.lists(_INNERS, max_size=3).map(tuple),
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(tuple),
    table=st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
    anything=st.none() | st.integers() | st.text(),
    flags=st.integers(0, 2**32 - 1).map(_Hex),
)


@given(_OUTERS)
def test_what_is_written_is_read_back(value: _Outer) -> None:
    assert from_plain(_Outer, json.loads(json.dumps(to_plain(value)))) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be an object, got []"),
        ({}, "name is missing"),
        ({"name": 1}, "name must be text, got 1"),
        ({"name": "x", "count": True}, "count must be a whole number, got True"),
        ({"name": "x", "count": 1.0}, "count must be a whole number, got 1.0"),
        ({"name": "x", "ratio": "1"}, "ratio must be a number, got '1'"),
        ({"name": "x", "ratio": math.nan}, "ratio must be a finite number, got nan"),
        ({"name": "x", "ratio": 10**400}, "ratio must be a finite number"),
        ({"name": "x", "on": 1}, "on must be true or false, got 1"),
        ({"name": "x", "pair": [1]}, "pair must have 2 entries, got 1"),
        ({"name": "x", "pair": [1, "a"]}, "pair[1] must be a number, got 'a'"),
        ({"name": "x", "inner": 3}, "inner must be an object, got 3"),
        ({"name": "x", "inner": {"share": 2}}, "inner.share must be 0 to 1, got 2"),
        (
            {"name": "x", "inner": {"word": "hihg"}},
            "inner.word cannot be 'hihg' (did you mean high?)",
        ),
        ({"name": "x", "inner": {"word": None}}, "inner.word must be one of low, high, got None"),
        ({"name": "x", "inners": [{}, {"share": "a"}]}, "inners[1].share must be a number"),
        ({"name": "x", "numbers": [1, None]}, "numbers must be a number, got None"),
        ({"name": "x", "table": {"a": "b"}}, "table.a must be a whole number, got 'b'"),
        ({"name": "x", "flags": "zz"}, "flags cannot be read"),
    ],
)
def test_a_value_that_differs_from_its_hint_is_refused_by_its_place(
    content: Any, message: str
) -> None:
    with pytest.raises(PlainError) as caught:
        from_plain(_Outer, content)
    assert message in str(caught.value)


def test_unknown_keys_are_ignored_or_refused_with_the_nearest_known_one() -> None:
    content = {"name": "x", "inner": {"shar": 1}}
    assert from_plain(_Outer, content) == _Outer("x")
    with pytest.raises(
        PlainError, match=r"unknown key inner\.shar \(did you mean inner\.share\?\)"
    ):
        from_plain(_Outer, content, unknown_keys="refuse")


def test_a_long_value_is_shortened_in_a_message() -> None:
    with pytest.raises(PlainError) as caught:
        from_plain(_Outer, {"name": ["x" * 10_000]})
    assert len(str(caught.value)) < 120


def test_a_dataclass_that_refuses_its_values_names_the_place() -> None:
    @dataclass(frozen=True)
    class Positive:
        value: int

        def __post_init__(self) -> None:
            if self.value <= 0:
                raise ValueError("not positive")

    with pytest.raises(PlainError, match=r"a\.b cannot be read \(not positive\)"):
        from_plain(Positive, {"value": 0}, "a.b")


def test_floats_are_rounded_and_paths_are_text() -> None:
    assert to_plain((1.23456, Path("a") / "b", {"c": (2.0,)}), digits=2) == [
        1.23,
        str(Path("a") / "b"),
        {"c": [2.0]},
    ]


def test_the_nearest_word_ignores_case() -> None:
    assert nearest("EPOCH", ["epochs", "width"]) == " (did you mean epochs?)"
    assert nearest("zzz", ["epochs", "width"]) == ""
