"""The objective of a training: loss, optimizer, learning rate, and distillation.

Keras computes batch normalisation as means, products and sums, each a pass over the whole feature map,
and as many for the gradient: a third of a small network's training time on a CPU. TensorFlow has a
fused operation with the same formula, and oneDNN a fast kernel for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_sdk.errors import RecipeError
from host_tools.extras import require
from host_tools.models import dtype_policy
from host_tools.recipe import Recipe, TrainingRecipe
from host_tools.third_party.keras import load_keras
from host_tools.train.stages import Stage


def fuse_batch_norm(model: Any) -> None:
    """Makes the batch normalisation of a model faster, with the same result.

    A saved model does not contain the change. Only float32 feature maps ``(N, H, W, C)`` with
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
    # Not every supported Keras version has renormalisation.
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


def compile_for(
    model: Any,
    training: TrainingRecipe,
    stage: Stage,
    steps_per_epoch: int,
    teacher: Any = None,
    steps_at_once: int = 1,
) -> Any:
    """Compiles a model for a stage.

    Args:
        model: a network, or the head of one.
        training, stage: loss, optimizer, schedule.
        steps_per_epoch: for the schedule.
        teacher: from ``load_teacher``.
        steps_at_once: that TensorFlow runs per Python call.

    Returns:
        The model to call ``fit`` on: the one given, or one that shares its layers and has a teacher.
    """
    fuse_batch_norm(model)
    if teacher is not None:
        fuse_batch_norm(teacher)
        model = _student(model, training, teacher)
    model.compile(
        optimizer=_optimizer(training, stage, steps_per_epoch),
        loss=_loss(training),
        metrics=["accuracy"],
        steps_per_execution=min(steps_at_once, steps_per_epoch),
        # TensorFlow with XLA was 25 % slower on two cores for small pictures; JAX needs it.
        jit_compile=require("keras").backend.backend() == "jax",
    )
    return model


def _loss(training: TrainingRecipe) -> Any:
    losses = require("keras").losses
    if training.loss == "focal":
        return losses.CategoricalFocalCrossentropy(
            alpha=1.0,  # classes are weighted by training.class_weights
            gamma=training.focal_gamma,
            from_logits=True,
            label_smoothing=training.label_smoothing,
        )
    return losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=training.label_smoothing
    )


def _optimizer(training: TrainingRecipe, stage: Stage, steps_per_epoch: int) -> Any:
    optimizers = require("keras").optimizers
    common: dict[str, Any] = {
        "learning_rate": _learning_rate(stage, steps_per_epoch),
        "weight_decay": training.weight_decay or None,
    }
    if training.ema:
        common |= {"use_ema": True, "ema_momentum": training.ema}
    if training.optimizer == "sgd":
        return optimizers.SGD(momentum=0.9, nesterov=True, **common)
    return {
        "adam": optimizers.Adam,
        "adamw": optimizers.AdamW,
        "rmsprop": optimizers.RMSprop,
    }[training.optimizer](**common)


def _learning_rate(stage: Stage, steps_per_epoch: int) -> Any:
    schedules = require("keras").optimizers.schedules
    steps, peak = steps_per_epoch * stage.epochs, stage.learning_rate
    if stage.schedule == "cosine":
        return schedules.CosineDecay(peak, steps)
    if stage.schedule == "one-cycle":
        warmup = max(1, steps // 4)
        return schedules.CosineDecay(
            peak / 25, max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
        )
    return peak


def plateau_rate(training: TrainingRecipe, peak: float, losses: Sequence[float]) -> float:
    """The learning rate after some epochs: lowered each time the validation loss stops improving.

    A function of the history alone, so that a resumed training continues with the same rate.

    Args:
        training: factor and patience.
        peak: the first rate.
        losses: validation loss of every epoch so far.
    """
    rate, best, waited = peak, float("inf"), 0
    for loss in losses:
        waited += 1
        if loss < best:
            best, waited = loss, 0
        elif waited >= training.plateau_patience:
            rate, waited = rate * training.plateau_factor, 0
    return rate


def load_teacher(recipe: Recipe, classes: int) -> Any:
    """The model to learn from, None where there is none.

    Raises:
        RecipeError: there is no such file, or it is not a classifier of such pictures.
        ConversionError: Keras does not load it.
    """
    if recipe.training.teacher == "none":
        return None
    path = Path(recipe.training.teacher)
    path = path / "model.keras" if path.is_dir() else path
    if not path.is_file():
        raise RecipeError(
            f"training.teacher: {path} is not a file; give a .keras model or a run directory"
        )
    teacher = load_keras(path)
    if teacher.outputs[0].shape[-1] != classes:
        raise RecipeError(
            f"training.teacher: {path} has {teacher.outputs[0].shape[-1]} classes, the data set "
            f"has {classes}; train it on the same classes"
        )
    channels = 3 if recipe.data.color == "rgb" else 1
    shape = teacher.inputs[0].shape
    if len(teacher.inputs) != 1 or len(shape) != 4 or shape[-1] != channels:
        raise RecipeError(
            f"training.teacher: {path} takes {tuple(shape)}, not pictures of {channels} channels"
        )
    if not _ends_in_softmax(teacher):
        raise RecipeError(
            f"training.teacher: {path} does not end in a softmax, so its outputs are not "
            "probabilities; add one and save it again"
        )
    teacher.trainable = False
    return teacher


def _ends_in_softmax(model: Any) -> bool:
    last = model.layers[-1]
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    return type(last).__name__ == "Softmax" or activation == "softmax"


def _student(model: Any, training: TrainingRecipe, teacher: Any) -> Any:
    """The same network with a second loss: distillation from the teacher (Hinton et al. 2015).

    The teacher gets the student's pixels, augmented and mixed, at the teacher's input size. Its
    answers are probabilities; their logarithms are its logits up to a constant, which softmax drops.
    """
    keras = require("keras")
    ops = keras.ops
    temperature, share = training.distillation_temperature, training.distillation_weight
    height, width = teacher.inputs[0].shape[1:3]

    class Student(keras.Model):  # type: ignore[misc, name-defined]  # Keras is untyped
        def compute_loss(
            self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
            training: bool = True,
        ) -> Any:  # fmt: skip
            own = super().compute_loss(x, y, y_pred, sample_weight, training=training)
            if not training:
                return own
            pixels = ops.cast(x, "float32")
            if tuple(pixels.shape[1:3]) != (height, width):
                pixels = ops.image.resize(pixels, (height, width), antialias=True)
            answers = ops.log(ops.clip(teacher(pixels, training=False), 1e-7, 1.0))
            softened = ops.softmax(answers / temperature)
            learnt = ops.log_softmax(ops.cast(y_pred, "float32") / temperature)
            distance = -ops.sum(softened * learnt, axis=-1)
            if sample_weight is not None:
                distance = distance * sample_weight
            # The gradient of softened answers shrinks with the temperature squared.
            return (1 - share) * own + share * temperature**2 * ops.mean(distance)

    with dtype_policy(training.precision):  # which also decides whether losses are scaled
        return Student(model.inputs, model.outputs, name=model.name)
