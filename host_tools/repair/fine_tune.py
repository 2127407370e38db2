"""Quantisation-aware fine-tuning: trains the weights so that rounding changes the answers least.

The teacher is the float model itself, so no labels are needed, and the answers stay the float
model's: the student computes with rounded weights and activations (``host_tools.quantize.
fake_quant``) and learns the teacher's softened probabilities (Hinton et al. 2015, "Distilling the
Knowledge in a Neural Network"; temperature T, gradients scaled by its square as there).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.data.load import Subset
from host_tools.extras import require
from host_tools.progress import progress
from host_tools.quantize.fake_quant import FakeQuantized, up_to_logits
from host_tools.quantize.int8 import Treatment

Note = Callable[[str], None]

_BATCH = 64
_FEWEST_IN_BATCH = 8
# Larger pictures need smaller batches: all activations are kept for the gradient.
_PIXELS_IN_BATCH = 64 * 96 * 96
# Training pictures held out to compare states: this share, and at most this many.
_HELD_OUT = 0.1
_MOST_HELD_OUT = 1000
_FEWEST = 16
# Small data sets are used for more epochs, in smaller batches.
_FEWEST_STEPS = 200
_BATCHES_IN_EPOCH = 12
# Number of states compared, evenly over the steps.
_LOOKS = 10
# Steps after the one that compiles, timed to plan the number of steps.
_TIMED = 8
# Share of the time left for training; the rest is for comparing states.
_LEARNING = 0.8
_WARM_UP = 0.1
_MIRRORED = 0.5  # of the pictures, where they may be
_ENOUGH = 0.1  # of the divergence before: below it no other rate is tried


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How long and how fast.

    Attributes:
        seconds: time limit; the best state so far is kept.
        epochs: over the pictures, but at least 200 batches.
        most_pictures: of an epoch.
        learning_rates: Adam's, each after a warm-up over the first tenth, falling to zero as a
            cosine. The next one starts again from the float weights, and only where more than a
            tenth of the divergence is left; the best state of all is kept.
        temperature: of the softened probabilities.
        flips: pictures may be mirrored left and right.
        seed: of the order and the mirroring.
    """

    seconds: float
    epochs: int = 2
    most_pictures: int = 20_000
    learning_rates: tuple[float, ...] = (1e-4, 3e-3)
    temperature: float = 2.0
    flips: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """The result of a fine-tuning.

    Attributes:
        model: a ``keras.Model`` like the given one, in float; the given one where nothing improved.
        before, after: divergence (nats, softened) of the rounded model from the float one on
            held-out training pictures; NaN where the time limit came before the measurement.
        steps: batches learned from.
        seconds: it took.
    """

    model: Any
    before: float
    after: float
    steps: int
    seconds: float

    @property
    def improved(self) -> bool:
        """Whether ``model`` is a new one."""
        return self.after < self.before


def fine_tuned(
    model: Any,
    training: Subset,
    calibration: NDArray[np.uint8],
    treatment: Treatment,
    how: FineTuning,
    note: Note,
) -> FineTuned:
    """Fine-tunes a classifier for its int8 form.

    Args:
        model: a functional or sequential ``keras.Model``, as of ``convert``; it stays as it is.
        training: pictures to train on, some of which are held out for comparison.
        calibration: ``(N, H, W, C)`` uint8, the last two black and white: they set the ranges.
        treatment: gives the method of ranges and the operators kept in float.
        how: how long.
        note: called with the result.

    Raises:
        ConversionError: see ``FakeQuantized``.
    """
    tuned = _Course(model, training, calibration, treatment, how).run()
    note(
        f"fine-tuned for int8: {tuned.steps} batches in {tuned.seconds:.0f} s, divergence "
        f"{tuned.before:.3g} before and {tuned.after:.3g} after"
        + ("" if tuned.improved else "; the model was not improved")
    )
    return tuned


