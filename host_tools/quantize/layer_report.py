"""Where an integer model loses: every operator's output beside the float network's."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact.tflite import summarize
from edge_sdk.engines.probe import Probe
from edge_sdk.vision.tensors import RAW, Encoder
from host_tools.progress import progress
from host_tools.quantize.graph import Graph


@dataclass(frozen=True, slots=True)
class LayerError:
    """One operator of the integer model.

    Attributes:
        name, kind: of the operator.
        sqnr_db: power of the float output over the power of the difference, in decibels, over all
            pictures: every 6 dB are about one bit. Errors of the operators before it count in.
        low, high: the range that the integer output can hold; None where it is float.
        used_low, used_high: the extremes of the float output.
        saturated: share of values (0..1) that the range cuts off: stored at one of its ends, the
            float one beyond it by half a step at least. What ReLU or ReLU6 cut off is not.
    """

    name: str
    kind: str
    sqnr_db: float
    low: float | None
    high: float | None
    used_low: float
    used_high: float
    saturated: float

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)


def layer_report(
    graph: Graph, quantized: bytes, pixels: NDArray[np.uint8]
) -> tuple[LayerError, ...]:
    """Compares every operator, the worst first.

    Args:
        graph: of the float model, whose operators' names the integer model kept.
        quantized: the integer model.
        pixels: ``(N, H, W, C)`` uint8 pictures to run both on.
    """
    reference, candidate = Probe(graph.pack()), Probe(quantized)
    encode = Encoder(summarize(quantized, "the integer model").inputs[0], RAW)
    operators = [one for one in graph.operators if one.name in candidate.names]
    power = np.zeros(len(operators))
    noise, saturated, count = np.zeros_like(power), np.zeros_like(power), np.zeros_like(power)
    extremes = np.array([[np.inf, -np.inf]] * len(operators))
    for picture in progress(pixels, "comparing layers", len(pixels)):
        reference.run(picture[np.newaxis].astype(np.float32))
        candidate.run(encode(picture))
        for row, operator in enumerate(operators):
            true = reference.stored(operator.name).astype(np.float64)
            power[row] += np.square(true).sum()
            noise[row] += np.square(candidate.real(operator.name) - true).sum()
            extremes[row] = min(extremes[row][0], true.min()), max(extremes[row][1], true.max())
            stored = candidate.stored(operator.name)
            if stored.dtype.kind in "iu":
                ends, half = np.iinfo(stored.dtype), candidate.quantization[operator.name].scale / 2
                low, high = _ends(candidate, operator.name)
                assert low is not None  # it stores integers
                assert high is not None
                cut = (stored == ends.max) & (true > high + half)
                cut |= (stored == ends.min) & (true < low - half)
                saturated[row] += cut.sum()
                count[row] += stored.size
    found = []
    for row, operator in enumerate(operators):
        low, high = _ends(candidate, operator.name)
        found.append(
            LayerError(
                operator.name,
                operator.kind,
                _decibels(power[row], noise[row]),
                low,
                high,
                float(extremes[row][0]),
                float(extremes[row][1]),
                float(saturated[row] / count[row]) if count[row] else 0.0,
            )
        )
    return tuple(sorted(found, key=lambda layer: layer.sqnr_db))


def _ends(probe: Probe, name: str) -> tuple[float, float] | tuple[None, None]:
    quantization = probe.quantization.get(name)
    dtype = probe.stored(name).dtype
    if quantization is None or dtype.kind not in "iu":
        return None, None
    ends = np.iinfo(dtype)
    scale, zero_point = quantization
    return scale * (int(ends.min) - zero_point), scale * (int(ends.max) - zero_point)


def _decibels(power: float, noise: float) -> float:
    """Capped at 200, which float32 cannot tell from equal."""
    if noise <= power * 1e-20:
        return 200.0
    return 10 * math.log10(power / noise) if power else -200.0
