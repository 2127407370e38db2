"""Batch normalisation as one operation in training with TensorFlow, where Keras takes sixteen.

Keras composes it of means, products and sums, each a pass over the whole feature map, and as many
again for the gradient: a third of a small network's training on a processor. TensorFlow has an
operation of the same formula, and oneDNN a fast one.
"""

from __future__ import annotations

from typing import Any

from host_tools.extras import require


def fuse_batch_norm(model: Any) -> None:
    """Lets the batch normalisation of a model compute faster; what it computes stays.

    What is saved of the model does not know of it. Only float32 feature maps ``(N, H, W, C)`` with
    TensorFlow are concerned: JAX compiles what Keras composes.

    Args:
        model: a ``keras.Model``, before its first step.
    """
    keras = require("keras")
    if keras.backend.backend() != "tensorflow":
        return
    for layer in model.layers:
        if type(layer) is keras.layers.BatchNormalization and _fusible(layer):
            layer.call = _fused(layer)


def _fusible(layer: Any) -> bool:
    # Not every Keras of the range has renormalisation.
    special = layer.synchronized or getattr(layer, "renorm", False)
    learnt = layer.scale and layer.center
    return learnt and not special and layer.axis in (-1, 3) and layer.compute_dtype == "float32"


def _fused(layer: Any) -> Any:
    tf = require("tensorflow")
    composed = type(layer).call

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if mask is not None or len(inputs.shape) != 4:
            return composed(layer, inputs, training=training, mask=mask)
        by_batch = bool(training) and layer.trainable
        mean, variance = (
            ([], []) if by_batch else (layer.moving_mean.value, layer.moving_variance.value)
        )
        outputs, batch_mean, batch_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=layer.gamma.value,
            offset=layer.beta.value,
            mean=mean,
            variance=variance,
            epsilon=layer.epsilon,
            is_training=by_batch,
        )
        if by_batch:
            # The operation gives the unbiased variance, n / (n - 1) of the one Keras averages.
            count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], "float32")
            _follow(layer.moving_mean, batch_mean, layer.momentum)
            _follow(layer.moving_variance, batch_variance * ((count - 1) / count), layer.momentum)
        return outputs

    return call


def _follow(average: Any, value: Any, momentum: float) -> None:
    average.assign(average * momentum + value * (1 - momentum))
