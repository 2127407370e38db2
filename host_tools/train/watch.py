"""Watching an epoch: how far it is, and a stop where the loss is no number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from host_tools.extras import require
from host_tools.progress import Meter


class NotANumber(Exception):  # noqa: N818  # not an error of its own: training turns it into one
    """The loss became NaN or infinite; says where."""


def check_validation(row: dict[str, float]) -> None:
    """Stops after an epoch whose validation loss is no number.

    Raises:
        NotANumber: it is not.
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
            the weights when ``fit`` ends; the next epoch must go on from the weights themselves.
        each_step: is called after each; what it raises ends the epoch.
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
