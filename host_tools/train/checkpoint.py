"""The checkpoint of a training in one file: weights, optimizer, best weights, history.

It is written whole and renamed into place after every epoch, so that a kill at any moment leaves
the last complete one.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import TrainingError
from edge_sdk.files import write_atomically
from edge_sdk.plain import to_plain
from host_tools.arrays_file import read_arrays

Arrays = list[NDArray[Any]]
# DamagedArraysError is a ValueError; the others come from arrays or a progress that do not fit.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError)
_GROUPS = ("model", "optimizer", "best")


@dataclass(slots=True)
class TrainingProgress:
    """The state of a training.

    Attributes:
        identity: digest of recipe and data set; a training with another digest must not resume here.
        stage: the one being trained, 0-based.
        stage_began: epochs that were complete when it began.
        epochs_done: complete epochs.
        best_loss: lowest validation loss since the input had its size.
        best_epoch: the epoch (0-based) it was reached in, -1: none yet.
        history: a row per complete epoch.
        seconds: training time so far.
        finished: the model has been written; a new training may begin here.
    """

    identity: str
    stage: int = 0
    stage_began: int = 0
    epochs_done: int = 0
    best_loss: float = float("inf")
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False

    def begin_stage(self, stage: int, *, same_input: bool) -> None:
        """Enters the next stage; losses on an input of another size cannot be compared."""
        self.stage, self.stage_began = stage, self.epochs_done
        if not same_input:
            self.best_loss = float("inf")


def save_checkpoint(path: Path, model: Any, best: Arrays, progress: TrainingProgress) -> None:
    """Writes everything.

    Raises:
        WriteError: the disk is full; the checkpoint before stays.
    """
    optimizer = [np.asarray(variable) for variable in model.optimizer.variables]
    groups = dict(zip(_GROUPS, (model_arrays(model), optimizer, best), strict=True))
    arrays: dict[str, Any] = {
        f"{group}_{i}": array
        for group, members in groups.items()
        for i, array in enumerate(members)
    }
    # A zip's directory has no checksum: a lost entry is found by counting.
    counts = np.array([len(members) for members in groups.values()])
    buffer = io.BytesIO()
    np.savez(buffer, progress=np.array(json.dumps(to_plain(progress))), counts=counts, **arrays)
    write_atomically(path, buffer.getvalue())


def holds_unfinished(path: Path) -> bool:
    """Whether there is a checkpoint of an unfinished training."""
    try:
        return not json.loads(str(read_arrays(path)["progress"])).get("finished")
    except FileNotFoundError:
        return False
    except _DAMAGE:
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """What a checkpoint holds: the progress, and the arrays of model, optimizer and best weights."""

    progress: TrainingProgress
    model: Arrays
    optimizer: Arrays
    best: Arrays


def read_checkpoint(path: Path, identity: str) -> Saved:
    """Reads a checkpoint.

    Raises:
        TrainingError: damaged, or of another recipe or data set.
    """
    try:
        saved = read_arrays(path)
        progress = TrainingProgress(**json.loads(str(saved["progress"])))
        model, optimizer, best = (
            [saved[f"{group}_{i}"] for i in range(count)]
            for group, count in zip(_GROUPS, saved["counts"].tolist(), strict=True)
        )
    except _DAMAGE as error:
        raise TrainingError(
            f"{path}: the checkpoint is damaged ({error}); train again without --resume"
        ) from error
    if progress.identity != identity:
        raise TrainingError(
            f"{path}: was made with another recipe or other pictures; train again without --resume, "
            "or with another --out"
        )
    return Saved(progress, model, optimizer, best)


def restore(model: Any, saved: Saved) -> None:
    """Puts a compiled model into the state that was saved."""
    model.optimizer.build(model.trainable_variables)
    set_model_arrays(model, saved.model)
    for variable, value in zip(model.optimizer.variables, saved.optimizer, strict=True):
        variable.assign(value)


@contextlib.contextmanager
def averaged_weights(model: Any, *, enabled: bool) -> Iterator[None]:
    """Swaps the optimizer's moving averages into the model's weights while it is open."""
    if not enabled:
        yield
        return
    own = [np.array(variable) for variable in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, own, strict=True):
            variable.assign(value)


def model_arrays(model: Any) -> Arrays:
    """Copies of all weights, moving statistics and random states of a model, in a fixed order."""
    return [np.array(variable) for variable in model.variables]


def set_model_arrays(model: Any, arrays: Arrays) -> None:
    """Writes back what ``model_arrays`` gave."""
    for variable, value in zip(model.variables, arrays, strict=True):
        variable.assign(value)
