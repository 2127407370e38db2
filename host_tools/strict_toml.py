"""Frozen dataclasses from parsed TOML, strictly: nothing unknown, nothing of the wrong kind."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from typing import Any, TypeVar

from edge_sdk.errors import RecipeError

T = TypeVar("T")


Within = tuple[float, float] | tuple[str, ...]


def key(default: Any, about: str, within: Within | None = None) -> Any:
    """A field of a dataclass that is read from TOML.

    Args:
        default: where the file does not give it.
        about: what it means, one sentence without a full stop.
        within: the ends of its range, or the words it may be; for a list, of each entry.
    """
    return field(default=default, metadata={"about": about, "within": within})


def build(kind: type[T], values: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """A dataclass from a parsed table, sections within it included.

    Args:
        kind: the dataclass, its fields made with ``key`` or dataclasses themselves.
        values: the table.
        where: what to call it in errors.
        prefix: of its keys in errors, for a section.

    Raises:
        RecipeError: an unknown key (the nearest known one is named), a value of the wrong kind or
            out of its limits, or no name.
    """
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in hints:
            known = [f"{prefix}{known}" for known in hints]
            raise RecipeError(
                f"{where}: unknown key {prefix}{name}{nearest(prefix + name, known)}; "
                f"known here: {', '.join(hints)}"
            )
    if "name" in hints and "name" not in values:
        raise RecipeError(f'{where}: a recipe needs a name, as in name = "my-recipe"')
    arguments: dict[str, Any] = {}
    for declared in fields(kind):  # type: ignore[arg-type]  # T is a dataclass
        if declared.name not in values:
            continue
        hint, value, path = hints[declared.name], values[declared.name], prefix + declared.name
        if is_dataclass(hint) and isinstance(hint, type):
            arguments[declared.name] = _section(hint, value, where, path)
        else:
            checked = _value(hint, value, where, path)
            _check_limits(checked, declared.metadata.get("within"), where, path)
            arguments[declared.name] = checked
    return kind(**arguments)


def _section(kind: type[T], value: Any, where: str, path: str) -> T:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{where}: {path} must be a section, [{path}]")
    return build(kind, value, where, f"{path}.")


def _value(hint: Any, value: Any, where: str, path: str) -> Any:
    if isinstance(hint, types.UnionType):
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is tuple:
        return _list(typing.get_args(hint)[0], value, where, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**63 else math.inf
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise RecipeError(f"{where}: {path} must be {_KINDS[hint]}, got {value!r}")
    if path == "name" and (not value or not all(c.isalnum() or c in "-_." for c in value)):
        raise RecipeError(f"{where}: name must be of letters, digits, - _ and ., got {value!r}")
    return value


def _list(kind: Any, value: Any, where: str, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        example = '["int8", "float16"]' if kind is str else "[256]" if kind is int else "[{...}]"
        raise RecipeError(f"{where}: {path} must be a list, as in {example}, got {value!r}")
    if is_dataclass(kind) and isinstance(kind, type):
        return tuple(
            _section(kind, entry, where, f"{path}.{number}")
            for number, entry in enumerate(value, 1)
        )
    return tuple(_value(kind, entry, where, path) for entry in value)


def _check_limits(value: Any, within: Within | None, where: str, path: str) -> None:
    if within is None or value is None:
        return
    if value == () and isinstance(within[0], str):
        raise RecipeError(f"{where}: {path} must not be empty; of {', '.join(map(str, within))}")
    for entry in value if isinstance(value, tuple) else (value,):
        if isinstance(within[0], str):
            words = [str(word) for word in within]
            if entry not in words:
                raise RecipeError(
                    f"{where}: {path} cannot be {entry!r}{nearest(str(entry), words)}; "
                    f"one of {', '.join(words)}"
                )
        elif not within[0] <= entry <= within[1]:
            raise RecipeError(
                f"{where}: {path} must be {within[0]:g} to {within[1]:g}, got {entry!r}"
            )


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def nearest(word: str, known: Sequence[str]) -> str:
    """`` (did you mean ...?)`` where one of the known words is close, else nothing."""
    plain = {name.casefold(): name for name in known}
    matches = difflib.get_close_matches(word.casefold(), plain, n=1, cutoff=0.5)
    return f" (did you mean {plain[matches[0]]}?)" if matches else ""


def literal(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {literal(entry)}' for name, entry in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(literal(entry) for entry in value)}]"
    if isinstance(value, str):
        escaped = "".join(
            c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value
        )
        return f'"{escaped}"'
    return repr(value)
