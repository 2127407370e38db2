"""``train``: fits a recipe's network to a data set, stage by stage, checkpointing every epoch.

Python raises ``KeyboardInterrupt`` at any instruction. Within a destructor it prints the exception and
drops it, and TensorFlow's iterators have slow destructors at the end of every epoch. So a lost
Ctrl-C is recorded and raised again.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import logging
import math
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edge_sdk.errors import TrainingError, WriteError
from edge_sdk.files import write_atomically
from host_tools.data.load import Dataset
from host_tools.extras import muted, require
from host_tools.models import build_model, with_softmax
from host_tools.models.head import set_trainable
from host_tools.progress import Meter
from host_tools.recipe import Recipe, TrainingRecipe, recipe_toml
from host_tools.run_directory import RunDirectory
from host_tools.third_party.keras import save_keras
from host_tools.train.batches import Material, material_for
from host_tools.train.checkpoint import (
    Arrays,
    Saved,
    TrainingProgress,
    averaged_weights,
    model_arrays,
    read_checkpoint,
    restore,
    save_checkpoint,
    set_model_arrays,
)
from host_tools.train.distributed import ALONE, Team, check_agreement
from host_tools.train.objective import compile_for, load_teacher, plateau_rate
from host_tools.train.stages import Stage, stages_of


@contextlib.contextmanager
def interrupt_kept() -> Iterator[Callable[[], None]]:
    """Records Ctrl-C while it is open.

    Yields:
        A function that raises ``KeyboardInterrupt`` if one was lost. It does nothing outside of the
        main thread, and where another handler is installed.
    """
    interrupted = False

    def handle(_number: int, _frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    def check() -> None:
        if interrupted:
            raise KeyboardInterrupt

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, handle)
    try:
        yield check
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


Row = dict[str, float]


class EpochLogs:
    """Writes each epoch's figures as they come.

    A resumed training rewrites its whole history, so that no epoch is listed twice.

    Args:
        folder: for both; earlier events in it are removed.
        history: the epochs that are done already.

    Raises:
        WriteError: the folder cannot be written.
    """

    def __init__(self, folder: Path, history: Sequence[Row]) -> None:
        self._folder = folder
        self._history: list[Row] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
        except OSError as error:
            raise WriteError(f"{folder}: cannot be written ({error.strerror or error})") from error
        self._tf: Any = require("tensorflow")
        with muted():
            self._events: Any = self._tf.summary.create_file_writer(str(folder))
        for row in history:
            self._enter(row)

    def add(self, row: Row) -> None:
        """Enters a finished epoch.

        Raises:
            WriteError: the disk is full.
        """
        self._enter(row)
        self._events.flush()
        write_atomically(self._folder / "history.csv", history_csv(self._history))

    def close(self) -> None:
        """Ends the events file."""
        self._events.close()

    def _enter(self, row: Row) -> None:
        self._history.append(row)
        # tf.summary.scalar needs TensorBoard installed; the protocol buffer it writes does not.
        proto = self._tf.compat.v1.Summary
        values = [
            proto.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name != "epoch"
        ]
        with self._events.as_default(step=int(row["epoch"])):
            summary = proto(value=values).SerializeToString()
            self._tf.summary.experimental.write_raw_pb(summary)


def history_csv(history: Sequence[Row]) -> str:
    """A line per epoch, under the names of the figures."""
    names = list(dict.fromkeys(name for row in history for name in row)) or ["epoch"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


class NotANumber(Exception):  # noqa: N818  # internal: training turns it into a TrainingError
    """The loss became NaN or infinite; the message names the epoch and step."""


def check_validation(row: dict[str, float]) -> None:
    """Stops after an epoch whose validation loss is NaN or infinite.

    Raises:
        NotANumber: it is NaN or infinite.
    """
    if not math.isfinite(row["val_loss"]):
        raise NotANumber(
            f"the validation loss became {row['val_loss']} in epoch {row['epoch']:.0f}"
        )


def watch(
    epoch: int, epochs: int, steps: int, *, averaged: bool, each_step: Callable[[], None]
) -> Any:
    """A ``keras.callbacks.Callback`` for one epoch.

    Args:
        epoch: 0-based.
        epochs: of the whole training.
        steps: of this epoch.
        averaged: whether the optimizer keeps averages of the weights. Keras puts them in place of
            the weights when ``fit`` ends; the next epoch must continue from the weights themselves.
        each_step: called after each step; an exception from it ends the epoch.
    """
    keras = require("keras")

    class Watch(keras.callbacks.Callback):  # type: ignore[misc, name-defined]  # Keras is untyped
        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
            self.meter = Meter(f"epoch {epoch + 1}/{epochs}, steps", steps)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if not math.isfinite(logs["loss"]):
                raise NotANumber(
                    f"the loss became {logs['loss']} in epoch {epoch + 1}, step {batch + 1}"
                )
            self.meter.advance(batch + 1 - self.meter.done)  # several steps at once, for a head
            each_step()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.own = [np.array(v) for v in self.model.trainable_variables] if averaged else []

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
            self.meter.close()
            if averaged:
                for variable, value in zip(self.model.trainable_variables, self.own, strict=True):
                    variable.assign(value)

    return Watch()


def watch_validation(epoch: int, epochs: int, steps: int) -> Any:
    """A ``keras.callbacks.Callback`` that shows how far the validation of a 0-based epoch is."""
    keras = require("keras")

    class WatchValidation(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
            self.meter = Meter(f"epoch {epoch + 1}/{epochs}, validation steps", steps)

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.meter.advance(batch + 1 - self.meter.done)

        def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002
            self.meter.close()

    return WatchValidation()


_LOG = logging.getLogger("edgecls.train")


def train(
    recipe: Recipe,
    dataset: Dataset,
    run: RunDirectory,
    *,
    resume: bool = False,
    team: Team = ALONE,
) -> TrainingProgress:
    """Trains, restores the best weights, and writes model, recipe, labels and history.

    Nothing but the checkpoint and the logs is written before the end: a training that fails leaves
    what an earlier one left.

    Args:
        recipe: what to train.
        dataset: loaded with the recipe's preprocessing.
        run: where the results go.
        resume: continue from the run's checkpoint if it has one.
        team: the processes that train together; process 0 writes the run directory.

    Returns:
        The history, with the epoch whose weights were kept.

    Raises:
        TrainingError: the loss became NaN, the checkpoint does not fit, the processes of a team do
            not train the same, or their devices cannot share a batch evenly.
        KeyboardInterrupt: interrupted; the message names the command to resume.
    """
    for stage in stages_of(recipe):
        team.check_batch(stage.batch_size)
    pictures = dataset.split_fingerprint("train") + dataset.split_fingerprint("validation")
    identity = hashlib.sha256((recipe_toml(recipe) + pictures).encode()).hexdigest()
    saved = None
    if resume and run.checkpoint.exists():
        saved = read_checkpoint(run.checkpoint, identity)
        _LOG.info("resuming after epoch %d", saved.progress.epochs_done)
    progress = saved.progress if saved else TrainingProgress(identity)
    check_agreement(team, f"{identity} {progress.epochs_done} {progress.stage}")
    with _own_run(run, team) as own, interrupt_kept() as check_interrupt:
        logs = EpochLogs(own.logs, progress.history)
        training = _Training(recipe, dataset, own, progress, logs, team, check_interrupt)
        try:
            trained = training.all_stages(saved)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(
                f"{progress.epochs_done} of {recipe.training.epochs} epochs are done and kept in "
                f"{run.path}; the same command with --resume continues from there (demo: without)."
            ) from interrupt
        finally:
            training.logs.close()
        _compare_weights(trained.network, team)
        own.write_description(recipe, dataset.classes)
        save_keras(with_softmax(trained.network), own.model)
        write_atomically(own.history, history_csv(progress.history))
        own.last_good.unlink(missing_ok=True)  # of an attempt before
        progress.finished = True
        save_checkpoint(own.checkpoint, trained.model, trained.best, progress)
    return progress


@contextlib.contextmanager
def _own_run(run: RunDirectory, team: Team) -> Iterator[RunDirectory]:
    """The run directory of process 0; the others get a temporary one that is deleted."""
    if team.rank == 0:
        yield run
        return
    with tempfile.TemporaryDirectory(prefix="edgecls-") as folder:
        yield RunDirectory(Path(folder))


def _compare_weights(network: Any, team: Team) -> None:
    """Checks that all processes of a team have the same weights, and prints their digest."""
    if team.size == 1:
        return
    digest = hashlib.sha256(b"".join(array.tobytes() for array in model_arrays(network)))
    check_agreement(team, digest.hexdigest())
    text = f"process {team.rank} of {team.size}: weights {digest.hexdigest()[:16]}, as the others'"
    print(text, file=sys.stderr)  # noqa: T201


class _Trained(NamedTuple):
    """A network with the best weights; the model that was trained, and the weights alone."""

    network: Any
    model: Any
    best: Arrays


@dataclass(frozen=True, slots=True, eq=False)
class _Training:
    """The state shared by all stages of one training."""

    recipe: Recipe
    dataset: Dataset
    run: RunDirectory
    progress: TrainingProgress
    logs: EpochLogs
    team: Team
    check_interrupt: Callable[[], None]

    def all_stages(self, saved: Saved | None) -> _Trained:
        """Trains every stage that is not done yet, each from the best weights of the one before."""
        recipe, classes = self.recipe, len(self.dataset.classes)
        teacher = load_teacher(recipe, classes)
        trained, shown = None, (0, 0)
        for stage in stages_of(recipe):
            if stage.number < self.progress.stage:
                continue
            require("keras").utils.set_random_seed(recipe.training.seed + stage.number)
            size = (stage.width, stage.height)
            precision = recipe.training.precision
            network = build_model(recipe, classes, size=size, precision=precision)
            set_trainable(network, recipe.model, stage.trainable)
            if trained is not None:
                set_model_arrays(network, model_arrays(trained.network))
                self.progress.begin_stage(stage.number, same_input=size == shown)
            model, best = self._train(network, stage, teacher, saved)
            trained, shown, saved = _Trained(network, model, best), size, None
        assert trained is not None  # a recipe has at least one stage
        return trained._replace(network=self._in_float32(trained.network))

    def _in_float32(self, network: Any) -> Any:
        """The network itself, or one with its weights that computes in float32."""
        if self.recipe.training.precision == "float32":
            return network
        height, width = network.inputs[0].shape[1:3]
        plain = build_model(self.recipe, len(self.dataset.classes), size=(width, height))
        set_model_arrays(plain, model_arrays(network))
        return plain

    def _train(
        self, network: Any, stage: Stage, teacher: Any, saved: Saved | None
    ) -> tuple[Any, Arrays]:
        """Trains one stage; leaves the network with its best weights."""
        training, progress = self.recipe.training, self.progress
        started = time.perf_counter()
        dataset = self.dataset.resized(stage.width, stage.height)
        material = material_for(network, dataset, self.recipe, stage, self.team)
        steps = len(material.batches(0))
        model = compile_for(material.model, training, stage, steps, teacher, material.steps_at_once)
        best = model_arrays(model)
        if saved is not None:
            restore(model, saved)
            best = saved.best
        progress.seconds += time.perf_counter() - started
        try:
            while not _finished(training, stage, progress):
                row = self._epoch(model, material, stage)
                best = _keep_best(progress, row, model, best, averaged=bool(training.ema))
                save_checkpoint(self.run.checkpoint, model, best, progress)
                self.logs.add(row)
                _report_epoch(row, training.epochs, progress)
                self.check_interrupt()
        except NotANumber as error:
            kept = ""
            if progress.best_epoch >= 0:
                set_model_arrays(model, best)
                save_keras(with_softmax(self._in_float32(network)), self.run.last_good)
                kept = (
                    f". The best weights before it are in {self.run.last_good}; model.weights can "
                    "start from them"
                )
            raise TrainingError(f"{error}; lower training.learning_rate{kept}") from None
        set_model_arrays(model, best)
        return model, best

    def _epoch(self, model: Any, material: Material, stage: Stage) -> dict[str, float]:
        """Fits one epoch; its figures."""
        training, progress = self.recipe.training, self.progress
        epoch = progress.epochs_done
        started = time.perf_counter()
        if stage.schedule == "plateau":
            losses = [
                row.get("val_loss", row["loss"]) for row in progress.history[progress.stage_began :]
            ]
            model.optimizer.learning_rate = plateau_rate(training, stage.learning_rate, losses)
        batches = material.batches(epoch)
        watcher = watch(
            epoch,
            training.epochs,
            len(batches),
            averaged=bool(training.ema),
            each_step=self.check_interrupt,
        )
        # One call per epoch: Keras would read the next epoch's pictures before the last one ends.
        logs = model.fit(
            batches,
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=[watcher],
            shuffle=False,  # the batches are shuffled already; Keras would use a global random state
            verbose=0,
        ).history
        row = {"epoch": epoch + 1} | {name: float(values[-1]) for name, values in logs.items()}
        row["learning_rate"] = float(model.optimizer.learning_rate)
        if material.held_out is not None:
            with averaged_weights(model, enabled=bool(training.ema)):
                shown = watch_validation(epoch, training.epochs, len(material.held_out))
                seen = model.evaluate(
                    material.held_out, verbose=0, return_dict=True, callbacks=[shown]
                )
            row |= {f"val_{name}": float(value) for name, value in seen.items()}
            check_validation(row)
        row["seconds"] = time.perf_counter() - started
        return row


def _finished(training: TrainingRecipe, stage: Stage, progress: TrainingProgress) -> bool:
    """No epoch of the stage is left, or patience is used up."""
    done = progress.epochs_done - progress.stage_began
    # Patience counts from the beginning of the stage.
    waited = progress.epochs_done - 1 - max(progress.best_epoch, progress.stage_began - 1)
    impatient = 0 < training.patience <= waited and progress.best_epoch >= 0
    return done >= stage.epochs or (impatient and done > 0)


def _keep_best(
    progress: TrainingProgress, row: dict[str, float], model: Any, best: Arrays, *, averaged: bool
) -> Arrays:
    """Enters a finished epoch into the progress; returns the best weights so far."""
    progress.history.append(row)
    progress.epochs_done += 1
    progress.seconds += row["seconds"]
    # Without a validation split there is no best epoch: the last weights are kept.
    loss = row.get("val_loss", -float(progress.epochs_done))
    if loss >= progress.best_loss:
        return best
    progress.best_loss, progress.best_epoch = loss, progress.epochs_done - 1
    with averaged_weights(model, enabled=averaged):
        return model_arrays(model)


def _report_epoch(row: dict[str, float], epochs: int, progress: TrainingProgress) -> None:
    text = (
        f"epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}"
    )
    if "val_accuracy" in row:
        text += f"  validation {row['val_accuracy']:.4f}"
    left = (epochs - progress.epochs_done) * row["seconds"]
    print(f"{text}  {row['seconds']:.1f} s, at most {left:.0f} s left", file=sys.stderr)  # noqa: T201