class _Course:
    """One fine-tuning; arguments as of ``fine_tuned``."""

    def __init__(
        self,
        model: Any,
        training: Subset,
        calibration: NDArray[np.uint8],
        treatment: Treatment,
        how: FineTuning,
    ) -> None:
        self._began = time.perf_counter()
        self._model, self._training, self._how = model, training, how
        keras, self._tf = require("keras"), require("tensorflow")
        self._teacher = up_to_logits(model)
        self._teacher.set_weights(model.get_weights())
        self._student = FakeQuantized(model, calibration, treatment.ranges, treatment.kept_float)
        self._optimizer = keras.optimizers.Adam(how.learning_rates[0])
        self._optimizer.build(self._student.variables)
        self._best, self._steps = math.nan, 0
        self._kept: list[Any] | None = None
        self._random = np.random.default_rng(how.seed)
        rows = self._random.permutation(len(training))
        held_out = min(_MOST_HELD_OUT, max(_FEWEST, int(_HELD_OUT * len(rows))), len(rows) // 2)
        self._held_out, self._rows = rows[:held_out], rows[held_out:]
        height, width, channels = calibration.shape[1:]
        most = min(_BATCH, _PIXELS_IN_BATCH // (height * width))
        self._batch = max(_FEWEST_IN_BATCH, min(most, len(self._rows) // _BATCHES_IN_EPOCH))
        pictures = [self._tf.TensorSpec((None, height, width, channels), self._tf.float32)]
        compiled = partial(self._tf.function, input_signature=pictures, autograph=False)
        self._divergence, self._learn = compiled(self._compared), compiled(self._step)

    def run(self) -> FineTuned:
        if len(self._rows) < _FEWEST or self._seconds() >= self._how.seconds:
            return FineTuned(self._model, math.nan, math.nan, 0, self._seconds())
        before = self._best = self._judged()
        start = self._student.plain.get_weights()
        rates = self._how.learning_rates
        for number, rate in enumerate(rates, 1):
            if number > 1:
                if self._best < _ENOUGH * before:
                    break
                self._student.plain.set_weights(start)
                for variable in self._optimizer.variables:
                    variable.assign(np.zeros(variable.shape))
            self._learn_at(rate, self._how.seconds * number / len(rates))
        if self._kept is None:
            return FineTuned(self._model, before, before, self._steps, self._seconds())
        tuned = type(self._model).from_config(self._model.get_config())
        tuned.set_weights(self._kept)
        return FineTuned(tuned, before, self._best, self._steps, self._seconds())

    def _learn_at(self, rate: float, until: float) -> None:
        """One training at a learning rate, until ``until`` seconds after the start.

        The clock is read once, after the first steps, to plan their number. Where time suffices for all,
        the same seed gives the same network on any machine.
        """
        steps, looked, look_seconds, compiled = 0, 0, 0.0, 0.0
        per_epoch = max(1, min(len(self._rows), self._how.most_pictures) // self._batch)
        total = planned = max(_FEWEST_STEPS, per_epoch * self._how.epochs)
        for rows in progress(self._batches(per_epoch, planned), "fine-tuning for int8", planned):
            if steps == 1:
                compiled = self._seconds()
            elif steps == _TIMED + 1:
                each = (self._seconds() - compiled) / _TIMED
                total = min(planned, steps + int(_LEARNING * (until - self._seconds()) / each))
            if steps >= total or self._seconds() >= until:
                break
            self._optimizer.learning_rate.assign(rate * _falling(steps / total))
            steps += 1
            self._steps += 1
            if not math.isfinite(float(self._learn(self._pictures(rows)))):
                break  # the state kept before is the result
            if int(_LOOKS * steps / total) == looked and steps < total:
                continue
            looked = int(_LOOKS * steps / total)
            if self._seconds() + look_seconds > until:
                break
            started = self._seconds()
            judged = self._judged()
            look_seconds = self._seconds() - started
            if judged < self._best:  # False for NaN
                self._best, self._kept = judged, self._student.plain.get_weights()

    def _batches(self, per_epoch: int, total: int) -> Iterator[NDArray[np.int64]]:
        for number in range(total):
            place = number % per_epoch * self._batch
            if place == 0:
                order = self._random.permutation(self._rows)
            yield np.sort(order[place : place + self._batch])

    def _pictures(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        pixels = self._training.pixels(rows).astype(np.float32)
        if self._how.flips:
            mirrored = self._random.random(len(pixels)) < _MIRRORED
            pixels[mirrored] = pixels[mirrored, :, ::-1]
        return pixels

    def _judged(self) -> float:
        """Mean divergence on the pictures held out, with the ranges that conversion will find."""
        self._student.measure()
        sums, rows = 0.0, np.sort(self._held_out)
        for start in range(0, len(rows), self._batch):
            some = rows[start : start + self._batch]
            pixels = self._training.pixels(some).astype(np.float32)
            sums += float(self._divergence(pixels)) * len(some)
        return sums / len(rows)

    def _compared(self, pictures: Any) -> Any:
        """Mean divergence of the softened probabilities, in nats."""
        nn, softness = self._tf.nn, self._how.temperature
        teacher = self._teacher(pictures, training=False) / softness
        student = self._student.logits(pictures) / softness
        logarithms = nn.log_softmax(teacher) - nn.log_softmax(student)
        return self._tf.reduce_mean(self._tf.reduce_sum(nn.softmax(teacher) * logarithms, axis=-1))

    def _step(self, pictures: Any) -> Any:
        variables = self._student.variables
        with self._tf.GradientTape() as tape:
            loss = self._compared(pictures) * self._how.temperature**2
        gradients = tape.gradient(loss, variables)
        self._optimizer.apply(gradients, variables)
        return loss

    def _seconds(self) -> float:
        return time.perf_counter() - self._began


def _falling(share: float) -> float:
    """What the learning rate is multiplied by, from the share (0..1) of the course behind it."""
    if share < _WARM_UP:
        return (share + 0.01) / (_WARM_UP + 0.01)
    return (1 + math.cos(math.pi * (share - _WARM_UP) / (1 - _WARM_UP))) / 2
