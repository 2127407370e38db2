"""Fused batch normalisation: equal to Keras' operations, and not part of saved models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host_tools.extras import require

pytestmark = pytest.mark.computes

_STATISTICS = [
    np.linspace(0.5, 2, 6),  # gamma
    np.linspace(-1, 1, 6),  # beta
    np.linspace(-2, 2, 6),  # mean
    np.linspace(9, 30, 6),  # variance
]


@pytest.fixture(scope="module")
def keras() -> Any:
    pytest.importorskip("tensorflow", reason="the extra [host] is not installed")
    return require("keras")


def _network(keras: Any, *, learns: bool, **norm: Any) -> Any:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5, 4, 3))
    x = keras.layers.Conv2D(6, 3, name="conv")(inputs)
    layer = keras.layers.BatchNormalization(momentum=0.7, name="norm", **norm)
    x = layer(x)
    layer.trainable = learns
    layer.set_weights(_STATISTICS[-len(layer.get_weights()) :])
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))


def _fitted(keras: Any, network: Any, batch_size: int) -> list[Any]:
    """The weights after three epochs, and what the network answers then."""
    random = np.random.default_rng(0)
    inputs = random.normal(3, 4, (7, 5, 4, 3)).astype(np.float32)
    targets = random.normal(size=(7, 2)).astype(np.float32)
    network.compile(keras.optimizers.SGD(0.003), "mse")
    network.fit(inputs, targets, batch_size=batch_size, epochs=3, verbose=0, shuffle=False)
    return [*network.get_weights(), network.predict_on_batch(inputs)]


def _operations(network: Any) -> set[str]:
    """The kinds of operation in the network's training."""
    tf = require("tensorflow")
    shape = (2, *network.inputs[0].shape[1:])
    graph = tf.function(lambda x: network(x, training=True))
    found = graph.get_concrete_function(tf.TensorSpec(shape, tf.float32)).graph
    return {operation.type for operation in found.get_operations()}


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("batch_size", [4, 1])
def test_it_trains_and_answers_as_keras_does(learns: bool, batch_size: int, keras: Any) -> None:
    from host_tools.train.objective import fuse_batch_norm

    composed = _fitted(keras, _network(keras, learns=learns), batch_size)
    network = _network(keras, learns=learns)
    fuse_batch_norm(network)
    assert "FusedBatchNormV3" in _operations(network)
    fused = _fitted(keras, network, batch_size)
    untouched = _network(keras, learns=learns).get_weights()
    assert np.abs(fused[0] - untouched[0]).max() > 1e-3  # the convolution has learnt through it
    for one, other in zip(fused, composed, strict=True):
        assert np.isfinite(one).all()
        assert np.abs(one - other).max() < 1e-4


def test_one_pixel_and_one_picture_have_no_variance(keras: Any) -> None:
    from host_tools.train.objective import fuse_batch_norm

    answers = []
    for fuse in (False, True):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((1, 1, 3))
        network = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
        if fuse:
            fuse_batch_norm(network)
        picture = np.full((1, 1, 1, 3), 5, np.float32)
        answers.append([np.array(network(picture, training=True)), *network.get_weights()])
    for one, other in zip(*answers, strict=True):
        assert np.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "norm", [{"scale": False}, {"center": False}, {"axis": 1}, {"dtype": "mixed_float16"}], ids=str
)
def test_what_the_operation_does_not_compute_is_left_to_keras(
    norm: dict[str, Any], keras: Any
) -> None:
    from host_tools.train.objective import fuse_batch_norm

    inputs = keras.Input((4, 4, 3))
    network = keras.Model(inputs, keras.layers.BatchNormalization(**norm)(inputs))
    fuse_batch_norm(network)
    assert not {name for name in _operations(network) if "FusedBatchNorm" in name}


def test_features_and_a_layer_used_twice_train_as_ever(keras: Any) -> None:
    from host_tools.train.objective import fuse_batch_norm

    shared, flat = keras.layers.BatchNormalization(), keras.layers.BatchNormalization()
    inputs = keras.Input((4, 4, 3))
    features = keras.layers.GlobalAveragePooling2D()(shared(shared(inputs)))
    network = keras.Model(inputs, flat(features))
    fuse_batch_norm(network)
    pictures = np.random.default_rng(0).normal(3, 4, (8, 4, 4, 3)).astype(np.float32)
    answers = np.array(network(pictures, training=True))
    assert np.allclose(answers.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(answers.std(axis=0), 1, atol=0.1)


def test_what_is_saved_is_plain_keras(keras: Any, tmp_path: Path) -> None:
    from host_tools.third_party.keras import load_keras, save_keras
    from host_tools.train.objective import fuse_batch_norm

    network = _network(keras, learns=True)
    fuse_batch_norm(network)
    weights_and_answers = _fitted(keras, network, 4)
    save_keras(network, tmp_path / "model.keras")
    loaded = load_keras(tmp_path / "model.keras")
    assert "FusedBatchNormV3" not in _operations(loaded)
    for one, other in zip(loaded.get_weights(), weights_and_answers, strict=False):
        assert np.array_equal(one, other)
