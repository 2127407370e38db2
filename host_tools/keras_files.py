"""Keras models on disk: loaded without running anybody's code, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_sdk.errors import ConversionError
from edge_sdk.files import write_atomically
from host_tools.extras import require


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
    # Keras writes to a path only; the rename makes it all or nothing.
    unfinished = path.with_name(f".{path.stem}.unfinished.keras")
    try:
        model.save(unfinished)
        write_atomically(path, unfinished.read_bytes())
    finally:
        unfinished.unlink(missing_ok=True)
