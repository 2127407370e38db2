"""Keras models on disk: loaded without running anybody's code, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from edge_sdk.errors import ConversionError, WriteError
from edge_sdk.files import write_atomically
from host_tools.extras import require

_UNFINISHED = ".unfinished.keras"


def load_keras(path: Path) -> Any:
    """Loads a ``.keras`` or ``.h5`` file, refusing any that would run code of its own.

    Raises:
        ConversionError: damaged, not a Keras model, or with a Lambda layer.
    """
    keras = require("keras")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # Keras raises whatever zipfile, h5py, json or a layer's constructor happened to raise.
        reason = str(error).strip().split("\n")[0]
        raise ConversionError(
            f"{path}: Keras does not load it ({reason}); expected a .keras file made of standard "
            "layers (a Lambda layer is code, and is refused)"
        ) from error


def save_keras(model: Any, path: Path) -> None:
    """Writes a ``.keras`` file.

    Raises:
        WriteError: the disk is full; what stood there before still stands.
    """
    # Keras writes to a path only; the rename makes it all or nothing. No other process has its name.
    unfinished: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=_UNFINISHED, dir=path.parent
        )
        os.close(descriptor)
        unfinished = Path(name)
        model.save(unfinished)
        content = unfinished.read_bytes()
    except OSError as error:
        raise WriteError(
            f"{path}: could not be written ({error.strerror or error}). Nothing half-written remains; "
            "free some space or choose another folder with --out."
        ) from error
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
    write_atomically(path, content)


def sweep_unfinished(folder: Path) -> None:
    """Removes what killed processes left of models in a folder that this process holds."""
    for left in folder.glob(f".*{_UNFINISHED}"):
        with contextlib.suppress(OSError):
            left.unlink()
