"""Inference engines behind one door, ``open_engine``; each file is imported only when named."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from edge_sdk.errors import EngineError, EngineNotInstalledError, UnknownBackendError
from edge_sdk.ports import Engine

BACKENDS = ("cpu", "litert", "tflite-runtime", "litert-noxnnpack", "edgetpu")


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend by name, and the device of an accelerator where given (``edgetpu:usb:0``)."""

    name: str
    device: str | None = None


def parse_backend(text: str) -> Backend:
    """Reads ``cpu``, ``litert``, ``tflite-runtime``, ``litert-noxnnpack``, ``edgetpu[:usb:N|:pci:N]``.

    Raises:
        UnknownBackendError: anything else.
    """
    name, _, device = text.partition(":")
    kind, _, number = device.partition(":")
    device_fits = (
        not device
        if name != "edgetpu"
        else (text == "edgetpu" or (kind in ("usb", "pci") and number.isdecimal()))
    )
    if name not in BACKENDS or not device_fits or text.endswith(":"):
        raise UnknownBackendError(
            f"no backend is called {text!r}; choose {', '.join(BACKENDS)} or edgetpu:usb:N, edgetpu:pci:N"
        )
    return Backend(name, device or None)


def open_engine(model: bytes, backend: str = "cpu", *, threads: int = 1) -> Engine:
    """Loads ``model`` into the engine that ``backend`` names; never into another one.

    Args:
        model: the bytes of a ``.tflite`` file.
        backend: see ``parse_backend``; ``cpu`` is LiteRT, or tflite-runtime where only that is
            installed.
        threads: CPU threads for one inference, at least 1.

    Raises:
        UnknownBackendError: no such backend.
        EngineError: fewer than one thread.
        EngineNotInstalledError: its package is missing.
        DelegateError: its accelerator is missing.
        CorruptArtifactError: the engine refuses the model.
    """
    chosen = parse_backend(backend)
    if threads < 1:
        raise EngineError(f"threads must be at least 1, got {threads}")
    if chosen.name == "edgetpu":
        from edge_sdk.engines import edgetpu

        return edgetpu.open_edgetpu(model, chosen.device)
    from edge_sdk.engines import litert

    package = chosen.name.removesuffix("-noxnnpack")
    if package == "cpu":
        package = _first_installed()
    return litert.LiteRTEngine(
        model, package=package, threads=threads, xnnpack=not chosen.name.endswith("-noxnnpack")
    )


def runtime_version(backend: str) -> str:
    """The package and version behind a CPU backend, such as ``ai-edge-litert 2.3.0``.

    Raises:
        EngineNotInstalledError: it is not installed.
    """
    from importlib.metadata import (
        PackageNotFoundError,
        version,
    )  # 20 ms that only a foreign model needs

    name = parse_backend(backend).name.removesuffix("-noxnnpack")
    if name in ("cpu", "edgetpu"):
        name = _first_installed()
    distribution = "ai-edge-litert" if name == "litert" else name
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError as error:
        raise EngineNotInstalledError(
            f"backend {name} needs the package {distribution}; pip install {distribution}"
        ) from error


def _first_installed() -> str:
    for package, module in (("litert", "ai_edge_litert"), ("tflite-runtime", "tflite_runtime")):
        if importlib.util.find_spec(module) is not None:
            return package
    raise EngineNotInstalledError(
        "no TensorFlow Lite interpreter is installed; pip install ai-edge-litert "
        "(or tflite-runtime on a 32-bit board)"
    )
