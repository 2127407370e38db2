"""The door to packages that only the extra ``[host]`` brings."""

from __future__ import annotations

import importlib
import os
from typing import Any

from edge_sdk.errors import MissingExtraError


def require(module: str) -> Any:
    """Imports a module of the extra ``[host]``.

    Raises:
        MissingExtraError: it is not installed; the message says what to type.
    """
    if module.split(".")[0] in ("tensorflow", "keras"):
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its start-up chatter; errors remain
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"this needs {module.split('.')[0]}, which is not installed; pip install 'edgecls[host]'"
        ) from error
