"""Imports of packages that only the extras install."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from edge_sdk.errors import MissingExtraError

# What needs an extra other than [host].
_EXTRAS = {"shap": "shap", "jax": "jax"}


def require(module: str) -> Any:
    """Imports a module of the extra ``[host]``, or of ``[shap]`` or ``[jax]``.

    Raises:
        MissingExtraError: it is not installed; the message names the command to install it.
    """
    if module in sys.modules:
        return sys.modules[module]
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with muted():
            return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        extra = _EXTRAS.get(package, "host")
        raise MissingExtraError(
            f"this needs {package}, which is not installed; pip install 'edgecls[{extra}]'"
        ) from error


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Drops what TensorFlow prints to both standard streams, its C++ parts included.

    It prints notices on its endpoints and instruction sets; its errors arrive as exceptions.
    ``-vv`` shows the notices.
    """
    if logging.getLogger("edgecls").isEnabledFor(logging.DEBUG):
        yield
        return
    saved = [os.dup(1), os.dup(2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            os.dup2(null, descriptor)
        # A stream object in place of standard output has no descriptor to redirect.
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            yield
    finally:
        for stream, descriptor, copy in zip((sys.stdout, sys.stderr), (1, 2), saved, strict=True):
            stream.flush()
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(null)
