"""What receivers are told of this program."""

from __future__ import annotations

import functools
import importlib.metadata


@functools.cache
def version() -> str:
    """Of the installed package; sinks stand below ``edge_sdk`` itself and cannot ask it."""
    try:
        return importlib.metadata.version("edgecls")
    except importlib.metadata.PackageNotFoundError:  # copied, not installed
        return "unknown"
