"""What picamera2 is, read from its source: it cannot be imported without libcamera."""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What the driver touches, by the module and class where picamera2 has it.
USED = {
    ("picamera2.py", "Picamera2"): (
        "__init__",
        "global_camera_info",
        "sensor_modes",
        "sensor_resolution",
        "create_video_configuration",
        "configure",
        "camera_configuration",
        "start",
        "capture_request",
        "stop",
        "close",
    ),
    ("request.py", "CompletedRequest"): ("make_array", "get_metadata", "release"),
}
Signatures = dict[str, dict[str, Any]]


def installed() -> Path | None:
    """The package's folder: ``$PICAMERA2_SOURCE``, or where Python would import it from."""
    named = os.environ.get("PICAMERA2_SOURCE")
    if named:
        return Path(named)
    found = importlib.util.find_spec("picamera2")
    places = found.submodule_search_locations if found is not None else None
    return Path(next(iter(places))) if places else None


def signatures(package: Path) -> Signatures:
    """Of all that is used: ``{"Picamera2.start": {"kind": "method", "parameters": [...]}}``.

    Raises:
        KeyError: something that is used is not there any more.
    """
    found: Signatures = {}
    for (module, name), members in USED.items():
        tree = ast.parse((package / module).read_text("utf-8"))
        for member in members:
            found[f"{name}.{member}"] = _member(_class(tree, name), member)
    return found


def make_array(package: Path) -> Callable[[NDArray[np.uint8], dict[str, Any]], NDArray[np.uint8]]:
    """picamera2's own way from a buffer of the driver to an array, of a version that has it apart."""
    tree = ast.parse((package / "request.py").read_text("utf-8"))
    (function,) = (
        node
        for node in _class(tree, "Helpers").body
        if isinstance(node, ast.FunctionDef) and node.name == "_make_array_shared"
    )
    function.returns = None
    for argument in function.args.args:
        argument.annotation = None
    scope: dict[str, Any] = {"np": np}
    exec(compile(ast.Module([function], []), str(package / "request.py"), "exec"), scope)
    return lambda buffer, config: scope["_make_array_shared"](None, buffer, config)


def _class(tree: ast.Module, name: str) -> ast.ClassDef:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise KeyError(name)


def _member(owner: ast.ClassDef, name: str) -> dict[str, Any]:
    functions = [n for n in owner.body if isinstance(n, ast.FunctionDef) and n.name == name]
    if functions:
        function = functions[-1]  # the ones before are @overload
        kinds = {d.id for d in function.decorator_list if isinstance(d, ast.Name)}
        kind = next((k for k in ("property", "staticmethod") if k in kinds), "method")
        names = [argument.arg for argument in function.args.args]
        return {"kind": kind, "parameters": names if kind == "staticmethod" else names[1:]}
    for node in ast.walk(owner):
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Attribute) and target.attr == name for target in node.targets
        ):
            return {"kind": "attribute", "parameters": []}
    raise KeyError(f"{owner.name}.{name}")
