"""LiteRT and its predecessor tflite-runtime: two packages, one interpreter, one engine."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from edge_sdk.errors import CorruptArtifactError, EngineError, EngineNotInstalledError
from edge_sdk.types import Tensor

_MODULES = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}


class LiteRTEngine:
    """Runs a ``.tflite`` model on the CPU, or through a delegate.

    Args:
        model: the bytes of the file; kept, since the interpreter reads the weights in place.
        package: ``litert`` or ``tflite-runtime``.
        threads: CPU threads for one inference.
        xnnpack: use the XNNPACK kernels, as both packages do by default.
        delegates: loaded delegates, tried in order.

    Raises:
        EngineNotInstalledError: the package is missing.
        CorruptArtifactError: the interpreter refuses the model.
    """

    def __init__(
        self,
        model: bytes,
        *,
        package: str = "litert",
        threads: int = 1,
        xnnpack: bool = True,
        delegates: tuple[Any, ...] = (),
    ) -> None:
        module = interpreter_module(package)
        options: dict[str, Any] = {}
        if delegates:
            options["experimental_delegates"] = list(delegates)
        if not xnnpack:
            options["experimental_op_resolver_type"] = (
                module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            )
        try:
            self._interpreter = module.Interpreter(
                model_content=model, num_threads=threads, **options
            )
            self._interpreter.allocate_tensors()
        except SystemError as error:  # tflite-runtime under numpy 2
            raise EngineNotInstalledError(
                f"backend {package} does not work with this numpy; pip install 'edgecls[{package}]'"
            ) from error
        except (ValueError, RuntimeError) as error:
            raise CorruptArtifactError(
                f"{package} refuses the model: {_first_line(error)}"
            ) from error
        self._model = model
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def infer(self, tensor: Tensor) -> Tensor:
        """Runs the model on its input tensor; returns a copy of its output tensor.

        Raises:
            EngineError: the tensor has another shape or dtype than the model's input, the
                inference failed, or the engine is closed.
        """
        if self._interpreter is None:
            raise EngineError("the engine is closed; open the model again")
        try:
            self._interpreter.set_tensor(self._input, tensor)
            self._interpreter.invoke()
            result: Tensor = self._interpreter.get_tensor(self._output)
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"inference failed: {_first_line(error)}") from error
        return result

    def close(self) -> None:
        """Drops the interpreter and the model."""
        self._interpreter = None
        self._model = b""


def interpreter_module(package: str) -> ModuleType:
    """The interpreter module of ``litert`` or ``tflite-runtime``.

    Raises:
        EngineNotInstalledError: it is not installed, or does not load.
    """
    module, distribution = _MODULES[package]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EngineNotInstalledError(
            f"backend {package} needs the package {distribution} ({error}); pip install {distribution}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
