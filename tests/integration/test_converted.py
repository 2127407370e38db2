"""Converted models run before they are handed over; channels get the size that their reader wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("tensorflow", reason="the extra [host] is not installed")

from edge_sdk.errors import ConversionError
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.package import Description, write_artifact
from host_tools.quantize.activations import observe
from host_tools.quantize.convert import convert, float_graph
from host_tools.quantize.int8 import equalize
from host_tools.repair.rungs import answers
from host_tools.tflite import pack_model, unpack_model


def _pixels() -> NDArray[np.uint8]:
    """Noise, then black and white."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    pixels[-2], pixels[-1] = 0, 255
    return pixels


def _ending_in(build: Callable[[Any, Any], Any]) -> Any:
    """A tiny network up to eight channels, and what the caller makes of them."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, build(keras, x), name="tiny")


def _pooled(keras: Any, x: Any) -> Any:
    return keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))


def _padded_with_minus_infinity(keras: Any, x: Any) -> Any:
    around = [[0, 0], [1, 1], [1, 1], [0, 0]]
    x = keras.ops.pad(x, around, constant_values=float("-inf"))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.MaxPooling2D(3, 2)(x))
    return keras.layers.Dense(3, activation="softmax")(x)


def test_padding_with_minus_infinity_does_not_stretch_the_range() -> None:
    model = _ending_in(_padded_with_minus_infinity)
    assert "PADV2" in {one.kind for one in float_graph(model).operators}
    pixels = _pixels()
    noise = pixels[:-2]
    integer = answers(convert(model, "int8", pixels), noise)
    assert np.abs(integer - answers(convert(model, "float32"), noise)).max() < 0.01


@pytest.mark.parametrize(
    ("format_", "named"), [("int16x8", "PADV2"), ("onnx-int8", "out of computation range")]
)
def test_what_no_runtime_can_run_is_not_handed_over(format_: str, named: str) -> None:
    model = _ending_in(_padded_with_minus_infinity)
    pixels = _pixels()
    with pytest.raises(ConversionError) as caught:
        convert(model, format_, pixels)
    message = str(caught.value)
    assert message.startswith(f"the model was converted to {format_}, but the result cannot be run")
    assert named in message
    assert message.endswith("choose another --format")


def test_an_artifact_that_answers_nan_is_not_written(tmp_path: Path) -> None:
    broken = unpack_model(convert(_ending_in(_pooled), "float32"))
    for buffer in broken.buffers:
        if buffer.data is not None and len(buffer.data) >= 96:  # the weights of the dense layer
            buffer.data = np.full(len(buffer.data) // 4, np.nan, np.float32).view(np.uint8)
    path = tmp_path / "broken.tflite"
    how = Preprocessing(8, 8)
    with pytest.raises(ConversionError, match="values that are not finite numbers"):
        write_artifact(
            path, pack_model(broken), Description("any", "", "float32", ("a", "b", "c"), how, {})
        )
    assert not path.exists()


@pytest.mark.parametrize("reader", ["depthwise", "pointwise"])
def test_equalising_gives_each_channel_the_size_that_its_reader_wants(reader: str) -> None:
    """Before a depthwise layer, whose channels have scales of their own, all peaks become one.

    Before any other layer a peak and the weights that read it share the burden: the peak becomes
    proportional to the root of peak times weight.
    """

    def build(keras: Any, x: Any) -> Any:
        last = (
            keras.layers.DepthwiseConv2D(3, name="reader")
            if reader == "depthwise"
            else keras.layers.Conv2D(5, 1, name="reader")
        )
        return _pooled(keras, last(x))

    model = _ending_in(build)
    producer = next(layer for layer in model.layers if type(layer).__name__ == "Conv2D")
    kernel, bias = producer.get_weights()
    sizes = np.array([1, 30, 0.2, 5, 1, 1, 8, 0.5], np.float32)
    producer.set_weights([kernel * sizes, bias + 0.1 * sizes])
    pixels = _pixels()
    graph = float_graph(model)
    first, second = [one for one in graph.operators if "CONV" in one.kind]
    weights = graph.constant(second.inputs[1])
    assert weights is not None
    read = np.abs(weights).reshape(-1, weights.shape[-1]).max(axis=0)
    observed = observe(graph, pixels)
    before = observed[first.name].channel_peak
    assert before.max() > 20 * before.min() > 0
    assert first.name in equalize(graph, observed)
    after = observe(graph, pixels)[first.name].channel_peak
    wanted = np.ones_like(before) if reader == "depthwise" else np.sqrt(before * read)
    shares = after / wanted
    assert np.allclose(shares, shares.mean(), rtol=1e-3)
