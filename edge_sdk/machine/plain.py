"""Reading a frozen value back from JSON, with the kinds of its fields checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
}


def plain_fields(kind: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass from a JSON object; unknown keys are left out.

    Fields that are text, a number or a truth value, or None where that is allowed, are checked; the
    others are given as they come. A field with a default may be missing: the file is older.

    Raises:
        KeyError: a field is missing.
        TypeError: it is of another kind, or the content is no object.
        ValueError: a number that is not finite.
    """
    if not isinstance(content, Mapping):
        raise TypeError(f"got {type(content).__name__}, expected an object")
    values = {}
    for field in fields(kind):
        if field.default is not MISSING and field.name not in content:
            values[field.name] = field.default
            continue
        value = values[field.name] = content[field.name]
        allowed = str(field.type).split(" | ")
        if value is None and "None" in allowed:
            continue
        known = _KINDS.get(allowed[0])
        if known is None:
            continue
        if not isinstance(value, known) or (isinstance(value, bool) and bool not in known):
            raise TypeError(f"{field.name} is {value!r:.60}, expected {allowed[0]}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{field.name} is {value}, expected a finite number")
    return values


def texts(value: object) -> tuple[str, ...]:
    """A list of texts.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise TypeError(f"got {value!r:.60}, expected a list of texts")
    return tuple(value)
