"""Grad-CAM: the parts of the last feature map that raise a class's logit (Selvaraju et al. 2017).

The only method here that uses the network's internals. It needs gradients, so a Keras model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ExplanationError
from host_tools.explain.heat import HeatMap
from host_tools.extras import require
from host_tools.predict import KerasPredictor

_INSTEAD = "use --method occlusion or --method shap, which need the answers alone"


class GradCam:
    """Grad-CAM of one model, for as many pictures as wanted.

    Args:
        scorer: the model; its weights are shared.

    Raises:
        ExplanationError: a network without a convolution, or one whose logits or last feature map
            cannot be found; Keras on another backend than TensorFlow.
    """

    def __init__(self, scorer: KerasPredictor) -> None:
        keras = require("keras")
        if keras.backend.backend() != "tensorflow":
            raise ExplanationError(
                f"grad-cam: Keras runs on {keras.backend.backend()} here, and gradients are taken by "
                "TensorFlow; set KERAS_BACKEND=tensorflow"
            )
        model, path = scorer.model, str(scorer.path)
        outputs = [_feature_map(keras, model, path), _logits(keras, model, path)]
        self._scorer = scorer
        self._network = keras.Model(model.inputs[0], outputs)

    def map(
        self,
        pixels: NDArray[np.uint8],
        class_index: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> HeatMap:
        """The weighted sum of the last feature map's channels, enlarged to the picture.

        A channel's weight is the mean gradient of the class's logit by it; sums below 0 are set to
        0, as in the paper, so no value is against the class.

        Args:
            pixels: ``(H, W, C)`` uint8 at the input size.
            class_index: of the class.
            clock: in seconds.
        """
        tf = require("tensorflow")
        started = clock()
        height, width = pixels.shape[:2]
        with tf.GradientTape() as tape:
            features, logits = self._network(
                self._scorer.encode(pixels[np.newaxis]), training=False
            )
            target = logits[:, class_index]
        gradients = tape.gradient(target, features)
        features, gradients = tf.cast(features, tf.float32), tf.cast(gradients, tf.float32)
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        coarse = tf.nn.relu(tf.reduce_sum(weights * features, axis=3, keepdims=True))
        values = tf.image.resize(coarse, (height, width))[0, :, :, 0].numpy()
        return HeatMap(values, 1, clock() - started)


def _feature_map(keras: Any, model: Any, path: str) -> Any:
    """The feature map nearest to the output that has several places and a convolution before it."""
    hidden = None
    for tensor in _backwards(model.outputs[0]):
        operation = _node(tensor).operation
        shape = tensor.shape
        if (
            len(shape) == 4
            and None not in shape[1:]
            and shape[1] * shape[2] > 1
            and any(_convolves(_node(before).operation) for before in _backwards(tensor))
        ):
            return tensor
        if isinstance(operation, keras.Model) and _convolves(operation):
            hidden = operation.name
    if hidden is not None:
        raise ExplanationError(
            f"{path}: grad-cam: its convolutions are within the sub-model {hidden!r}, which returns "
            f"no feature map; {_INSTEAD}"
        )
    raise ExplanationError(
        f"{path}: grad-cam needs a network with a convolution whose feature map has several places, "
        f"and this one has none; {_INSTEAD}"
    )


def _backwards(tensor: Any) -> Iterator[Any]:
    """A symbolic Keras tensor, then all it was computed from, the nearest first.

    By the history of tensors: a layer's own ``output`` may be that of another model it is part of.
    """
    waiting, seen = [tensor], {id(tensor)}
    for current in waiting:  # grows as it is passed through
        yield current
        for before in _node(current).input_tensors:
            if id(before) not in seen:
                seen.add(id(before))
                waiting.append(before)


def _node(tensor: Any) -> Any:
    operation, index, _ = tensor._keras_history  # Keras has no public API for it
    return operation._inbound_nodes[index]


def _convolves(operation: Any) -> bool:
    inner = getattr(operation, "layers", ())
    return "Conv" in type(operation).__name__ or any(_convolves(layer) for layer in inner)


def _logits(keras: Any, model: Any, path: str) -> Any:
    """The input of the final softmax."""
    node = _node(model.outputs[0])
    last, before = node.operation, node.input_tensors[0]
    softmax = keras.activations.softmax
    if isinstance(last, keras.layers.Softmax):
        return before
    if isinstance(last, keras.layers.Activation) and last.activation is softmax:
        return before
    if isinstance(last, keras.layers.Dense) and last.activation is softmax:
        head = keras.layers.Dense(last.units, use_bias=last.use_bias, dtype="float32")
        logits = head(before)
        head.set_weights(last.get_weights())
        return logits
    raise ExplanationError(
        f"{path}: grad-cam: its last layer is {type(last).__name__} {last.name!r}, expected a "
        f"softmax, whose logits are explained; {_INSTEAD}"
    )
