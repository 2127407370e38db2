"""Frozen dataclasses from parsed TOML, strictly: nothing unknown, nothing of the wrong kind."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, TypeVar

from edge_sdk.errors import RecipeError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What values may be, by dotted key: the ends of a range, or one of some words."""

    ranges: Mapping[str, tuple[float, float]]
    choices: Mapping[str, tuple[str, ...]]


def build(
    kind: type[T], values: Mapping[str, Any], where: str, limits: Limits, prefix: str = ""
) -> T:
    """A dataclass from a parsed table, sections within it included.

    Args:
        kind: the dataclass.
        values: the table.
        where: what to call it in errors.
        limits: what its values may be.
        prefix: of its keys in errors, for a section.

    Raises:
        RecipeError: an unknown key (the nearest known one is named), a value of the wrong kind or
            out of its limits, or no name.
    """
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            known = [f"{prefix}{name}" for name in hints]
            raise RecipeError(
                f"{where}: unknown key {prefix}{key}{nearest(prefix + key, known)}; "
                f"known here: {', '.join(hints)}"
            )
    if "name" in hints and "name" not in values:
        raise RecipeError(f'{where}: a recipe needs a name, as in name = "my-recipe"')
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        hint = hints[key]
        if is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, Mapping):
                raise RecipeError(f"{where}: {prefix}{key} must be a section, [{prefix}{key}]")
            arguments[key] = build(hint, value, where, limits, f"{prefix}{key}.")
        else:
            arguments[key] = _value(hint, value, where, f"{prefix}{key}", limits)
    return kind(**arguments)


def _value(hint: Any, value: Any, where: str, key: str, limits: Limits) -> Any:
    if isinstance(hint, types.UnionType):
        hint = typing.get_args(hint)[0]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**63 else math.inf
    if hint == tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise RecipeError(f'{where}: {key} must be a list of words, as in ["int8", "float16"]')
        value = tuple(value)
    elif not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise RecipeError(f"{where}: {key} must be {_KINDS[hint]}, got {value!r}")
    if key in limits.ranges:
        low, high = limits.ranges[key]
        if not low <= value <= high:
            raise RecipeError(f"{where}: {key} must be {low:g} to {high:g}, got {value!r}")
    for word in value if isinstance(value, tuple) else (value,):
        if key in limits.choices and word not in limits.choices[key]:
            raise RecipeError(
                f"{where}: {key} cannot be {word!r}{nearest(str(word), limits.choices[key])}; "
                f"one of {', '.join(limits.choices[key])}"
            )
    if key == "name" and (not value or not all(c.isalnum() or c in "-_." for c in value)):
        raise RecipeError(f"{where}: name must be of letters, digits, - _ and ., got {value!r}")
    return value


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def nearest(word: str, known: Sequence[str]) -> str:
    """`` (did you mean ...?)`` where one of the known words is close, else nothing."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {matches[0]}?)" if matches else ""


def literal(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(literal(entry) for entry in value)}]"
    if isinstance(value, str):
        escaped = "".join(
            c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value
        )
        return f'"{escaped}"'
    return repr(value)
