"""Activations over calibration pictures: their ranges, the growth of ranges, each layer's error."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact.tflite import summarize
from edge_sdk.engines.litert import Probe
from edge_sdk.errors import ConversionError
from edge_sdk.vision.tensors import RAW, Encoder
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
# A larger value means infinity: TensorFlow's converter writes the largest float32 for it.
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
            method: ``minmax`` covers every observed value; ``percentile`` leaves out the outermost
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
    """Runs the float network on every picture and records the outputs of its operators.

    Args:
        graph: of the float model.
        pixels: ``(N, H, W, C)`` uint8, the last two black and white: they count for the extremes,
            not for the rest.
        only: names of the operators to observe; None: all.

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

    In 8 bits such a value becomes the end of the range, which has the same effect.
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


@dataclass(frozen=True, slots=True)
class RangeGrowth:
    """The range of one activation tensor.

    Attributes:
        tensor: the layer that computes it.
        half: lowest and highest value over the first half of the pictures, zero included, as
            TensorFlow Lite's quantiser does.
        whole: over all of them.
    """

    tensor: str
    half: tuple[float, float]
    whole: tuple[float, float]

    @property
    def share(self) -> float:
        """The part of the whole range that the first half of the pictures did not show, 0..1."""
        width = self.whole[1] - self.whole[0]
        return 1 - (self.half[1] - self.half[0]) / width if width > 0 else 0.0


def range_growth(observed: Mapping[str, Observed]) -> tuple[RangeGrowth, ...]:
    """The growth of each range by the second half of the pictures.

    The black and the white picture at the end count for both halves.

    Args:
        observed: of at least two pictures and these two, in the order of their draw.

    Returns:
        Per tensor, the least settled one first.
    """
    found = [
        RangeGrowth(
            name,
            _range(_first_half(one.lowest), _first_half(one.highest)),
            _range(one.lowest, one.highest),
        )
        for name, one in observed.items()
    ]
    return tuple(sorted(found, key=lambda growth: -growth.share))


def _first_half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    pictures = len(values) - 2
    return np.concatenate([values[: pictures // 2], values[-2:]])


def _range(lowest: NDArray[np.float32], highest: NDArray[np.float32]) -> tuple[float, float]:
    return min(0.0, float(lowest.min())), max(0.0, float(highest.max()))


@dataclass(frozen=True, slots=True)
class LayerError:
    """One operator of the integer model.

    Attributes:
        name, kind: of the operator.
        sqnr_db: power of the float output over the power of the difference, in decibels, over all
            pictures: 6 dB are about one bit. It includes the errors of the operators before it.
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
    """Capped at 200, which float32 cannot distinguish from equal."""
    if noise <= power * 1e-20:
        return 200.0
    return 10 * math.log10(power / noise) if power else -200.0
