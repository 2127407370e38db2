"""Frozen values to plain data, as JSON and TOML hold it, and back: the only reader and writer.

The type hints of a dataclass are its schema. A value may differ from its hint in one way: a class
that has ``to_plain`` and ``from_plain`` writes and reads itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal, TypeVar

T = TypeVar("T")

# The ends of a range, or the words that a text may be.
Within = tuple[float, float] | tuple[str, ...]

_SHOWN_CHARACTERS = 60


class PlainError(ValueError):
    """Plain data that is not what the type hints say.

    Attributes:
        place: where in the data, such as ``models[0].threads``; empty for all of it.
        problem: what is wrong there, a clause that follows the place.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place} {problem}".strip())
        self.place, self.problem = place, problem


def key(default: Any = dataclasses.MISSING, about: str = "", within: Within | None = None) -> Any:
    """A field of a dataclass with its meaning and its limits.

    Args:
        default: where the data does not give it; left out: the data must give it.
        about: what it means, one sentence without a full stop.
        within: the ends of its range, or the words it may be; for a list, of each entry.
    """
    return dataclasses.field(default=default, metadata={"about": about, "within": within})


def to_plain(value: Any, *, digits: int | None = None) -> Any:
    """Dataclasses and named tuples as dicts, tuples as lists, paths as text.

    Args:
        value: of dataclasses, named tuples, tuples, lists, dicts and what JSON holds.
        digits: decimal places that floats are rounded to; None: as they are.
    """
    if hasattr(value, "to_plain"):
        return value.to_plain()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: to_plain(getattr(value, name), digits=digits) for name in names}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: to_plain(entry, digits=digits) for name, entry in value._asdict().items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(entry, digits=digits) for entry in value]
    if isinstance(value, Mapping):
        return {name: to_plain(entry, digits=digits) for name, entry in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float) and digits is not None:
        return round(value, digits)
    return value


def from_plain(
    kind: type[T],
    value: Any,
    place: str = "",
    *,
    unknown_keys: Literal["ignore", "refuse"] = "ignore",
) -> T:
    """A dataclass from plain data, every value checked against its type hint.

    A field with a default may be missing. A whole number is taken where a float is declared.

    Args:
        kind: a dataclass; its fields are bool, int, float, str, ``Literal``, dataclasses, tuples
            and dicts of those, ``Any``, each ``| None`` where null is allowed. The limits of
            ``key`` are checked.
        value: what ``json.loads`` or ``tomllib.loads`` gave.
        place: what to call it in errors; empty for the top of a file.
        unknown_keys: what to do about a key that the dataclass does not have.

    Raises:
        PlainError: a key is missing or unknown, or a value is of the wrong kind or out of its
            limits; a number must be finite.
    """
    result: T = _Reader(unknown_keys == "refuse").value(kind, value, place)
    return result


