"""One trial of an unknown model in a child process, remembered by its SHA-256.

A damaged model can crash the interpreter, and with it whoever loaded it. A file whose
manifest vouches for it needs no trial.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

from edge_sdk.errors import CorruptArtifactError
from edge_sdk.files import cache_folder, write_atomically

_TIMEOUT_S = 120
_CHILD = """
import sys
import numpy as np
from edge_sdk.engines import open_engine
from edge_sdk.container import summarize_model
model = sys.stdin.buffer.read()
summary = summarize_model(model, "trial.onnx" if sys.argv[1] == "onnx" else "trial")
spec = summary.inputs[0]
answer = open_engine(model, sys.argv[1]).infer(np.zeros(spec.shape, spec.dtype))
if answer.shape != summary.outputs[0].shape or answer.dtype != summary.outputs[0].dtype:
    sys.exit("its output is not of the shape that the file says")
"""


def try_in_child(model: bytes, sha256: str, backend: str, runtime: str, name: str) -> None:
    """Loads and runs ``model`` once in a fresh process; returns at once if that went well before.

    The child does not import from the current folder (``-P``), whatever lies there.

    Args:
        model: the bytes of the file.
        sha256: of those bytes.
        backend: a CPU backend.
        runtime: its package and version: another version gets a trial of its own.
        name: what to call the file in errors.

    Raises:
        CorruptArtifactError: the child crashed, hung, or the engine refused the model.
    """
    passed = cache_folder("trials") / f"{sha256}.{runtime.replace(' ', '-')}.{backend}"
    with contextlib.suppress(OSError):  # a home that may not be looked into
        if passed.exists():
            return
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", _CHILD, backend],
            input=model,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CorruptArtifactError(
            f"{name}: one inference did not end within {_TIMEOUT_S} s; the file is damaged"
        ) from error
    if child.returncode != 0:
        lines = child.stderr.decode("utf-8", "replace").strip().split("\n")
        how = f"crashed it with signal {-child.returncode}" if child.returncode < 0 else lines[-1]
        raise CorruptArtifactError(
            f"{name}: the interpreter cannot run it ({how}); the file is damaged or not for this "
            "runtime, copy or convert it again"
        )
    with contextlib.suppress(OSError):  # a read-only home: the next start tries again
        write_atomically(passed, b"")
