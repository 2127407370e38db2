"""A Keras classifier that rounds as its int8 model will, and that gradients still pass through.

Weights are rounded symmetrically to -127..127 per output channel, activations asymmetrically to
256 steps per tensor (TensorFlow Lite's quantisation specification); the gradient passes rounding
as if it were not there and stops at values that a range cuts off (Jacob et al. 2018, "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", section 3).

BatchNorm stays a layer here, in inference mode, although the converter folds it into the weights
before it: folding multiplies all weights of an output channel by one number, and a scale per
output channel is multiplied with them, so the weights are rounded to the same steps either way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.extras import require
from host_tools.progress import progress
from host_tools.quantize.activations import Observed, RangeMethod
from host_tools.quantize.fusing import MATRICES, Call, Calls, is_linear, up_to_logits

_KERNELS = (*MATRICES, "SeparableConv2D")
# They hand on what they read, with its range; of the normalisation of pixels nothing is rounded
# that matters, since 256 values stay 256 values.
_UNROUNDED = (
    *("MaxPooling2D", "GlobalMaxPooling2D", "Reshape", "Flatten", "ZeroPadding2D", "Cropping2D"),
    *("Dropout", "SpatialDropout2D", "Identity", "Permute", "Transpose", "Squeeze"),
    *("Rescaling", "Normalization"),
)
_KEPT_VALUES = 200_000
_BATCH = 8

# Computes what stands in for a variable.
_Fake = Callable[[], Any]


class FakeQuantized:
    """A copy of a classifier that computes with rounded weights and activations.

    Args:
        model: a functional or sequential ``keras.Model``, as of ``convert``; it stays as it is.
        pixels: ``(N, H, W, C)`` uint8 calibration pictures, the last two black and white; they set
            the ranges of activations once and for all.
        method: how a range follows from what is seen.
        kept_float: names of layers that stay in float.

    Attributes:
        plain: the copy up to its logits, without any rounding; its weights are the very same.
        ranges: lowest and highest value of every rounded activation, by the layer that makes it.

    Raises:
        ConversionError: a model within the model, whose layers cannot be told apart.
    """

    def __init__(
        self,
        model: Any,
        pixels: NDArray[np.uint8],
        method: RangeMethod = "mse",
        kept_float: Collection[str] = (),
    ) -> None:
        self._keras = require("keras")
        self._kept = frozenset(kept_float)
        self.plain = up_to_logits(model)
        self.plain.trainable = True
        self.plain.set_weights(model.get_weights())
        self._calls = Calls(self.plain)
        rounded = [call for call in self._calls.all if self._is_rounded(call)]
        summands = {id(one.output): _summand(one.operation) for one in self._products()}
        products = [
            self._keras.ops.subtract(one.output, summands[id(one.output)])
            for one in self._products()
        ]
        tensors = [*(call.output for call in rounded), *products]
        limits = self._measured(tensors, pixels, method)
        self.ranges = {call.operation.name: one for call, one in zip(rounded, limits, strict=False)}
        fakes = dict(self._faked())
        by_tensor = {id(call.output): one for call, one in zip(rounded, limits, strict=False)}
        of_products = dict(zip(summands, limits[len(rounded) :], strict=True))
        self._student = self._rounding(by_tensor, summands, of_products)
        self.variables: list[Any] = self._student.trainable_variables
        self._values = [fakes.get(one.path) or partial(_as_it_is, one) for one in self.variables]

    def logits(self, pictures: Any) -> Any:
        """``(N, classes)`` float32 of ``(N, H, W, C)`` float32 pictures, everything rounded."""
        # Weights are replaced for this one call, so no layer needs a second kind of its own.
        trained = [value() for value in self._values]
        fixed = [variable.value for variable in self._student.non_trainable_variables]
        result, _ = self._student.stateless_call(trained, fixed, pictures, training=False)
        return result

    def _is_rounded(self, call: Call) -> bool:
        if call.kind in _UNROUNDED or (call.kind == "Activation" and is_linear(call.operation)):
            return False
        if not self._calls.ends(call):
            return False
        # Between operators in float nothing is rounded.
        readers = self._calls.readers(call)
        apart = {one.operation.name for one in self._calls.fused(call)}.isdisjoint(self._kept)
        return apart or not readers or any(r.operation.name not in self._kept for r in readers)

    def _measured(
        self, tensors: list[Any], pixels: NDArray[np.uint8], method: RangeMethod
    ) -> list[tuple[float, float]]:
        """The range of each tensor over the calibration pictures."""
        watched = self._keras.Model(
            self.plain.inputs[0], tensors if len(tensors) > 1 else tensors[0]
        )
        random = np.random.default_rng(0)
        pictures = len(pixels) - 2  # the anchors count for the extremes, not for the rest
        kept = max(16, _KEPT_VALUES // max(pictures, 1))
        lows: list[list[float]] = [[] for _ in tensors]
        highs: list[list[float]] = [[] for _ in tensors]
        drawn: list[list[NDArray[np.float32]]] = [[] for _ in tensors]
        starts = range(0, len(pixels), _BATCH)
        for start in progress(starts, "measuring ranges", len(starts)):
            values = watched(pixels[start : start + _BATCH].astype(np.float32), training=False)
            for place, value in enumerate(values if len(tensors) > 1 else [values]):
                for number, one in enumerate(np.asarray(value), start):
                    flat = one.reshape(-1)
                    lows[place].append(float(flat.min()))
                    highs[place].append(float(flat.max()))
                    if number < pictures:
                        drawn[place].append(
                            flat[random.integers(0, len(flat), min(kept, len(flat)))]
                        )
        nothing = np.zeros(0, np.float32)
        return [
            Observed(
                np.array(low, np.float32),
                np.array(high, np.float32),
                nothing,
                nothing.astype(np.float64),
                np.concatenate([nothing, *some]),
            ).range(method)
            for low, high, some in zip(lows, highs, drawn, strict=True)
        ]

    def _products(self) -> list[Call]:
        """The calls of BatchNorms that become a product and a sum, each of which is rounded."""
        return [
            call
            for call in self._calls.all
            if call.kind == "BatchNormalization"
            and call.operation.name not in self._kept
            and not self._calls.folded(call.operation)
        ]

    def _rounding(
        self,
        limits: dict[int, tuple[float, float]],
        summands: dict[int, NDArray[np.float32]],
        of_products: dict[int, tuple[float, float]],
    ) -> Any:
        """The same layers, and what rounds their outputs behind those that become 8-bit tensors."""
        order = iter(self._calls.all)

        def fake(value: Any, key: int, of: dict[int, tuple[float, float]]) -> Any:
            low, high = of.get(key, (0.0, 0.0))
            fake_quant = self._keras.quantizers.fake_quant_with_min_max_vars
            return fake_quant(value, low, high) if high > low else value

        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            result, key = operation(*args, **kwargs), id(next(order).output)
            if key in summands:
                # The product alone: the sum as it was is taken off and put back.
                result = fake(result - summands[key], key, of_products) + summands[key]
            return fake(result, key, limits)

        return self._keras.models.clone_model(
            self.plain, clone_function=lambda operation: operation, call_function=call
        )

    def _faked(self) -> Iterator[tuple[str, _Fake]]:
        """By the path of a variable, what is computed with in its place."""
        for layer in self.plain.layers:
            kind = type(layer).__name__
            if layer.name in self._kept:
                continue
            if kind == "BatchNormalization" and not self._calls.folded(layer):
                yield from _multiplied_and_added(layer)
            for variable in layer.trainable_variables if kind in _KERNELS else ():
                if variable.name.endswith("kernel"):
                    depthwise = kind == "DepthwiseConv2D" or variable.name == "depthwise_kernel"
                    yield variable.path, _per_channel(variable, depthwise)


def _as_it_is(variable: Any) -> Any:
    return variable.value


def _per_channel(variable: Any, depthwise: bool) -> _Fake:
    """A kernel on the steps of symmetric 8-bit weights with a scale per output channel.

    Channels are the last axis, of a depthwise kernel ``(H, W, C, M)`` the last two together.
    """
    ops = require("keras").ops
    shape = tuple(variable.shape)
    flat = (*shape[:2], shape[2] * shape[3]) if depthwise else shape

    def fake() -> Any:
        weights = ops.reshape(variable.value, flat)
        return ops.reshape(_per_channel_steps(weights), shape)

    return fake


def _summand(layer: Any) -> NDArray[np.float32]:
    """``(C,)``: what a BatchNorm adds to its product."""
    mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
    gamma = 1.0 if layer.gamma is None else np.asarray(layer.gamma)
    beta = 0.0 if layer.beta is None else np.asarray(layer.beta)
    return np.asarray(beta - mean * gamma / np.sqrt(variance + layer.epsilon), np.float32)


def _multiplied_and_added(layer: Any) -> Iterator[tuple[str, _Fake]]:
    """A BatchNorm that does not fold: a product and a sum with 8-bit constants, per tensor."""
    ops = require("keras").ops
    if layer.gamma is None or layer.beta is None:
        return

    def deviation() -> Any:
        return ops.sqrt(layer.moving_variance.value + layer.epsilon)

    def gamma() -> Any:
        return _asymmetric(layer.gamma.value / deviation()) * deviation()

    def beta() -> Any:
        factor = layer.gamma.value / deviation()
        mean = layer.moving_mean.value
        return _asymmetric(layer.beta.value - mean * factor) + mean * _asymmetric(factor)

    yield layer.gamma.path, gamma
    yield layer.beta.path, beta


def _asymmetric(values: Any) -> Any:
    """Values on 256 steps between their extremes and zero, as constants of a product have them."""
    keras = require("keras")
    seen = keras.ops.stop_gradient(values)
    low = keras.ops.minimum(keras.ops.min(seen), 0.0)
    high = keras.ops.maximum(keras.ops.max(seen), 1e-12)
    return keras.quantizers.fake_quant_with_min_max_vars(values, low, high)


def _per_channel_steps(weights: Any) -> Any:
    """Weights on the steps -127..127 of each channel, the last axis."""
    keras = require("keras")
    seen = keras.ops.abs(keras.ops.stop_gradient(weights))
    axes = tuple(range(len(weights.shape) - 1))
    # A channel of zeros would have no step at all.
    peak = keras.ops.maximum(keras.ops.max(seen, axis=axes), 1e-12)
    return keras.quantizers.fake_quant_with_min_max_vars(
        weights, -peak, peak, narrow_range=True, axis=-1
    )