class _Reader:
    def __init__(self, strict: bool) -> None:
        self._strict = strict

    def value(self, hint: Any, value: Any, place: str) -> Any:
        if hint is Any:
            return value
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            if value is None and type(None) in arguments:
                return None
            (inner,) = (entry for entry in arguments if entry is not type(None))
            return self.value(inner, value, place)
        if hasattr(hint, "from_plain"):
            return _read_itself(hint, value, place)
        if dataclasses.is_dataclass(hint):
            return self._fields(hint, value, place)
        if origin is tuple:
            return self._tuple(arguments, value, place)
        if origin is Literal:
            if value is None:  # which limits leave alone
                raise PlainError(place, f"must be one of {', '.join(arguments)}, got None")
            _check_limits(value, arguments, place)
            return value
        if hint is dict or origin in (dict, Mapping):
            return self._dict(arguments, value, place)
        return _scalar(hint, value, place)

    def _fields(self, kind: Any, value: Any, place: str) -> Any:
        if not isinstance(value, Mapping):
            raise PlainError(place, f"must be {self._section(place)}, got {_shown(value)}")
        hints, prefix = _hints(kind), f"{place}." if place else ""
        if self._strict:
            _check_known(value, hints, prefix)
        read: dict[str, Any] = {}
        for field in dataclasses.fields(kind):
            inside = prefix + field.name
            if field.name in value:
                entry = self.value(hints[field.name], value[field.name], inside)
                _check_limits(entry, field.metadata.get("within"), inside)
                read[field.name] = entry
            elif (
                field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            ):
                raise PlainError(inside, "is missing")
        try:
            return kind(**read)
        except ValueError as error:  # the dataclass checks itself
            raise PlainError(place, f"cannot be read ({error})") from error

    def _tuple(self, hints: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise PlainError(
                place, f"must be a list, as in {_list_example(hints[0])}, got {_shown(value)}"
            )
        if hints[-1] is Ellipsis:
            if hints[0] in (float, int, str, bool):  # thousands of them: no place for each
                return tuple(_scalar(hints[0], entry, place) for entry in value)
            hints = (hints[0],) * len(value)
        if len(value) != len(hints):
            raise PlainError(place, f"must have {len(hints)} entries, got {len(value)}")
        return tuple(
            self.value(hint, entry, f"{place}[{number}]")
            for number, (hint, entry) in enumerate(zip(hints, value, strict=True))
        )

    def _section(self, place: str) -> str:
        # What is read strictly is a recipe, in TOML.
        return f"a section, [{place}]" if self._strict and place else "an object"

    def _dict(self, hints: tuple[Any, ...], value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise PlainError(place, f"must be {self._section(place)}, got {_shown(value)}")
        inner = hints[1] if hints else Any
        return {name: self.value(inner, entry, f"{place}.{name}") for name, entry in value.items()}


def _read_itself(kind: Any, value: Any, place: str) -> Any:
    try:
        return kind.from_plain(value)
    except (KeyError, TypeError, ValueError) as error:
        raise PlainError(place, f"cannot be read ({error})") from error


def _scalar(kind: Any, value: Any, place: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**63 else math.inf
    # To Python true is a number.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise PlainError(place, f"must be {_KINDS.get(kind, kind.__name__)}, got {_shown(value)}")
    if kind is float and not math.isfinite(value):
        raise PlainError(place, f"must be a finite number, got {value!r}")
    return value


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _list_example(kind: Any) -> str:
    return '["int8", "float16"]' if kind is str else "[256]" if kind in (int, float) else "[{...}]"


def _check_known(value: Mapping[str, Any], hints: Mapping[str, Any], prefix: str) -> None:
    for name in value:
        if name not in hints:
            near = nearest(prefix + name, [prefix + known for known in hints])
            known = ", ".join(hints)
            raise PlainError("", f"unknown key {prefix}{name}{near}; known here: {known}")


def _check_limits(value: Any, within: tuple[Any, ...] | None, place: str) -> None:
    if within is None or value is None:
        return
    in_words = isinstance(within[0], str)
    if value == () and in_words:
        raise PlainError(place, f"must not be empty; of {', '.join(map(str, within))}")
    for entry in value if isinstance(value, tuple) else (value,):
        if in_words:
            words = [str(word) for word in within]
            if entry not in words:
                near = nearest(str(entry), words)
                raise PlainError(place, f"cannot be {entry!r}{near}; one of {', '.join(words)}")
        elif not within[0] <= entry <= within[1]:
            raise PlainError(place, f"must be {within[0]:g} to {within[1]:g}, got {entry!r}")


def _shown(value: Any) -> str:
    text = repr(value)
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return text[: _SHOWN_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def nearest(word: str, known: Sequence[str]) -> str:
    """`` (did you mean ...?)`` where one of the known words is close, else nothing."""
    folded = {name.casefold(): name for name in known}
    matches = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.5)
    return f" (did you mean {folded[matches[0]]}?)" if matches else ""
