"""``train``: fits a recipe's network to a data set, checkpointing every epoch."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import math
import sys
import time
from collections.abc import Callable
from typing import Any

from edge_sdk.errors import TrainingError
from edge_sdk.files import write_atomically
from host_tools.data.load import Dataset
from host_tools.extras import require
from host_tools.models import build_model, with_softmax
from host_tools.recipe import Recipe, TrainingRecipe, recipe_toml
from host_tools.run_directory import RunDirectory
from host_tools.train.batches import feature_batches, picture_batches, plain_batches
from host_tools.train.checkpoint import (
    Progress,
    load_checkpoint,
    model_arrays,
    save_checkpoint,
    set_model_arrays,
)
from host_tools.train.transfer import plain_features, split_network, training_features

# Small enough for the largest network, large enough not to matter.
_VALIDATION_BATCH = 64
_LOG = logging.getLogger("edgecls.train")

# From a 0-based epoch to its batches.
EpochBatches = Callable[[int], Any]


def train(recipe: Recipe, dataset: Dataset, run: RunDirectory, *, resume: bool = False) -> Progress:
    """Trains, restores the best weights, and writes model, recipe, labels and history.

    Nothing but the checkpoint is written before the end: a training that fails leaves what an
    earlier one left.

    Args:
        recipe: what to train.
        dataset: loaded with the recipe's preprocessing.
        run: where the results go.
        resume: go on from the run's checkpoint if it has one.

    Returns:
        The history, with the epoch whose weights were kept.

    Raises:
        TrainingError: the loss became NaN, or the checkpoint does not fit.
        KeyboardInterrupt: interrupted; the message says how to go on.
    """
    keras = require("keras")
    keras.utils.set_random_seed(recipe.training.seed)
    classes = len(dataset.classes)
    network = build_model(recipe, classes)
    started = time.perf_counter()
    model, batches, held_out = _material(network, dataset, recipe)
    preparing_s = time.perf_counter() - started
    steps = len(batches(0))
    model.compile(
        optimizer=_optimizer(keras, recipe.training, steps),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.training.label_smoothing
        ),
        metrics=["accuracy"],
        jit_compile=False,  # XLA on two cores was 25 % slower for small pictures
    )
    pictures = dataset.split_fingerprint("train") + dataset.split_fingerprint("validation")
    identity = hashlib.sha256((recipe_toml(recipe) + pictures).encode()).hexdigest()
    progress, best = Progress(identity), model_arrays(model)
    if resume and run.checkpoint.exists():
        best, progress = load_checkpoint(run.checkpoint, model, identity)
        _LOG.info("going on after epoch %d", progress.epochs_done)
    progress.seconds += preparing_s
    try:
        while not _finished(recipe.training, progress):
            epoch = progress.epochs_done
            started = time.perf_counter()
            # One call per epoch: Keras looks into the next epoch's pictures before the last is done.
            logs = model.fit(
                batches(epoch),
                validation_data=held_out,
                initial_epoch=epoch,
                epochs=epoch + 1,
                callbacks=[_watch(keras, recipe.training, epoch, steps)],
                shuffle=False,  # the batches are; Keras would draw their order from a global state
                verbose=0,
            ).history
            row = {"epoch": epoch + 1} | {key: float(values[-1]) for key, values in logs.items()}
            row["learning_rate"] = float(model.optimizer.learning_rate)
            row["seconds"] = time.perf_counter() - started
            if not math.isfinite(row.get("val_loss", 0.0)):
                raise TrainingError(
                    f"the validation loss became {row['val_loss']} in epoch {epoch + 1}; lower "
                    "training.learning_rate (the epochs before it are kept in the checkpoint)"
                )
            best = _keep_best(progress, row, model, best)
            save_checkpoint(run.checkpoint, model, best, progress)
            _report_epoch(row, recipe.training.epochs, progress)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"{progress.epochs_done} of {recipe.training.epochs} epochs are done and kept in "
            f"{run.path}; the same command with --resume goes on from there (demo: without)."
        ) from interrupt
    set_model_arrays(model, best)
    run.write_description(recipe, dataset.classes)
    _save_keras(with_softmax(network), run)
    write_atomically(run.history, _history_csv(progress))
    progress.finished = True
    save_checkpoint(run.checkpoint, model, best, progress)
    return progress


def _material(network: Any, dataset: Dataset, recipe: Recipe) -> tuple[Any, EpochBatches, Any]:
    """What is trained, on what, and what it is validated on while training (None: nothing)."""
    classes = len(dataset.classes)
    subset, validation = dataset.splits["train"], dataset.splits["validation"]
    if recipe.model.trainable == "head":
        base, model = split_network(network)
        features = training_features(base, subset, recipe)
        held_out: Any = plain_features(base, validation) if len(validation) else None

        def batches(epoch: int) -> Any:
            return feature_batches(features, subset.labels, recipe, classes, epoch)
    else:
        model, held_out = network, validation.pixels if len(validation) else None

        def batches(epoch: int) -> Any:
            return picture_batches(subset, recipe, classes, epoch)

    if held_out is not None:
        held_out = plain_batches(held_out, validation.labels, classes, _VALIDATION_BATCH)
    return model, batches, held_out


def _finished(training: TrainingRecipe, progress: Progress) -> bool:
    """No epoch is left, or patience is used up."""
    waited = progress.epochs_done - 1 - progress.best_epoch
    impatient = 0 < training.patience <= waited and progress.best_epoch >= 0
    return progress.epochs_done >= training.epochs or impatient


def _keep_best(progress: Progress, row: dict[str, float], model: Any, best: list[Any]) -> list[Any]:
    """Enters a finished epoch into the progress; returns the best weights so far."""
    progress.history.append(row)
    progress.epochs_done += 1
    progress.seconds += row["seconds"]
    # Without a validation split nothing can be chosen: the last weights are kept.
    loss = row.get("val_loss", -float(progress.epochs_done))
    if loss >= progress.best_loss:
        return best
    progress.best_loss, progress.best_epoch = loss, progress.epochs_done - 1
    return model_arrays(model)


def _watch(keras: Any, training: TrainingRecipe, epoch: int, steps: int) -> Any:
    """The callback that shows how far an epoch is, and stops where the loss is no number."""

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
            self.bar = require("tqdm").tqdm(
                desc=f"epoch {epoch + 1}/{training.epochs}",
                total=steps,
                unit=" steps",
                leave=False,
                file=sys.stderr,
                disable=not sys.stderr.isatty(),
            )

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if not math.isfinite(logs["loss"]):
                raise TrainingError(
                    f"the loss became {logs['loss']} in epoch {epoch + 1}, step {batch + 1}; lower "
                    "training.learning_rate (the epochs before it are kept in the checkpoint)"
                )
            self.bar.update(1)

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
            self.bar.close()

    return Watch()


def _optimizer(keras: Any, training: TrainingRecipe, steps_per_epoch: int) -> Any:
    steps = steps_per_epoch * training.epochs
    rate: Any = training.learning_rate
    if training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(training.learning_rate, steps)
    elif training.schedule == "one-cycle":
        warmup = max(1, steps // 4)
        rate = keras.optimizers.schedules.CosineDecay(
            training.learning_rate / 25,
            max(1, steps - warmup),
            warmup_target=training.learning_rate,
            warmup_steps=warmup,
        )
    decay = training.weight_decay or None
    if training.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)
    return keras.optimizers.Adam(rate, weight_decay=decay)


def _report_epoch(row: dict[str, float], epochs: int, progress: Progress) -> None:
    text = (
        f"epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}"
    )
    if "val_accuracy" in row:
        text += f"  validation {row['val_accuracy']:.4f}"
    left = (epochs - progress.epochs_done) * row["seconds"]
    print(f"{text}  {row['seconds']:.1f} s, at most {left:.0f} s left", file=sys.stderr)  # noqa: T201


def _save_keras(model: Any, run: RunDirectory) -> None:
    # Keras writes to a path only; the rename makes it all or nothing.
    unfinished = run.path / ".model.unfinished.keras"
    try:
        model.save(unfinished)
        write_atomically(run.model, unfinished.read_bytes())
    finally:
        unfinished.unlink(missing_ok=True)


def _history_csv(progress: Progress) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(progress.history[0]) if progress.history else ["epoch"])
    writer.writeheader()
    writer.writerows(progress.history)
    return text.getvalue()
