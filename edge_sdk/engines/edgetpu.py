"""The Coral Edge TPU: a LiteRT engine with Google's delegate, or an error; never the CPU."""

from __future__ import annotations

import sys

from edge_sdk.engines.litert import LiteRTEngine, interpreter_module
from edge_sdk.errors import CorruptArtifactError, DelegateError

_LIBRARIES = {"linux": "libedgetpu.so.1", "darwin": "libedgetpu.1.dylib", "win32": "edgetpu.dll"}


def open_edgetpu(model: bytes, device: str | None) -> LiteRTEngine:
    """An engine on the Edge TPU.

    Args:
        model: the bytes of a file compiled by ``edgetpu_compiler``.
        device: ``usb:N`` or ``pci:N``; None for the first one found.

    Raises:
        DelegateError: libedgetpu is not installed, or no Edge TPU answers.
    """
    library = _LIBRARIES.get(sys.platform, _LIBRARIES["linux"])
    options = {"device": device} if device else {}
    try:
        delegate = interpreter_module("litert").load_delegate(library, options)
        return LiteRTEngine(model, delegates=(delegate,))
    # OSError: no such library; AttributeError: it has no delegate in it; ValueError: it found no
    # device; CorruptArtifactError: the device went away while it was being prepared.
    except (OSError, AttributeError, ValueError, CorruptArtifactError) as error:
        raise DelegateError(
            f"backend edgetpu: {library} does not load or finds no device ({error}); install "
            "libedgetpu, plug the Coral in, or choose --backend cpu with a model not compiled for it"
        ) from error
