"""Whether a Python module or a shared library loads here, tried in a process of its own.

A package built for another processor, numpy or C library does not only raise: it prints pages, or
kills the process that loads it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass

from edge_sdk.machine.shortage import shortage

_TIMEOUT_S = 60.0
# What says nothing of the package: what its problems begin with.
_NOT_STARTED, _NOT_IN_TIME = "no process could be started", "it did not load within"
# The deepest cause is the real reason; what lies above it is advice of the package's own.
_MODULE = """
import importlib, json, sys
answer = {"version": None, "problem": None, "missing": None}
try:
    module = importlib.import_module(sys.argv[1])
    package = sys.modules[sys.argv[1].split(".")[0]]
    version = getattr(package, "__version__", None)
    answer["version"] = version if isinstance(version, str) else None
except BaseException as error:
    while (error.__cause__ or error.__context__) is not None:
        error = error.__cause__ or error.__context__
    answer["problem"] = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        answer["missing"] = error.name
print()
print(json.dumps(answer))
"""
# edgetpu_version() of edgetpu_c.h gives a text with RuntimeVersion(N) in it.
_LIBRARY = """
import ctypes, json, sys
answer = {"version": None, "problem": None, "missing": None}
try:
    library = ctypes.CDLL(sys.argv[1])
    if not hasattr(library, "tflite_plugin_create_delegate"):
        answer["problem"] = "it has no tflite_plugin_create_delegate"
    elif hasattr(library, "edgetpu_version"):
        library.edgetpu_version.restype = ctypes.c_char_p
        answer["version"] = (library.edgetpu_version() or b"").decode("utf-8", "replace")
except OSError as error:
    answer["problem"] = str(error)
print()
print(json.dumps(answer))
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of loading a module or a library.

    Attributes:
        version: as it calls itself; None where it does not.
        problem: why it does not load, in one line; None where it does.
        missing: the module that was not found, which may be one that it needs.
    """

    version: str | None = None
    problem: str | None = None
    missing: str | None = None


def load_module(name: str) -> Loaded:
    """Imports a module in a child process, which does not look into the current folder."""
    return _in_child(_MODULE, name)


def load_library(path: str) -> Loaded:
    """Loads a TensorFlow Lite delegate's library in a child process, without making a delegate."""
    return _in_child(_LIBRARY, path)


def _in_child(script: str, argument: str) -> Loaded:
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", script, argument],
            capture_output=True,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Loaded(problem=f"{_NOT_IN_TIME} {_TIMEOUT_S:g} s")
    except OSError as error:
        lacking = shortage(error)
        reason = error.strerror or str(error)
        return Loaded(
            problem=f"{_NOT_STARTED} ({f'{reason}: {lacking.what}' if lacking else reason})"
        )
    if child.returncode < 0:
        number = -child.returncode
        known = {s.value: s.name for s in signal.Signals}
        return Loaded(problem=f"it crashes with {known.get(number, f'signal {number}')}")
    try:
        answer = json.loads(child.stdout.decode("utf-8", "replace").strip().split("\n")[-1])
        return Loaded(answer["version"], _first_line(answer["problem"]), answer["missing"])
    except (ValueError, KeyError, TypeError):
        return Loaded(problem=f"it ends Python with exit code {child.returncode}")


def _first_line(text: str | None) -> str | None:
    if text is None:
        return None
    return next((line.strip() for line in text.split("\n") if line.strip()), "no reason is given")


def remedy(problem: str, reinstall: str) -> tuple[str, str]:
    """What is behind a problem of loading, and the command against it.

    Args:
        problem: of a ``Loaded``.
        reinstall: the command that installs the package anew.
    """
    if match := re.search(r"(/\S+): cannot allocate memory in static TLS block", problem):
        why = "it is loaded when the place for its thread variables is taken; loaded first it works"
        return why, f"export LD_PRELOAD={match[1]}"
    for pattern, reason in _REASONS:
        if re.search(pattern, problem):
            return reason, reinstall
    if problem.startswith(_NOT_STARTED):
        return "nothing is known of it: this machine refuses another process", "ulimit -u; free -m"
    if problem.startswith(_NOT_IN_TIME):
        return (
            "nothing more is known of it; a busy machine or a slow disk does that as well",
            "edgecls doctor",
        )
    return (
        "why is not known; often a file of it is missing or damaged, or it was built for another system",
        reinstall,
    )


_REASONS = (
    (
        r"numpy\.dtype size changed|compiled using NumPy 1|multiarray|_ARRAY_API|numpy\.core",
        "it was built for another major version of numpy than the one installed",
    ),
    (
        r"GLIBC(XX)?_\d|version `",
        "it was built for a newer system; a wheel from the package index asks for less",
    ),
    (r"SIGILL", "it was built for a processor with instructions that this one lacks"),
    (r"ELF|[Ee]xec format", "it was built for another processor, or for 32 instead of 64 bits"),
)
