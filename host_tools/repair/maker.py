"""int8 models of one network, with what they have in common computed once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from host_tools.quantize.activations import Observed, RangeMethod, ranges
from host_tools.quantize.graph import Graph
from host_tools.quantize.int8 import Treatment, equalized, rounded_model


class Maker:
    """Makes int8 models.

    Args:
        graph: of the float model up to its logits; it stays as it is.
        observed: of ``graph`` on ``pixels``.
        pixels: ``(N, H, W, C)`` uint8 calibration pictures, the last two black and white.
    """

    def __init__(
        self, graph: Graph, observed: Mapping[str, Observed], pixels: NDArray[np.uint8]
    ) -> None:
        self._pixels = pixels
        self._networks = {False: (graph, observed)}
        self._limits: dict[tuple[bool, RangeMethod], Mapping[str, tuple[float, float]]] = {}

    def network(self, treatment: Treatment) -> tuple[Graph, Mapping[str, Observed]]:
        """The float network that is rounded, but for biases, and what was observed of it."""
        if treatment.equalized not in self._networks:
            self._networks[True] = equalized(*self._networks[False], self._pixels)
        return self._networks[treatment.equalized]

    def limits(self, treatment: Treatment) -> Mapping[str, tuple[float, float]]:
        """The range of every tensor of that network."""
        key = (treatment.equalized, treatment.ranges)
        if key not in self._limits:
            self._limits[key] = ranges(self.network(treatment)[1], treatment.ranges)
        return self._limits[key]

    def int8(self, treatment: Treatment) -> bytes:
        """An int8 flatbuffer with float32 probabilities.

        Raises:
            ConversionError: an operator that has no 8-bit form.
        """
        return rounded_model(*self.network(treatment), self.limits(treatment), treatment)
