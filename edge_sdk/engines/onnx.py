"""ONNX Runtime, on the CPU."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from edge_sdk.artifact.onnx import is_channels_first
from edge_sdk.errors import CorruptArtifactError, EngineError, EngineNotInstalledError
from edge_sdk.types import Tensor

_FATAL_ONLY = 4  # errors are raised as exceptions
_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}


class OnnxEngine:
    """Runs an ``.onnx`` model.

    The input is channels-last for every model; a channels-first model gets it transposed.

    Args:
        model: the bytes of the file.
        threads: CPU threads for one inference.

    Raises:
        EngineNotInstalledError: the package is missing.
        CorruptArtifactError: ONNX Runtime refuses the model.
    """

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        module = runtime_module()
        options = module.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL_ONLY
        # Without it, x86 processors that lack VNNI add pairs of 8-bit products in 16 bits, which can
        # overflow: the answer then differs from the validated one. No effect on other processors.
        options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = module.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except _failures(module) as error:
            raise CorruptArtifactError(f"onnx refuses the model: {_first_line(error)}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or not outputs:
            raise CorruptArtifactError(
                f"onnx: a model with {len(inputs)} inputs and {len(outputs)} outputs, expected one "
                "of each; convert it again"
            )
        self._failures = _failures(module)
        self._input, self._output = inputs[0].name, outputs[0].name
        self._dtype = _DTYPES.get(inputs[0].type, inputs[0].type)
        # A symbolic size accepts any value; the batch size becomes 1.
        shape = tuple(side if isinstance(side, int) else 1 for side in inputs[0].shape)
        self._turned = is_channels_first(shape)
        self._shape = (shape[0], *shape[2:], shape[1]) if self._turned else shape

    def infer(self, tensor: Tensor) -> Tensor:
        """Runs the model on its input tensor; returns its first output tensor.

        Raises:
            EngineError: the tensor has another shape or dtype than the model's input, the
                inference failed, or the engine is closed.
        """
        if self._session is None:
            raise EngineError("the engine is closed; open the model again")
        if tensor.shape != self._shape or tensor.dtype != self._dtype:
            raise EngineError(
                f"got a tensor of {tensor.shape} {tensor.dtype}, the model takes "
                f"{self._shape} {self._dtype}"
            )
        if self._turned:
            tensor = np.ascontiguousarray(tensor.transpose(0, 3, 1, 2))
        try:
            result: Tensor = self._session.run([self._output], {self._input: tensor})[0]
        except self._failures as error:
            raise EngineError(f"inference failed: {_first_line(error)}") from error
        return result

    def close(self) -> None:
        """Drops the session."""
        self._session = None


def runtime_module() -> Any:
    """ONNX Runtime's package.

    Raises:
        EngineNotInstalledError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise EngineNotInstalledError(
            f"backend onnx needs the package onnxruntime ({error}); pip install 'edgecls[onnx]'"
        ) from error


def _failures(module: ModuleType) -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions, which have no common class, and those of its binding."""
    state = module.capi.onnxruntime_pybind11_state
    own = [kind for kind in vars(state).values() if isinstance(kind, type)]
    return (*(k for k in own if issubclass(k, Exception)), ValueError, RuntimeError)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
