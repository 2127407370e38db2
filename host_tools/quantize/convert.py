"""Keras to ``.tflite`` by TensorFlow's converter and LiteRT Quantizer, or to ``.onnx``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConversionError
from host_tools.extras import muted, require
from host_tools.progress import working
from host_tools.quantize.activations import observe
from host_tools.quantize.graph import Graph, append_softmax
from host_tools.quantize.int8 import Treatment, quantized, weights_int4
from host_tools.quantize.onnx import FORMATS as ONNX_FORMATS
from host_tools.quantize.onnx import to_onnx
from host_tools.quantize.trial import tried
from host_tools.third_party.keras import input_shape


def convert(
    model: Any,
    format_: str,
    calibration: NDArray[np.uint8] | None = None,
    io: str = "uint8",
) -> bytes:
    """Converts a Keras classifier.

    Args:
        model: a ``keras.Model`` from ``(N, H, W, C)`` RGB 0..255 to probabilities, ending in a
            softmax.
        format_: ``float32``, ``float16``, ``dynamic``, ``int8``, ``int16x8`` or ``int4`` (weights
            alone); ``onnx`` (float32) or ``onnx-int8``.
        calibration: ``(N, H, W, C)`` uint8 pictures, the last two black and white; needed for int8,
            int16x8 and onnx-int8.
        io: what the input of an int8 model stores.

    Returns:
        A model file with one input ``(1, H, W, C)``, float32 but for int8, and one output, float32
        probabilities ``(1, classes)``. The softmax is float in every format: an 8-bit one cannot
        represent small probabilities.

    Raises:
        ConversionError: the model has no softmax at its end, weights that are not numbers, or an
            operator TensorFlow Lite lacks; or the result cannot be run, see ``tried``.
    """
    return tried(_made(model, format_, calibration, io), format_)


def _made(model: Any, format_: str, calibration: NDArray[np.uint8] | None, io: str) -> bytes:
    if format_ in ("int8", "int16x8", "onnx-int8") and calibration is None:
        raise ConversionError(f"{format_} needs calibration pictures; give --data DIR")
    if format_ == "int8":
        assert calibration is not None
        graph = float_graph(model)
        return quantized(graph, observe(graph, calibration), calibration, Treatment(io=io))
    if format_ in ONNX_FORMATS:
        _check_weights(model)
        return to_onnx(_logits_model(model), calibration if format_ == "onnx-int8" else None)
    if format_ == "int4":
        return append_softmax(weights_int4(float_graph(model).pack()))
    return append_softmax(_converted(model, format_, calibration))


def float_graph(model: Any) -> Graph:
    """A Keras classifier in float32 up to its logits; argument and errors as of ``convert``."""
    return Graph(_converted(model, "float32", None))


def _converted(model: Any, format_: str, calibration: NDArray[np.uint8] | None) -> bytes:
    _check_weights(model)
    tf = require("tensorflow")
    logits = _logits_model(model)
    converter = tf.lite.TFLiteConverter.from_keras_model(logits)
    if format_ != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if format_ == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if format_ == "dynamic":
        # tflite-runtime 2.14, all that 32-bit boards have, cannot load the per-channel kind.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    if calibration is not None and format_ == "int16x8":
        converter.representative_dataset = lambda: _samples(calibration)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    try:
        with working(f"converting to {format_}"), warnings.catch_warnings(), muted():
            warnings.simplefilter("ignore")
            flatbuffer: bytes = converter.convert()
    except (ValueError, RuntimeError, _converter_error()) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConversionError(
            f"TensorFlow Lite cannot express the model in {format_}: {reason}"
        ) from error
    return flatbuffer


def _logits_model(model: Any) -> Any:
    """The model for a batch of one, up to the logits; its weights are shared.

    It gets fixed names, since Keras would number them, and the names are written to the file.
    """
    keras = require("keras")
    height, width, channels = input_shape(model)
    last = _last_layer(model)
    fixed = keras.Input(batch_shape=(1, height, width, channels), name="image")
    if isinstance(last, keras.layers.Softmax) or _is_softmax_activation(keras, last):
        body = keras.Model(model.inputs, last.input, name="body")
        return keras.Model(fixed, body(fixed), name="logits")
    if isinstance(last, keras.layers.Dense) and last.activation is keras.activations.softmax:
        body = keras.Model(model.inputs, last.input, name="body")
        head = keras.layers.Dense(last.units, use_bias=last.use_bias, name=f"{last.name}_logits")
        logits = keras.Model(fixed, head(body(fixed)), name="logits")
        head.set_weights(last.get_weights())
        return logits
    raise ConversionError(
        f"{model.name}: its last layer is {type(last).__name__} {last.name!r}, expected a softmax; "
        "add keras.layers.Softmax() and save it again"
    )


def _last_layer(model: Any) -> Any:
    """The layer that makes the model's output."""
    keras = require("keras")
    last = model.outputs[0]._keras_history.operation  # Keras has no public API for it
    kind = type(last).__name__
    if isinstance(last, keras.Model):
        raise ConversionError(
            f"{model.name}: ends in {last.name!r}, a nested model, expected layers up to a softmax; "
            "call that model's layers one by one where the network is built, and save it again"
        )
    if not isinstance(last, keras.layers.Layer):
        raise ConversionError(
            f"{model.name}: ends in the operation keras.ops.{last.name.rstrip('_0123456789')} "
            f"({kind}), expected a softmax that is a layer; write keras.layers.Softmax()(x) instead of "
            "keras.ops.softmax(x) and save it again"
        )
    return last


def _is_softmax_activation(keras: Any, layer: Any) -> bool:
    return (
        isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.softmax
    )


def _check_weights(model: Any) -> None:
    for variable in model.weights:
        if not np.isfinite(np.asarray(variable)).all():
            raise ConversionError(
                f"{model.name}: weights of {variable.path} are not finite numbers; the training "
                "diverged, train again with a lower learning rate"
            )


def _converter_error() -> type[Exception]:
    """The exception with MLIR's diagnostics; TensorFlow does not export it."""
    error: type[Exception] = require("tensorflow.lite.python.convert_phase").ConverterError
    return error


def _samples(calibration: NDArray[np.uint8]) -> Iterator[list[NDArray[np.float32]]]:
    for pixels in calibration:
        yield [pixels[np.newaxis].astype(np.float32)]
