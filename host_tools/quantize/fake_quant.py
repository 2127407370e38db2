"""A Keras classifier with the rounding of its int8 model, through which gradients pass.

Weights are rounded symmetrically to -127..127 per output channel, activations asymmetrically to
256 steps per tensor (TensorFlow Lite's quantisation specification); the gradient passes rounding
unchanged and is zero at values that a range clips (Jacob et al. 2018, "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", section 3).

BatchNorm stays a layer here, in inference mode, although the converter folds it into the weights
before it: folding multiplies all weights of an output channel by one number, and a scale per
output channel is multiplied with them, so the weights are rounded to the same steps either way.

Left out, since their effect is small: biases, which int8 keeps in 32 bits, and the tensor between the two
halves of a SeparableConv2D.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConversionError
from host_tools.extras import require
from host_tools.progress import progress
from host_tools.quantize.activations import Observed, RangeMethod

# Layers whose kernel is multiplied with their input.
MATRICES = ("Conv2D", "DepthwiseConv2D", "Dense")
# TensorFlow Lite computes ReLU and ReLU6 together with what comes before them, if it is one of these.
_FUSING = (*MATRICES, "BatchNormalization", "Add", "Subtract", "Multiply", "AveragePooling2D")
# Layers for training alone.
ABSENT = ("Dropout", "SpatialDropout2D", "Identity")


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a layer, or of a plain operation such as a sum, in a functional model.

    Attributes:
        operation: what is called; a layer used twice has two calls.
        inputs: the tensors it reads.
        output: the tensor it makes, the first where there are several.
    """

    operation: Any
    inputs: tuple[Any, ...]
    output: Any

    @property
    def kind(self) -> str:
        """The name of the layer's class."""
        return type(self.operation).__name__


class Calls:
    """All calls of a functional model, in the order in which Keras makes them to copy it.

    Args:
        model: a functional ``keras.Model``.
    """

    def __init__(self, model: Any) -> None:
        by_depth = model._nodes_by_depth  # Keras lists calls nowhere else
        self.all = tuple(
            Call(node.operation, tuple(node.input_tensors), node.output_tensors[0])
            for depth in sorted(by_depth, reverse=True)
            for node in by_depth[depth]
            if node.operation and not node.is_input
        )
        self._makers = {id(call.output): call for call in self.all}
        self._readers: dict[int, list[Call]] = {}
        for call in self.all:
            for tensor in call.inputs:
                self._readers.setdefault(id(tensor), []).append(call)

    def readers(self, call: Call) -> list[Call]:
        """The calls that read its output."""
        return self._readers.get(id(call.output), [])

    def before(self, call: Call) -> Call | None:
        """The call that makes the first tensor it reads; None where that is the model's input."""
        return self._makers.get(id(call.inputs[0])) if call.inputs else None

    def ends(self, call: Call) -> bool:
        """Whether its output is a tensor of the converted model, not fused into its reader."""
        readers = self.readers(call)
        return len(readers) != 1 or not _fuses(call, readers[0])

    def fused(self, call: Call) -> Iterator[Call]:
        """The calls that are fused into one operator with this one, from this one backwards."""
        yield call
        before = self.before(call)
        if before is not None and not self.ends(before):
            yield from self.fused(before)

    def folded(self, layer: Any) -> bool:
        """Whether a BatchNorm disappears into the weights before it."""
        calls = [call for call in self.all if call.operation is layer]
        return all(len(list(self.fused(call))) > 1 for call in calls)

    def folding(self, call: Call) -> Call | None:
        """The call of the BatchNorm that disappears into this one's weights, if there is one."""
        readers = self.readers(call)
        if len(readers) != 1 or readers[0].kind != "BatchNormalization":
            return None
        return readers[0] if _fuses(call, readers[0]) else None

    def added_before(self, call: Call) -> float:
        """What a Rescaling adds to the pixels that a call reads, where it becomes part of its bias.

        The converter folds a scalar alone, and only without zero padding.
        """
        before = self.before(call) if call.kind in MATRICES else None
        while before is not None and before.kind in ABSENT:
            before = self.before(before)
        if before is None or before.kind != "Rescaling":
            return 0.0
        layer = before.operation
        alone = np.ndim(layer.scale) == np.ndim(layer.offset) == 0
        if not alone or getattr(call.operation, "padding", "valid") != "valid":
            return 0.0
        return float(layer.offset)


