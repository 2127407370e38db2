"""LiteRT and its predecessor tflite-runtime: two packages, one interpreter, one engine.

Slower than an engine, since no delegate is used and no tensor is overwritten: for calibration and
reports on a workstation, never for the loop.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import CorruptArtifactError, EngineError, EngineNotInstalledError
from edge_sdk.types import Quantization, Tensor

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
        xnnpack: use the XNNPACK kernels, the default of both packages.
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


class Probe:
    """Runs a ``.tflite`` model and gives access to the output of each operator.

    Args:
        model: the bytes of the file.

    Raises:
        CorruptArtifactError: the interpreter refuses the model.
    """

    def __init__(self, model: bytes) -> None:
        module = interpreter_module("litert")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about its use of memory
                self._interpreter = module.Interpreter(
                    model_content=model, num_threads=1, experimental_preserve_all_tensors=True
                )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise CorruptArtifactError(f"LiteRT refuses the model: {error}") from error
        self._model = model
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._indices: dict[str, int] = {}
        self._quantization: dict[str, Quantization] = {}
        for detail in self._interpreter.get_tensor_details():
            self._indices.setdefault(detail["name"], detail["index"])
            scales = detail["quantization_parameters"]["scales"]
            if len(scales) == 1:
                points = detail["quantization_parameters"]["zero_points"]
                self._quantization[detail["name"]] = Quantization(float(scales[0]), int(points[0]))

    @property
    def names(self) -> frozenset[str]:
        """The names of all tensors."""
        return frozenset(self._indices)

    @property
    def quantization(self) -> Mapping[str, Quantization]:
        """Scale and zero point by name, for tensors with one scale for all their values."""
        return self._quantization

    def run(self, tensor: Tensor) -> None:
        """Computes every tensor for one input, given as the model stores it.

        Raises:
            EngineError: the tensor does not fit the model, or the inference failed.
        """
        try:
            self._interpreter.set_tensor(self._input, tensor)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"inference failed: {error}") from error

    def stored(self, name: str) -> Tensor:
        """A copy of the stored values of the named tensor.

        Raises:
            KeyError: there is no such tensor.
        """
        value: Tensor = self._interpreter.get_tensor(self._indices[name])
        return value

    def real(self, name: str) -> NDArray[np.float32]:
        """The same as real numbers: ``scale * (stored - zero_point)``."""
        value = self.stored(name)
        quantization = self._quantization.get(name)
        if value.dtype.kind == "f" or quantization is None:
            return value.astype(np.float32, copy=False)
        scale, zero_point = quantization
        return np.float32(scale) * (value.astype(np.float32) - np.float32(zero_point))
