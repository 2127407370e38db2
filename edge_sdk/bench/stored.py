"""Reading a benchmark that was written before: ``bench --json`` or ``--out``."""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from edge_sdk.bench.results import SCHEMA, Benchmark
from edge_sdk.errors import BaselineError
from edge_sdk.machine.conditions import Conditions
from edge_sdk.machine.facts import Machine


def read_benchmark(path: Path, *, any_schema: bool = False) -> Benchmark:
    """Reads a stored benchmark; keys that it does not know are ignored.

    Args:
        path: a file that ``bench --out`` wrote.
        any_schema: try one of another schema, too.

    Raises:
        BaselineError: no such file, no benchmark, another schema, or damaged.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BaselineError(
            f"{path}: cannot be read ({error.strerror or error}); give a file that edgecls bench "
            "MODEL --out FILE.json wrote"
        ) from error
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BaselineError(
            f"{path}: not JSON ({error}); give a file that edgecls bench MODEL --out FILE.json wrote"
        ) from error
    return parse_benchmark(content, str(path), any_schema=any_schema)


def parse_benchmark(content: object, name: str, *, any_schema: bool = False) -> Benchmark:
    """The benchmark that a JSON object describes.

    Args:
        content: what ``json.loads`` gave.
        name: what to call it in errors.
        any_schema: try one of another schema, too.

    Raises:
        BaselineError: of another type or schema, or a key is missing or of the wrong kind.
    """
    kind = content.get("type") if isinstance(content, dict) else type(content).__name__
    if not isinstance(content, dict) or kind != "benchmark":
        raise BaselineError(
            f"{name}: is of type {kind!r}, expected a benchmark; give a file that edgecls bench MODEL "
            "--out FILE.json wrote"
        )
    schema = content.get("schema")
    if schema != SCHEMA and not any_schema:
        raise BaselineError(
            f"{name}: has schema {schema!r:.20}, this edgecls reads {SCHEMA}; measure it again with "
            "edgecls bench MODEL --out FILE.json, or try all the same with --force"
        )
    try:
        benchmark: Benchmark = _read(Benchmark, content, "benchmark")
        for model in benchmark.models:
            _check_lengths(model.samples)
    except _WrongError as error:
        raise BaselineError(
            f"{name}: {error}; the file is damaged or was edited, measure it again with edgecls "
            "bench MODEL --out FILE.json"
        ) from error
    return benchmark


class _WrongError(Exception):
    """Something of the content is not as the fields say."""


def _check_lengths(samples: object) -> None:
    lengths = {len(getattr(samples, field.name)) for field in fields(samples)}  # type: ignore[arg-type]
    if len(lengths) != 1:
        raise _WrongError("its samples are lists of different lengths")


def _read(kind: Any, value: Any, place: str) -> Any:
    """The value as the type of a field says, dataclasses and tuples made of objects and lists."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = (entry for entry in arguments if entry is not type(None))
        return _read(inner, value, place)
    if kind in (Machine, Conditions):
        try:
            return kind.from_json(_expect(dict, value, place))
        except (KeyError, TypeError, ValueError) as error:
            raise _WrongError(f"{place} cannot be read ({error!r})") from error
    if is_dataclass(kind):
        return _read_fields(kind, value, place)
    if origin is tuple:
        return _read_list(arguments, value, place)
    if origin is dict:
        return _expect(dict, value, place)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is not bool and isinstance(value, bool):
        raise _WrongError(f"{place} is {value!r}, expected {kind.__name__}")
    return _expect(kind, value, place)


def _read_fields(kind: Any, value: Any, place: str) -> Any:
    _expect(dict, value, place)
    hints = _hints(kind)
    known = {}
    for field in fields(kind):
        where = f"{place}.{field.name}"
        if field.name in value:
            known[field.name] = _read(hints[field.name], value[field.name], where)
        elif field.default is MISSING:
            raise _WrongError(f"{where} is missing")
    return kind(**known)


def _read_list(arguments: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    _expect(list, value, place)
    if arguments[-1] is Ellipsis:
        if arguments[0] in (float, int):  # thousands of them
            return tuple(_read(arguments[0], entry, place) for entry in value)
        return tuple(_read(arguments[0], entry, f"{place}[{i}]") for i, entry in enumerate(value))
    if len(value) != len(arguments):
        raise _WrongError(f"{place} has {len(value)} entries, expected {len(arguments)}")
    return tuple(_read(inner, entry, place) for inner, entry in zip(arguments, value, strict=True))


def _expect(kind: type, value: Any, place: str) -> Any:
    if not isinstance(value, kind):
        raise _WrongError(f"{place} is {value!r:.60}, expected {kind.__name__}")
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
