"""The Coral Edge TPU: a LiteRT engine with Google's delegate, or an error; never the CPU."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from typing import Any

from edge_sdk.engines.litert import LiteRTEngine, interpreter_module
from edge_sdk.errors import CorruptArtifactError, DelegateError

# The path of another build of libedgetpu: Google's support ends at Python 3.9 and Debian 10.
LIBRARY = "EDGECLS_EDGETPU_LIBRARY"
_LIBRARIES = {"linux": "libedgetpu.so.1", "darwin": "libedgetpu.1.dylib", "win32": "edgetpu.dll"}
# The functions that TensorFlow Lite calls in a delegate's library (external_delegate_interface.h).
_VERBS = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")


def open_edgetpu(
    model: bytes, device: str | None, *, package: str = "litert", library: str | None = None
) -> LiteRTEngine:
    """An engine on the Edge TPU.

    Args:
        model: the bytes of a file compiled by ``edgetpu_compiler``.
        device: ``usb:N`` or ``pci:N``; None for the first one found.
        package: ``litert`` or ``tflite-runtime``.
        library: name or path of libedgetpu; None: ``$EDGECLS_EDGETPU_LIBRARY``, else where the
            system's loader finds it.

    Raises:
        DelegateError: libedgetpu is not installed or no such library, no Edge TPU answers, or it does
            not take the model.
        EngineNotInstalledError: ``package`` is missing.
    """
    library = (
        library or os.environ.get(LIBRARY) or _LIBRARIES.get(sys.platform, _LIBRARIES["linux"])
    )
    module = interpreter_module(package)
    _check_library(library)
    delegate = _load(module, library, {"device": device} if device else {})
    try:
        return LiteRTEngine(model, package=package, delegates=(delegate,))
    except CorruptArtifactError as error:  # the device may have been unplugged
        raise DelegateError(
            f"backend edgetpu: the model does not run on the Edge TPU ({error}). It may be compiled for "
            "a newer libedgetpu, or the Coral was unplugged: update libedgetpu, unplug the Coral and "
            "plug it in again, and see the end of dmesg"
        ) from error


def _check_library(library: str) -> None:
    """Checks that the library can be loaded and is a delegate.

    The interpreter's package checks this too, but leaves an incomplete object, whose destructor prints a
    traceback that cannot be caught.
    """
    try:
        loaded = ctypes.CDLL(library)
    except OSError as error:
        reason = str(error)
        if "No such file" in reason and os.sep not in library:
            raise DelegateError(
                f"backend edgetpu: {library} is not installed; install libedgetpu (docs/coral.md), or "
                f"name the file: export {LIBRARY}=/path/to/{library}"
            ) from error
        raise DelegateError(
            f"backend edgetpu: {library} cannot be loaded ({reason}); expected libedgetpu built for "
            f"this {platform.machine()} and its system (docs/coral.md). Name another one: export "
            f"{LIBRARY}=PATH"
        ) from error
    missing = [verb for verb in _VERBS if not hasattr(loaded, verb)]
    if missing:
        raise DelegateError(
            f"backend edgetpu: {library} is no delegate of TensorFlow Lite (it has no "
            f"{' and no '.join(missing)}); expected libedgetpu. Type: unset {LIBRARY}, or name the "
            "right file there"
        )


def _load(module: Any, library: str, options: dict[str, str]) -> Any:
    try:
        return module.load_delegate(library, options)
    except (
        ValueError
    ) as error:  # "Failed to load delegate from LIBRARY", then the library's message
        reason = " ".join(str(error).split("\n")[1:]).strip() or "no reason given"
        asked = f" {options['device']}" if options else ""
        raise DelegateError(
            f"backend edgetpu: {library} finds no Edge TPU{asked}, or may not open it ({reason}); plug "
            "the Coral in, end other programs that use it, and see edgecls doctor for its rights"
        ) from error
