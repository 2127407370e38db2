"""Keras models on disk: loaded without running code from the file, written atomically."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_sdk.errors import ConversionError, WriteError
from edge_sdk.files import size_text, write_atomically
from edge_sdk.machine.board import System
from edge_sdk.machine.load import limited_memory, usable_memory_bytes
from host_tools.extras import require

_UNFINISHED = ".unfinished.keras"
# Parts that run code in the file, or at a path in it: functions as bytecode, other frameworks'
# modules, SavedModels. Keras refuses them as layers in safe mode, but not in every version, and not as
# the function that builds the model.
_CODE = (
    *("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    *("load_model", "load_weights", "model_from_json"),
)
# Parts of Keras that are not layers, but read, write or download files or disable the checks.
_NO_LAYERS = (
    *("keras.callbacks", "keras.config", "keras.datasets", "keras.distribution", "keras.export"),
    *("keras.preprocessing", "keras.saving", "keras.utils", "keras.backend"),
    *("keras.src.callbacks", "keras.src.datasets", "keras.src.distribution", "keras.src.export"),
    *("keras.src.backend", "keras.src.saving", "keras.src.trainers", "keras.src.utils"),
)
# The configuration of the largest network in Keras takes less than a megabyte.
_CONFIG_LIMIT_BYTES = 64 << 20
# Keras keeps its weights uncompressed; loading them takes twice their size, building the network some
# hundred megabytes. A configuration of a few hundred bytes may define layers of any size.
_LEAST_BYTES = 1_000_000_000
_TIMES = 8


def load_keras(path: Path) -> Any:
    """Loads a ``.keras`` or ``.h5`` file, refusing any that would run code from the file.

    Its configuration is checked before Keras opens the file.

    Raises:
        ConversionError: damaged, not a Keras model, or with a layer that is code.
    """
    keras = require("keras")
    for name, module in _asked_for(_config(path)):
        part = f"{module}.{name}" if module else name
        if re.split("[.>]", name)[-1] in _CODE or (module or "").startswith(_NO_LAYERS):
            raise ConversionError(
                f"{path}: has a {name} ({part}), which runs unchecked code; expected "
                "standard layers: build the same network from those, copy the weights and save it again"
            )
        if module and module != "builtins" and module.partition(".")[0] != "keras":
            raise ConversionError(
                f"{path}: needs {part}, which is not part of Keras; expected standard layers: build the "
                "same network from those, copy the weights and save it again"
            )
    try:
        with limited_memory(System(), _memory_bytes(path)):
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # Keras passes on exceptions of zipfile, h5py, json and of layers' constructors.
        reason = str(error).strip().split("\n")[0]
        if isinstance(error, MemoryError) or "OOM" in reason:
            reason = f"it takes more than {size_text(_memory_bytes(path))} of memory"
        raise ConversionError(
            f"{path}: Keras does not load it ({reason}); expected a .keras file made of standard "
            "layers (a Lambda layer is code, and is refused)"
        ) from error


def input_shape(model: Any) -> tuple[int, int, int]:
    """``(height, width, channels)`` of a Keras classifier.

    Raises:
        ConversionError: it is not an image classifier of fixed size with one output.
    """
    shapes = [tuple(tensor.shape) for tensor in (*model.inputs, *model.outputs)]
    image = shapes[0]
    fits = (
        len(model.inputs) == len(model.outputs) == 1
        and len(image) == 4
        and None not in image[1:]
        and image[3] in (1, 3)
        and len(shapes[1]) == 2
        and (shapes[1][1] or 0) >= 2
    )
    if not fits:
        raise ConversionError(
            f"{model.name}: not an image classifier of fixed size: inputs and outputs {shapes}, expected "
            "(None, height, width, 1 or 3) and (None, classes)"
        )
    return (int(image[1]), int(image[2]), int(image[3]))


def _config(path: Path) -> Any:
    """The configuration of the layers, parsed from JSON; None where the file has none."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
                text = file.read(_CONFIG_LIMIT_BYTES + 1)
        else:
            with require("h5py").File(path, "r") as file:
                text = file.attrs.get("model_config", "null")
        if len(text) > _CONFIG_LIMIT_BYTES:
            raise ValueError(f"a description of more than {_CONFIG_LIMIT_BYTES >> 20} MB")
        return json.loads(text)
    except Exception as error:
        # The exceptions of zipfile, h5py and json have no common class.
        raise ConversionError(
            f"{path}: not a Keras model, or a damaged one ({error}); expected a .keras file, or an .h5 "
            "file that holds more than weights"
        ) from error


def _asked_for(config: Any) -> Iterator[tuple[str, str | None]]:
    """Classes and functions that a configuration names, each with its module."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            # The compile configuration is not loaded.
            waiting += [each for key, each in value.items() if key != "compile_config"]
            module = value.get("module")
            names = [value.get("class_name"), value.get("registered_name")]
            if names[0] == "function":  # which is named by its config
                names = [value.get("config")]
            for name in names:
                if isinstance(name, str):
                    yield name, module if isinstance(module, str) else None


def _memory_bytes(path: Path) -> int:
    most = _LEAST_BYTES + _TIMES * path.stat().st_size
    usable = usable_memory_bytes(System())
    return most if usable is None else min(most, usable)


def save_keras(model: Any, path: Path) -> None:
    """Writes a ``.keras`` file.

    Raises:
        WriteError: the disk is full; an older file is unchanged.
    """
    # Keras writes to a path only; the rename makes it atomic. The temporary name is unique.
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
    """Removes unfinished models of killed processes from a folder that this process holds."""
    for left in folder.glob(f".*{_UNFINISHED}"):
        with contextlib.suppress(OSError):
            left.unlink()
