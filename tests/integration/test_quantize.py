"""The steps from a float network to an int8 one, on a network that plain int8 breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("tensorflow", reason="the extra [host] is not installed")

from edge_sdk.artifact.tflite import summarize
from edge_sdk.engines.litert import Probe
from edge_sdk.errors import ConversionError, CorruptArtifactError, EngineError
from host_tools.quantize.activations import Observed, layer_report, observe, ranges
from host_tools.quantize.convert import convert, float_graph
from host_tools.quantize.graph import Graph, append_softmax
from host_tools.quantize.int8 import (
    Treatment,
    correct_biases,
    equalize,
    equalized,
    quantize_int8,
    quantized,
    rounded,
    rounded_model,
)
from host_tools.repair.rungs import answers, divergence
from tests.integration.depthwise import made_hard, pictures_of, separable_network

pytestmark = pytest.mark.computes

_PLAIN = Treatment("minmax", equalized=False, corrected=False)


class Network(NamedTuple):
    """A float network that is hard for int8, with what is needed to convert it."""

    model: Any
    graph: Graph
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    calibration: NDArray[np.uint8]
    observed: dict[str, Observed]


@pytest.fixture(scope="module")
def network(digits: Path) -> Network:
    pixels, labels = pictures_of(digits)
    model = separable_network()
    made_hard(model)
    graph = float_graph(model)
    some = pixels[np.random.default_rng(0).permutation(len(pixels))[:100]]
    ends = np.stack([np.zeros_like(some[0]), np.full_like(some[0], 255)])
    calibration = np.concatenate([some, ends])
    return Network(model, graph, pixels, labels, calibration, observe(graph, calibration))


def _float(network: Network) -> NDArray[np.float32]:
    return answers(append_softmax(network.graph.pack()), network.pixels)


def _int8(network: Network, treatment: Treatment) -> bytes:
    return quantized(network.graph, network.observed, network.calibration, treatment)


def _lost(network: Network, treatment: Treatment) -> float:
    """Share of answers that changed."""
    scores = answers(_int8(network, treatment), network.pixels)
    return float((scores.argmax(axis=1) != _float(network).argmax(axis=1)).mean())


def test_operators_are_called_like_their_layers(network: Network) -> None:
    names = {operator.name: operator.kind for operator in network.graph.operators}
    assert names["first_depthwise"] == names["second_depthwise"] == "DEPTHWISE_CONV_2D"
    assert names["second_project"] == "CONV_2D"
    assert len(names) == len(network.graph.operators)


def test_the_graph_computes_what_keras_does(network: Network) -> None:
    keras = network.model.predict(network.pixels.astype(np.float32), verbose=0)
    np.testing.assert_allclose(_float(network), keras, atol=1e-5)


def test_a_hard_network_breaks_in_plain_int8_and_equalising_mends_it(network: Network) -> None:
    assert _lost(network, _PLAIN) > 0.1
    assert _lost(network, Treatment()) < 0.005


def test_equalising_keeps_the_function(network: Network) -> None:
    graph = Graph.copy_of(network.graph)
    assert len(equalize(graph, network.observed)) >= 3
    scores = answers(append_softmax(graph.pack()), network.pixels)
    np.testing.assert_allclose(scores, _float(network), atol=1e-4)
    peaks = observe(graph, network.calibration)["second_depthwise"].channel_peak
    before = network.observed["second_depthwise"].channel_peak
    assert before.max() / np.median(before) > 20
    assert peaks.max() / np.median(peaks) < 10


def test_equalising_tells_which_outputs_changed(network: Network) -> None:
    """The others are not looked at again."""
    graph = Graph.copy_of(network.graph)
    changed = equalize(graph, network.observed)
    after = observe(graph, network.calibration)
    moved = {
        name
        for name, seen in after.items()
        if not np.allclose(seen.mean, network.observed[name].mean, rtol=1e-3, atol=1e-3)
    }
    assert moved
    assert moved <= changed < after.keys()
    again = observe(graph, network.calibration, changed)
    assert again.keys() == changed
    for name, seen in again.items():
        np.testing.assert_array_equal(seen.mean, after[name].mean)
        np.testing.assert_array_equal(seen.channel_peak, after[name].channel_peak)


def test_corrected_biases_bring_the_means_back(network: Network) -> None:
    """With the weights rounded and nothing else, the means of the channels are nearer by far."""

    def rounded_weights(graph: Graph) -> dict[str, Observed]:
        for operator in graph.operators:
            weights = graph.constant(operator.inputs[1]) if len(operator.inputs) > 2 else None
            if weights is not None:
                graph.set_constant(operator.inputs[1], rounded(weights, operator.kind))
        return observe(graph, network.calibration)

    plain, corrected = Graph.copy_of(network.graph), Graph.copy_of(network.graph)
    assert correct_biases(corrected, network.observed) == 6
    before, after = rounded_weights(plain), rounded_weights(corrected)

    def off(seen: dict[str, Observed], name: str) -> float:
        wanted = network.observed[name].channel_mean
        return float(np.abs(seen[name].channel_mean - wanted).mean())

    # What is corrected is the mean before a ReLU, and each operator sees the errors of all before
    # it: exact it is nowhere, and where little was lost it may be a little worse.
    names = [operator.name for operator in network.graph.operators]
    assert sum(off(after, name) for name in names) < sum(off(before, name) for name in names) / 2
    assert off(after, "second_project") < off(before, "second_project") / 2


def _seen(model: Any) -> tuple[Graph, dict[str, Observed], NDArray[np.uint8]]:
    """The graph of a small classifier, what it computes on noise, and the noise."""
    side = model.inputs[0].shape[1]
    noise = np.random.default_rng(0).integers(0, 256, (12, side, side, 3), np.uint8)
    noise[-2:] = np.array([0, 255], np.uint8)[:, None, None, None]
    graph = float_graph(model)
    return graph, observe(graph, noise), noise


def _logits(graph: Graph, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    probe = Probe(graph.pack())
    rows = []
    for picture in pixels:
        probe.run(picture[np.newaxis].astype(np.float32))
        rows.append(probe.stored(graph.operators[-1].name)[0])
    return np.stack(rows)


def _classifier(body: Callable[[Any], Any]) -> Any:
    import keras

    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(image)
    x = keras.layers.Flatten()(body(x))
    return keras.Model(image, keras.layers.Dense(5, activation="softmax")(x))


def _used_twice(x: Any) -> Any:
    from keras import layers

    shared = layers.Conv2D(8, 3, padding="same", activation="relu", name="shared")
    return layers.GlobalAveragePooling2D()(shared(shared(x)))


def _mean_of_channels(x: Any) -> Any:
    import keras

    return keras.layers.Dense(8, activation="relu")(keras.ops.mean(x, axis=-1))


@pytest.mark.parametrize("body", [_used_twice, _mean_of_channels])
def test_what_cannot_be_equalised_is_left_alone(body: Callable[[Any], Any]) -> None:
    """A layer used twice has one set of weights; a mean over channels mixes them (8 of 8 x 8)."""
    graph, observed, noise = _seen(_classifier(body))
    equalised = Graph.copy_of(graph)
    equalize(equalised, observed)
    np.testing.assert_allclose(_logits(equalised, noise), _logits(graph, noise), rtol=1e-4)


def _separable(x: Any) -> Any:
    from keras import layers

    for _ in range(2):
        x = layers.SeparableConv2D(8, 3, padding="same", activation="relu")(x)
    return layers.GlobalAveragePooling2D()(x)


def test_a_bias_of_zeros_that_operators_share_is_corrected_for_each() -> None:
    graph, observed, _ = _seen(_classifier(_separable))
    together, biases = Graph.copy_of(graph), {}
    assert correct_biases(together, observed) == 5
    convolutions = [one for one in together.operators if "CONV" in one.kind]
    assert len({one.inputs[2] for one in convolutions}) == 5
    for one in convolutions:
        alone = Graph.copy_of(graph)
        others = [other.name for other in convolutions if other.name != one.name]
        assert correct_biases(alone, observed, others) == 1
        biases[one.name] = alone.constant(one.inputs[2])
        np.testing.assert_array_equal(together.constant(one.inputs[2]), biases[one.name])


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D"])
def test_a_corrected_bias_knows_the_zeros_beyond_the_border(
    kind: str, padding: str, strides: int
) -> None:
    """With the weights rounded and nothing else, the correction is exact."""
    import keras

    keras.utils.set_random_seed(2)
    width = (8, 3) if kind == "Conv2D" else (3,)
    image = keras.Input((4, 4, 3))
    x = getattr(keras.layers, kind)(
        *width, strides=strides, padding=padding, bias_initializer="ones", name="window"
    )(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    graph = float_graph(keras.Model(image, keras.layers.Dense(5, activation="softmax")(x)))
    noise = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
    observed = observe(graph, noise)
    (window,) = (one for one in graph.operators if one.name == "window")
    weights = graph.constant(window.inputs[1])
    assert weights is not None

    def mean_output(corrected: bool) -> NDArray[np.float64]:
        copy = Graph.copy_of(graph)
        if corrected:
            correct_biases(copy, observed)
        copy.set_constant(window.inputs[1], rounded(weights, window.kind))
        return observe(copy, noise)["window"].channel_mean

    wanted = observed["window"].channel_mean
    assert np.abs(mean_output(False) - wanted).max() > 1e-2
    np.testing.assert_allclose(mean_output(True), wanted, rtol=1e-5, atol=1e-3)


def test_the_bias_of_an_operator_in_float_is_its_own(network: Network) -> None:
    model = Graph.copy_of(network.graph)
    correct_biases(model, network.observed, ("second_project",))
    for one in network.graph.operators:
        if one.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            continue
        before, after = network.graph.constant(one.inputs[2]), model.constant(one.inputs[2])
        assert before is not None
        assert np.array_equal(before, after) == (one.name == "second_project")


def test_operators_kept_in_float_are_and_the_others_are_not(network: Network) -> None:
    flatbuffer = _int8(network, replace(_PLAIN, kept_float=("second_depthwise",)))
    probe = Probe(flatbuffer)
    assert "second_depthwise" not in probe.quantization
    assert "second_project" in probe.quantization
    pair = _int8(network, replace(_PLAIN, kept_float=("second_depthwise", "second_project")))
    plain = _int8(network, _PLAIN)
    reference = _float(network)
    # What is lost is lost between the two.
    assert divergence(reference, answers(pair, network.pixels)) < (
        divergence(reference, answers(plain, network.pixels)) / 4
    )


@pytest.mark.parametrize("io", ["uint8", "int8", "float32"])
def test_the_input_stores_what_was_asked_for(io: str, network: Network) -> None:
    flatbuffer = _int8(network, Treatment(io=io))
    (spec,) = summarize(flatbuffer, io).inputs
    assert spec.dtype == io
    uint8 = answers(_int8(network, Treatment()), network.pixels[:20])
    np.testing.assert_array_equal(answers(flatbuffer, network.pixels[:20]), uint8)


def test_white_is_not_cut_off_however_dark_the_calibration(network: Network) -> None:
    dark = network.calibration.copy()[:-2] // 4
    observed = observe(network.graph, np.concatenate([dark, network.calibration[-2:]]))
    flatbuffer = quantize_int8(network.graph.pack(), ranges(observed))
    (spec,) = summarize(flatbuffer, "dark").inputs
    assert spec.quantization is not None
    assert spec.quantization == (1.0, 0)


def test_the_layer_report_names_the_operator_that_breaks(network: Network) -> None:
    report = layer_report(network.graph, _int8(network, _PLAIN), network.pixels[:8])
    assert [layer.sqnr_db for layer in report] == sorted(layer.sqnr_db for layer in report)
    by_name = {layer.name: layer for layer in report}
    assert by_name["stem"].sqnr_db > by_name["second_project"].sqnr_db + 10
    strong = by_name["second_depthwise"]
    assert strong.high is not None
    assert strong.high >= strong.used_high > 50


def test_the_layer_report_counts_what_the_range_cuts_off() -> None:
    """The 6 of ReLU6 is stored at the end of the range, and nothing is lost."""
    from keras import layers

    def body(x: Any) -> Any:
        x = layers.Conv2D(8, 3, use_bias=False, name="six")(x)
        return layers.GlobalAveragePooling2D()(layers.ReLU(6.0)(x))

    graph, observed, noise = _seen(_classifier(body))
    assert observed["six"].highest.max() == 6
    narrow = {**ranges(observed), "stem": (0.0, float(observed["stem"].highest.max()) / 2)}
    flatbuffer = append_softmax(quantize_int8(graph.pack(), narrow))
    by_name = {layer.name: layer for layer in layer_report(graph, flatbuffer, noise)}
    assert by_name["six"].saturated == 0
    assert 0 < by_name["stem"].saturated < 1


def test_int4_weights_take_less_room_and_answer_much_the_same(network: Network) -> None:
    model = separable_network()  # made hard, 4 bits have nothing left for most channels
    int4, float32 = convert(model, "int4"), convert(model, "float32")
    assert len(int4) < len(float32)
    same = answers(int4, network.pixels).argmax(axis=1) == _float(network).argmax(axis=1)
    assert same.mean() > 0.8


def test_treatments_leave_their_arguments_alone(network: Network) -> None:
    before = network.graph.pack()
    limits = ranges(network.observed, "minmax")
    model, _ = equalized(network.graph, network.observed, network.calibration)
    rounded_model(network.graph, network.observed, limits, Treatment())
    assert network.graph.pack() == before
    assert model.pack() != before


def _ending_in(build: Callable[[Any, Any], Any]) -> Any:
    """A tiny network up to eight channels, and what the caller makes of them."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, build(keras, x), name="tiny")