def up_to_logits(model: Any) -> Any:
    """A copy of a classifier without its softmax; the weights are fresh, in the same order.

    Args:
        model: a functional or sequential ``keras.Model`` that ends in a softmax.

    Raises:
        ConversionError: a model within the model.
    """
    keras = require("keras")
    functional = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    last = functional.layers[-1]
    for layer in functional.layers:
        if isinstance(layer, keras.Model):
            raise ConversionError(
                f"{model.name}: its layer {layer.name!r} is a nested model, expected layers alone; "
                "call that model's layers one by one where the network is built, and train it again"
            )

    def copied(layer: Any) -> Any:
        config = layer.get_config()
        if layer is last and "activation" in config:
            config["activation"] = "linear"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(functional, clone_function=copied)
    if isinstance(last, keras.layers.Softmax):
        return keras.Model(copy.inputs[0], copy.layers[-1].input, name=model.name)
    return copy


def is_linear(operation: Any) -> bool:
    """Whether a layer has no activation of its own, or a linear one."""
    name = getattr(getattr(operation, "activation", None), "__name__", "linear")
    return bool(name == "linear")


def _fuses(first: Call, second: Call) -> bool:
    """Whether the converter fuses two calls, if no other call reads the first."""
    if not is_linear(first.operation):
        return False
    if second.kind == "BatchNormalization":
        return first.kind in MATRICES
    if first.kind not in _FUSING:
        return False
    layer = second.operation
    if second.kind == "ReLU":
        plain = not layer.negative_slope and not layer.threshold
        return plain and layer.max_value in (None, 6.0)
    if second.kind == "Activation":
        return getattr(layer.activation, "__name__", "") in ("relu", "relu6")
    return second.kind in ("Relu", "Relu6")  # keras.ops


_KEPT_VALUES = 200_000
_BATCH = 8


