"""What the tensors of a network hold, seen over calibration pictures, and ranges made of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge_sdk.engines.probe import Probe
from edge_sdk.errors import ConversionError
from host_tools.progress import progress
from host_tools.quantize.graph import Graph

RangeMethod = Literal["minmax", "percentile", "mse"]
RANGE_METHODS: tuple[RangeMethod, ...] = get_args(RangeMethod)

# Values kept of each tensor and picture, and of each tensor in all: percentiles need no more.
_KEPT_PER_PICTURE = 1024
_KEPT = 200_000
_KEPT_FOR_MSE = 20_000
# The share of values on each side that "percentile" cuts off (Wu et al. 2020, table 5: 99.99 %).
_TAIL = 1e-4
# From here on a value stands for infinity: TensorFlow's converter writes the largest float32 for it.
_INFINITE = 1e38
# Candidate ranges of "mse", as shares of the widest.
_SHARES = tuple(float(share) for share in np.linspace(0.3, 1.0, 36))


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """One tensor over all pictures.

    Attributes:
        lowest, highest: ``(N,)`` float32, of each picture.
        channel_peak: ``(C,)`` float32, largest magnitude of each channel (the last axis).
        mean: float64 of the tensor's own shape, the mean picture.
        values: ``(M,)`` float32 drawn from all values.
    """

    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]
    channel_peak: NDArray[np.float32]
    mean: NDArray[np.float64]
    values: NDArray[np.float32]

    @property
    def channel_mean(self) -> NDArray[np.float64]:
        """``(C,)`` float64, mean of each channel."""
        channels: NDArray[np.float64] = self.mean.reshape(-1, self.mean.shape[-1])
        return np.asarray(channels.mean(axis=0))

    def range(self, method: RangeMethod) -> tuple[float, float]:
        """Lowest and highest value to represent; zero is always among them.

        Args:
            method: ``minmax`` takes all that was seen; ``percentile`` leaves out the outermost
                ten-thousandth on each side; ``mse`` the range with the smallest squared error of
                rounding and clipping together, among the widest one shrunk by 36 factors.
        """
        low, high = min(0.0, float(self.lowest.min())), max(0.0, float(self.highest.max()))
        if method == "percentile" and len(self.values):
            inner = np.quantile(self.values, [_TAIL, 1 - _TAIL])
            return min(0.0, max(low, float(inner[0]))), max(0.0, min(high, float(inner[1])))
        if method == "mse" and high > low:
            values = self.values[:: max(1, len(self.values) // _KEPT_FOR_MSE)]
            share = min(_SHARES, key=lambda a: _squared_error(values, low * a, high * a))
            return low * share, high * share
        return low, high


def observe(
    graph: Graph, pixels: NDArray[np.uint8], only: Collection[str] | None = None
) -> dict[str, Observed]:
    """Runs the float network on every picture and watches what its operators compute.

    Args:
        graph: of the float model.
        pixels: ``(N, H, W, C)`` uint8, the last two black and white: they count for the extremes,
            not for the rest.
        only: names of those that are looked at; None: all.

    Returns:
        By the operator's name, and of the input by its own.
    """
    probe = Probe(graph.pack())
    names = [graph.input_name, *(operator.name for operator in graph.operators)]
    names = [name for name in names if only is None or name in only]
    random = np.random.default_rng(0)
    kept = max(16, min(_KEPT_PER_PICTURE, _KEPT // len(pixels)))
    extremes: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    peaks: dict[str, NDArray[np.float32]] = {}
    sums: dict[str, NDArray[np.float64]] = {}
    drawn: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    pictures = len(pixels) - 2
    for number, picture in enumerate(progress(pixels, "measuring ranges", len(pixels))):
        probe.run(picture[np.newaxis].astype(np.float32))
        for name in names:
            value = probe.stored(name)
            if value.dtype != np.float32:
                continue
            value = _finite(value, name)
            channels = value.reshape(-1, value.shape[-1])
            low, high = channels.min(axis=0), channels.max(axis=0)
            extremes[name].append((low.min(), high.max()))
            if number >= pictures:
                continue
            peak = np.maximum(high, -low)
            peaks[name] = np.maximum(peaks.get(name, peak), peak)
            if name not in sums:
                sums[name] = np.zeros(value.shape)
            sums[name] += value
            flat = channels.reshape(-1)
            if len(flat) > kept:
                flat = flat[random.integers(0, len(flat), kept)]
            drawn[name].append(flat.copy())
    return {
        name: Observed(
            np.array([low for low, _ in extremes[name]], np.float32),
            np.array([high for _, high in extremes[name]], np.float32),
            peaks[name],
            sums[name] / pictures,
            np.concatenate(drawn[name]),
        )
        for name in names
        if name in peaks
    }


def _finite(value: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Without infinities, which a range cannot hold: padding before a maximum is minus infinity.

    In 8 bits such a value becomes the end of the range, where it does what it is there for.
    """
    low, high = value.min(), value.max()
    if low > -_INFINITE and high < _INFINITE:
        return value
    if np.isnan(low):
        raise ConversionError(
            f"the float model computes NaN in {name} on a calibration picture; train it again with a "
            "lower training.learning_rate, or replace that layer"
        )
    return np.where(np.abs(value) < _INFINITE, value, np.float32(0))


def ranges(
    observed: Mapping[str, Observed], method: RangeMethod = "minmax"
) -> dict[str, tuple[float, float]]:
    """The range of every tensor, see ``Observed.range``."""
    return {name: one.range(method) for name, one in observed.items()}


def _squared_error(values: NDArray[np.float32], low: float, high: float) -> float:
    scale = max(high - low, 1e-12) / 255
    stored = np.clip(np.round((values - low) / scale), 0, 255)
    return float(np.square(stored * scale + low - values).mean())
