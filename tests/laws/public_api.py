"""The public API as text, a line for each name: ``python -m tests.laws.public_api [--write]``.

Classes are listed with their bases, how they are made, and their public methods, properties and class
variables; functions with their signatures. Annotations are as in the source.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ForwardRef

FILE = Path(__file__).with_suffix(".txt")
MODULES = ("edge_sdk", "edge_sdk.errors", "edge_sdk.testing")

_PLAIN = (bool, int, float, str, type(None))


def lines() -> Iterator[str]:
    """A line for each public name, sorted within its module."""
    for module in MODULES:
        for name, value in sorted(names(module).items()):
            yield from _described(f"{module}.{name}", value)


def names(module: str) -> dict[str, Any]:
    """The public names of a module: those of ``__all__``, else the classes and functions it defines."""
    loaded = importlib.import_module(module)
    if hasattr(loaded, "__all__"):
        return {name: getattr(loaded, name) for name in loaded.__all__}
    return {
        name: value
        for name, value in vars(loaded).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module
    }


def _described(path: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _class(path, value)
    elif inspect.isroutine(value):
        yield path + _signature(value)
    else:  # an alias of types
        yield f"{path} = {value}"


def _class(path: str, kind: type[Any]) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    yield f"class {path}({bases})" if bases else f"class {path}"
    if _made_by_us(kind):
        yield path + _signature(kind)
    members: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("edge_sdk"):
            members |= dict.fromkeys(vars(base), base)
            members |= dict.fromkeys(inspect.get_annotations(base), base)
    fields = set(inspect.signature(kind).parameters) if _made_by_us(kind) else set()
    for name, base in sorted(members.items()):
        if not name.startswith("_") and name not in fields:
            yield f"{path}.{_member(kind, base, name)}"


def _made_by_us(kind: type[Any]) -> bool:
    """Whether edge_sdk says which arguments make one; not for protocols and plain exceptions."""
    if getattr(kind, "_is_protocol", False):
        return False
    if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        return True
    return any("__init__" in vars(base) for base in kind.__mro__ if _is_ours(base))


def _is_ours(kind: type[Any]) -> bool:
    return kind.__module__.startswith("edge_sdk")


def _member(kind: type[Any], base: type[Any], name: str) -> str:
    value = vars(base).get(name)
    if isinstance(value, property):
        return f"{name}: {_text(inspect.get_annotations(value.fget)['return'])}"
    if isinstance(value, (classmethod, staticmethod)) or inspect.isfunction(value):
        return name + _signature(getattr(kind, name))
    annotation = inspect.get_annotations(base).get(name)
    return name if annotation is None else f"{name}: {_text(annotation)}"


class _Shown:
    """What ``inspect.Signature`` writes as it stands."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _signature(value: Callable[..., Any]) -> str:
    signature = inspect.signature(value)
    empty = inspect.Parameter.empty
    parameters = [
        parameter.replace(
            annotation=empty
            if parameter.annotation is empty
            else _Shown(_text(parameter.annotation)),
            default=empty if parameter.default is empty else _Shown(_default(parameter.default)),
        )
        for parameter in signature.parameters.values()
    ]
    returned = signature.return_annotation
    if inspect.isclass(value) or returned is signature.empty:
        returned = signature.empty
    else:
        returned = _Shown(_text(returned))
    return str(signature.replace(parameters=parameters, return_annotation=returned))


def _default(value: Any) -> str:
    """A default that a caller can write; others, such as clocks, are only marked."""
    plain = isinstance(value, _PLAIN) or (
        isinstance(value, tuple) and all(isinstance(entry, _PLAIN) for entry in value)
    )
    return repr(value) if plain else "..."


def _text(annotation: Any) -> str:
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def main() -> None:
    """Prints the public API, or records it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    text = "\n".join(lines()) + "\n"
    if parser.parse_args().write:
        FILE.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