def layer_ranges(
    watched: Any, pixels: NDArray[np.uint8], method: RangeMethod
) -> NDArray[np.float32]:
    """``(T, 2)``: lowest and highest value to represent of each tensor, as of ``Observed.range``.

    Args:
        watched: a ``keras.Model`` from pixels 0..255 to a list of T tensors.
        pixels: ``(N, H, W, C)`` uint8, the last two black and white: they count for the extremes,
            not for the rest.
        method: how a range follows from the observed values.
    """
    random = np.random.default_rng(0)
    tensors, pictures = len(watched.outputs), len(pixels) - 2
    kept = max(16, _KEPT_VALUES // max(pictures, 1))
    lows = np.zeros((tensors, len(pixels)), np.float32)
    highs = np.zeros_like(lows)
    drawn: list[list[NDArray[np.float32]]] = [[np.zeros(0, np.float32)] for _ in range(tensors)]
    starts = range(0, len(pixels), _BATCH)
    for start in progress(starts, "measuring ranges", len(starts)):
        batch = pixels[start : start + _BATCH].astype(np.float32)
        values = watched.predict_on_batch(batch)
        for place, value in enumerate(values if tensors > 1 else [values]):
            for number, flat in enumerate(value.reshape(len(value), -1), start):
                lows[place, number], highs[place, number] = flat.min(), flat.max()
                if number < pictures:
                    chosen = random.integers(0, len(flat), min(kept, len(flat)))
                    drawn[place].append(flat[chosen])
    nothing = np.zeros(0, np.float32)
    seen = [
        Observed(low, high, nothing, nothing.astype(np.float64), np.concatenate(some))
        for low, high, some in zip(lows, highs, drawn, strict=True)
    ]
    return np.array([one.range(method) for one in seen], np.float32)


_KERNELS = (*MATRICES, "SeparableConv2D")
# They pass on their input with its range. Normalisation of pixels needs no rounding here: 256 values
# stay 256 values.
_UNROUNDED = (
    *("MaxPooling2D", "GlobalMaxPooling2D", "Reshape", "Flatten", "ZeroPadding2D", "Cropping2D"),
    *("Permute", "Transpose", "Squeeze", "Rescaling", "Normalization", *ABSENT),
)
# Their outputs have the quantisation steps of their inputs.
_SAME_STEPS = ("AveragePooling2D", "UpSampling2D")

# Computes the value used in place of a variable.
_Fake = Callable[[], Any]


class FakeQuantized:
    """A copy of a classifier that computes with rounded weights and activations.

    Args:
        model: a functional or sequential ``keras.Model``, as of ``convert``; it stays as it is.
        pixels: ``(N, H, W, C)`` uint8 calibration pictures, the last two black and white; they set
            the ranges of activations.
        method: how a range follows from the observed values.
        kept_float: names of layers that stay in float.

    Attributes:
        plain: the copy up to its logits, without any rounding; it shares the weights.
        variables: the trainable variables of ``plain``, for gradients.

    Raises:
        ConversionError: a nested model, whose layers cannot be identified.
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
        for layer in self.plain.layers:  # set per layer: frozen layers stay frozen
            layer.trainable = True
        self.plain.set_weights(model.get_weights())
        self._calls = Calls(self.plain)
        self._pixels, self._method = pixels, method
        rounded = [call for call in self._calls.all if self._is_rounded(call)]
        norms = self._products()
        products = [_product_of(one.operation)(one.output) for one in norms]
        tensors = [*(call.output for call in rounded), *products]
        self._watched = self._keras.Model(self.plain.inputs[0], tensors)
        self._limits = self._keras.Variable(np.zeros((len(tensors), 2)), trainable=False)
        places: dict[int, int] = {}
        for number, call in enumerate(rounded):
            places[id(call.output)] = self._read_range(call, places, number)
        self._places = {call.operation.name: places[id(call.output)] for call in rounded}
        self.measure()
        fakes = dict(self._faked())
        of_norms = {id(one.output): i for i, one in enumerate(norms, len(rounded))}
        self._student = self._rounding(places, of_norms)
        self.variables: list[Any] = self._student.trainable_variables
        self._values = [
            fakes.get(one.path) or partial(getattr, one, "value") for one in self.variables
        ]

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of every rounded activation, by its layer."""
        limits = np.asarray(self._limits).tolist()
        return {name: (limits[at][0], limits[at][1]) for name, at in self._places.items()}

    def measure(self) -> None:
        """Measures the ranges on the calibration pictures again, as conversion will."""
        self._limits.assign(layer_ranges(self._watched, self._pixels, self._method))

    def logits(self, pictures: Any) -> Any:
        """``(N, classes)`` float32 of ``(N, H, W, C)`` float32 pictures, everything rounded."""
        # Weights are replaced for this call alone, so no layer needs a quantised class.
        trained = [value() for value in self._values]
        fixed = [variable.value for variable in self._student.non_trainable_variables]
        result, _ = self._student.stateless_call(trained, fixed, pictures, training=False)
        return result

    def _is_rounded(self, call: Call) -> bool:
        if call.kind in _UNROUNDED or (call.kind == "Activation" and is_linear(call.operation)):
            return False
        if not self._calls.ends(call):
            return False
        # Tensors between float operators are not rounded.
        readers = self._calls.readers(call)
        apart = {one.operation.name for one in self._calls.fused(call)}.isdisjoint(self._kept)
        return apart or not readers or any(r.operation.name not in self._kept for r in readers)

    def _read_range(self, call: Call, places: dict[int, int], own: int) -> int:
        """The index of the range of a call's output: its own, or its input's."""
        *_, first = self._calls.fused(call)
        before = self._calls.before(first) if first.kind in _SAME_STEPS else None
        while before is not None and id(before.output) not in places and before.kind in _UNROUNDED:
            before = self._calls.before(before)
        return places.get(id(before.output), own) if before else own

    def _products(self) -> list[Call]:
        """The calls of BatchNorms that become a product and a sum, each of which is rounded."""
        return [
            call
            for call in self._calls.all
            if call.kind == "BatchNormalization"
            and call.operation.name not in self._kept
            and not self._calls.folded(call.operation)
        ]

    def _rounding(self, places: dict[int, int], of_norms: dict[int, int]) -> Any:
        """The same layers, with rounding behind each output that becomes an 8-bit tensor."""
        order = iter(self._calls.all)

        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            result, key = operation(*args, **kwargs), id(next(order).output)
            if key in of_norms:
                result = _rounding_of(self._limits, of_norms[key], operation)(result)
            return _rounding_of(self._limits, places[key])(result) if key in places else result

        return self._keras.models.clone_model(
            self.plain, clone_function=lambda operation: operation, call_function=call
        )

    def _faked(self) -> Iterator[tuple[str, _Fake]]:
        """By the path of a variable, the value used in its place."""
        for layer in self.plain.layers:
            kind = type(layer).__name__
            if layer.name in self._kept:
                continue
            if kind == "BatchNormalization" and not self._calls.folded(layer):
                yield from _multiplied_and_added(layer)
            for variable in layer.trainable_variables if kind in _KERNELS else ():
                if variable.name.endswith("kernel"):
                    depthwise = kind == "DepthwiseConv2D" or variable.name == "depthwise_kernel"
                    rounded = _per_channel(variable, depthwise)
                    yield variable.path, rounded
                    yield from self._offset_apart(layer, variable, rounded)

    def _offset_apart(self, layer: Any, kernel: Any, rounded: _Fake) -> Iterator[tuple[str, _Fake]]:
        """The bias for an offset of pixels, computed with exact weights.

        The converter makes it a part of the bias before weights are rounded.
        """
        ops = self._keras.ops
        calls = [call for call in self._calls.all if call.operation is layer]
        offset = self._calls.added_before(calls[0]) if len(calls) == 1 else 0.0
        if not offset:
            return

        def missing() -> Any:
            axes = tuple(range(len(kernel.shape) - 1 - (type(layer).__name__ == "DepthwiseConv2D")))
            return ops.reshape(offset * ops.sum(kernel.value - rounded(), axis=axes), (-1,))

        norm = self._calls.folding(calls[0])
        if layer.bias is not None:
            yield layer.bias.path, lambda: layer.bias.value + missing()
        elif norm is not None and norm.operation.beta is not None:
            beta = norm.operation.beta
            yield beta.path, lambda: beta.value + missing() * _factor(norm.operation)


def _per_channel(variable: Any, depthwise: bool) -> _Fake:
    """A kernel rounded to symmetric 8-bit weights with a scale per output channel.

    Channels are the last axis, of a depthwise kernel ``(H, W, C, M)`` the last two together.
    """
    ops = require("keras").ops
    shape = tuple(variable.shape)
    flat = (*shape[:2], shape[2] * shape[3]) if depthwise else shape

    def fake() -> Any:
        weights = ops.reshape(variable.value, flat)
        return ops.reshape(_per_channel_steps(weights), shape)

    return fake


def _product_of(norm: Any) -> Any:
    """A layer that keeps only a BatchNorm's product, without its sum."""
    keras = require("keras")
    base: Any = keras.Operation

    class Product(base):  # type: ignore[misc]  # Keras has no types
        def call(self, value: Any) -> Any:
            return value - _summand(norm)

        def compute_output_spec(self, value: Any) -> Any:
            return keras.KerasTensor(value.shape, value.dtype)

    return Product()


def _rounding_of(limits: Any, place: int, norm: Any = None) -> Any:
    """A layer that rounds a tensor to 256 steps.

    Args:
        limits: a variable ``(T, 2)``, lowest and highest value of every tensor.
        place: the row of this tensor.
        norm: the BatchNorm that made it, whose product alone is rounded.
    """
    keras = require("keras")
    base: Any = keras.Operation

    class Rounding(base):  # type: ignore[misc]  # Keras has no types
        # Reads the variables at the call: they may be replaced for it.
        def call(self, value: Any) -> Any:
            low, high = limits.value[place, 0], limits.value[place, 1]
            summand = 0.0 if norm is None else _summand(norm)
            # A tensor that is always zero has no range; it stays zero.
            high = keras.ops.maximum(high, low + 1e-9)
            fake_quant = keras.quantizers.fake_quant_with_min_max_vars
            return fake_quant(value - summand, low, high) + summand

        def compute_output_spec(self, value: Any) -> Any:
            return keras.KerasTensor(value.shape, value.dtype)

    return Rounding()


def _summand(layer: Any) -> Any:
    """``(C,)``: what a BatchNorm adds to its product."""
    beta = 0.0 if layer.beta is None else layer.beta.value
    return beta - layer.moving_mean.value * _factor(layer)


def _factor(layer: Any) -> Any:
    """``(C,)``: what a BatchNorm multiplies with."""
    deviation = require("keras").ops.sqrt(layer.moving_variance.value + layer.epsilon)
    return (1.0 if layer.gamma is None else layer.gamma.value) / deviation


def _multiplied_and_added(layer: Any) -> Iterator[tuple[str, _Fake]]:
    """A BatchNorm that does not fold: a product and a sum with 8-bit constants, per tensor."""
    ops = require("keras").ops
    if layer.gamma is None or layer.beta is None:
        return

    def gamma() -> Any:
        deviation = ops.sqrt(layer.moving_variance.value + layer.epsilon)
        return _asymmetric(_factor(layer)) * deviation

    def beta() -> Any:
        factor, mean = _factor(layer), layer.moving_mean.value
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
