"""An interpreter that keeps every tensor, for whoever measures a network from the inside.

Slower than an engine, since nothing is delegated or overwritten: for calibration and reports on a
workstation, never for the loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_sdk.engines.litert import interpreter_module
from edge_sdk.errors import CorruptArtifactError, EngineError
from edge_sdk.types import Quantization, Tensor


class Probe:
    """Runs a ``.tflite`` model and lets one read what each operator computed.

    Args:
        model: the bytes of the file.

    Raises:
        CorruptArtifactError: the interpreter refuses the model.
    """

    def __init__(self, model: bytes) -> None:
        module = interpreter_module("litert")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the memory that it takes
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
        """Of all tensors."""
        return frozenset(self._indices)

    @property
    def quantization(self) -> Mapping[str, Quantization]:
        """By name, of the tensors that have one scale for all their values."""
        return self._quantization

    def run(self, tensor: Tensor) -> None:
        """Computes every tensor for one input, as the model stores it.

        Raises:
            EngineError: the tensor does not fit the model, or the inference failed.
        """
        try:
            self._interpreter.set_tensor(self._input, tensor)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"inference failed: {error}") from error

    def stored(self, name: str) -> Tensor:
        """What the tensor of that name holds, as it is stored; a copy.

        Raises:
            KeyError: there is none.
        """
        value: Tensor = self._interpreter.get_tensor(self._indices[name])
        return value

    def real(self, name: str) -> NDArray[np.float32]:
        """The same in real numbers: ``scale * (stored - zero_point)``."""
        value = self.stored(name)
        quantization = self._quantization.get(name)
        if value.dtype.kind == "f" or quantization is None:
            return value.astype(np.float32, copy=False)
        scale, zero_point = quantization
        return np.float32(scale) * (value.astype(np.float32) - np.float32(zero_point))
