"""Watching an epoch: a bar on a terminal, and a stop where the loss is no number."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_sdk.terminal import own
from host_tools.extras import require


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
            self.bar = require("tqdm").tqdm(
                desc=f"epoch {epoch + 1}/{epochs}",
                total=steps,
                unit=" steps",
                leave=False,
                file=own(sys.stderr),
                disable=not sys.stderr.isatty(),
            )

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if not math.isfinite(logs["loss"]):
                raise NotANumber(
                    f"the loss became {logs['loss']} in epoch {epoch + 1}, step {batch + 1}"
                )
            self.bar.update(batch + 1 - self.bar.n)  # several steps at once, for a head
            each_step()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.own = [np.array(v) for v in self.model.trainable_variables] if averaged else []

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
            self.bar.close()
            if averaged:
                for variable, value in zip(self.model.trainable_variables, self.own, strict=True):
                    variable.assign(value)

    return Watch()