def test_what_an_operator_takes_apart_keeps_its_range() -> None:
    def halves(keras: Any, x: Any) -> Any:
        first, second = keras.ops.split(x, 2, axis=-1)
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Concatenate()([second, first]))
        return keras.layers.Dense(3, activation="softmax")(x)

    model = _ending_in(halves)
    graph = float_graph(model)
    assert "SPLIT" in {one.kind for one in graph.operators}
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    pixels[-2], pixels[-1] = 0, 255
    noise = pixels[:-2]  # white is far off the others, and the range may cut it off
    integer = answers(convert(model, "int8", pixels), noise)
    assert np.abs(integer - answers(convert(model, "float32"), noise)).max() < 0.01
    with pytest.raises(ConversionError, match="is unknown"):
        quantize_int8(graph.pack(), {})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda keras, x: _classes(keras, x, nested=True), "'head', a nested model"),
        (
            lambda keras, x: keras.ops.softmax(_classes(keras, x)),
            r"the operation keras.ops.softmax .*write keras.layers.Softmax\(\)\(x\) instead",
        ),
        (
            lambda keras, x: 2 * keras.layers.Softmax()(_classes(keras, x)),
            "the operation keras.ops.multiply ",
        ),
    ],
    ids=["submodel", "operation", "something behind it"],
)
def test_a_softmax_that_is_no_last_layer_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(_ending_in(build), "float32")


def _classes(keras: Any, x: Any, nested: bool = False) -> Any:
    x = keras.layers.GlobalAveragePooling2D()(x)
    if not nested:
        return keras.layers.Dense(3)(x)
    inner = keras.Input(x.shape[1:])
    return keras.Model(inner, keras.layers.Dense(3, activation="softmax")(inner), name="head")(x)


def test_int8_without_pictures_is_an_error(network: Network) -> None:
    with pytest.raises(ConversionError, match="int8 needs calibration pictures; give --data"):
        convert(network.model, "int8")


def test_a_probe_refuses_what_is_no_model() -> None:
    with pytest.raises(CorruptArtifactError):
        Probe(b"no model at all")


def test_a_probe_says_when_a_picture_does_not_fit(network: Network) -> None:
    with pytest.raises(EngineError, match="inference failed"):
        Probe(network.graph.pack()).run(np.zeros((1, 8, 8, 3), np.float32))
