"""Inference engines, opened by ``open_engine``; each module is imported only when selected."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from edge_sdk.errors import (
    DelegateError,
    EngineError,
    EngineNotInstalledError,
    UnknownBackendError,
    WrongBackendError,
)
from edge_sdk.ports import Engine

if TYPE_CHECKING:
    from edge_sdk.artifact import Artifact

BackendName = Literal["cpu", "litert", "tflite-runtime", "litert-noxnnpack", "onnx", "edgetpu"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)

_DISTRIBUTIONS = {"litert": "ai-edge-litert", "onnx": "onnxruntime"}


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend's name, and the device of an accelerator if given (``edgetpu:usb:0``)."""

    name: BackendName
    device: str | None = None


def parse_backend(text: str) -> Backend:
    """Parses a name of ``BACKENDS``; ``edgetpu`` may be followed by ``:usb:N`` or ``:pci:N``.

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


def backend_for(artifact: Artifact, backend: str) -> str:
    """The backend that runs an artifact, given the requested ``backend``; never a substitute.

    ``cpu`` means ONNX Runtime for an ``.onnx`` file, its only engine; any other backend is used as
    named or raises an error.

    Raises:
        UnknownBackendError: no such backend.
        DelegateError: compiled for the Edge TPU and requested on another backend, or the reverse.
        WrongBackendError: a ``.tflite`` for ONNX Runtime, or an ``.onnx`` for an interpreter of
            TensorFlow Lite.
    """
    chosen, path = parse_backend(backend), artifact.path
    if artifact.kind == "onnx":
        if chosen.name not in ("cpu", "onnx"):
            raise WrongBackendError(
                f"{path}: an ONNX model, which backend {chosen.name} cannot run; leave --backend out, "
                "or convert the model with edgecls convert --format int8"
            )
        return "onnx"
    if chosen.name == "onnx":
        raise WrongBackendError(
            f"{path}: a TensorFlow Lite model, which backend onnx cannot run; leave --backend out, or "
            "convert the model with edgecls convert --format onnx"
        )
    if artifact.needs_edgetpu and chosen.name != "edgetpu":
        raise DelegateError(
            f"{path}: compiled for the Coral Edge TPU, which the CPU cannot replace; "
            "use --backend edgetpu with a Coral, or the file it was compiled from"
        )
    if chosen.name == "edgetpu" and not artifact.needs_edgetpu:
        raise DelegateError(
            f"{path}: not compiled for the Edge TPU, so the CPU would run it; compile it with "
            "edgetpu_compiler, or choose --backend cpu"
        )
    return backend


def open_engine(model: bytes, backend: str = "cpu", *, threads: int = 1) -> Engine:
    """Loads ``model`` into the engine of the named ``backend``; never into another one.

    Args:
        model: the bytes of a ``.tflite`` file, or of an ``.onnx`` file for ``onnx``.
        backend: see ``parse_backend``; ``cpu`` is LiteRT, or tflite-runtime where only that is
            installed. See also ``backend_for``.
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

        return edgetpu.open_edgetpu(model, chosen.device, package=_first_installed())
    if chosen.name == "onnx":
        from edge_sdk.engines import onnx

        return onnx.OnnxEngine(model, threads=threads)
    from edge_sdk.engines import litert

    package = chosen.name.removesuffix("-noxnnpack")
    if package == "cpu":
        package = _first_installed()
    return litert.LiteRTEngine(
        model, package=package, threads=threads, xnnpack=not chosen.name.endswith("-noxnnpack")
    )


def load_runtime(backend: str) -> str:
    """Loads the package of a CPU backend and returns its name and version: ``litert 2.3.0``.

    Raises:
        EngineNotInstalledError: it is not installed, or does not load.
    """
    name = parse_backend(backend).name.removesuffix("-noxnnpack")
    if name == "onnx":
        from edge_sdk.engines import onnx

        module = onnx.runtime_module()
    else:
        from edge_sdk.engines import litert

        name = _first_installed() if name in ("cpu", "edgetpu") else name
        module = sys.modules[litert.interpreter_module(name).__name__.partition(".")[0]]
    version = getattr(module, "__version__", None)
    return f"{name} {version}" if version else runtime_version(backend)


def runtime_version(backend: str) -> str:
    """The package and version of a CPU backend, such as ``ai-edge-litert 2.3.0``.

    Raises:
        EngineNotInstalledError: it is not installed.
    """
    from importlib.metadata import (
        PackageNotFoundError,
        version,
    )  # takes 20 ms, which only a third-party model needs

    name = parse_backend(backend).name.removesuffix("-noxnnpack")
    if name in ("cpu", "edgetpu"):
        name = _first_installed()
    distribution = _DISTRIBUTIONS.get(name, name)
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError as error:
        wanted = "'edgecls[onnx]'" if name == "onnx" else distribution
        raise EngineNotInstalledError(
            f"backend {name} needs the package {distribution}; pip install {wanted}"
        ) from error


def _first_installed() -> str:
    for package, module in (("litert", "ai_edge_litert"), ("tflite-runtime", "tflite_runtime")):
        if importlib.util.find_spec(module) is not None:
            return package
    raise EngineNotInstalledError(
        "no TensorFlow Lite interpreter is installed; pip install ai-edge-litert "
        "(or tflite-runtime on a 32-bit board)"
    )
