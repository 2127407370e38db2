"""Quantisation-aware fine-tuning: weights move to where rounding hurts the answers least.

The teacher is the float model itself, so nobody needs labels, and the answers stay the float
model's: the student computes with rounded weights and activations (``host_tools.quantize.
fake_quant``) and learns the teacher's softened probabilities (Hinton et al. 2015, "Distilling the
Knowledge in a Neural Network"; temperature T, gradients scaled by its square as there).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.data.load import Subset
from host_tools.extras import require
from host_tools.progress import progress
from host_tools.quantize.fake_quant import FakeQuantized
from host_tools.quantize.fusing import up_to_logits
from host_tools.quantize.int8 import Treatment

Say = Callable[[str], None]

_BATCH = 64
_FEWEST_IN_BATCH = 8
# Larger pictures go in smaller batches: all activations are kept for the gradient.
_PIXELS_IN_BATCH = 64 * 96 * 96
# Training pictures that only judge the states: this share, and no more than so many.
_HELD_OUT = 0.1
_MOST_HELD_OUT = 1000
_FEWEST = 16
_LOOKS_PER_EPOCH = 4
_WARM_UP = 0.1
_MIRRORED = 0.5  # of the pictures, where they may be


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How long and how fast.

    Attributes:
        seconds: for all of it; the best state so far is kept then.
        epochs: at most.
        most_pictures: of an epoch.
        learning_rate: Adam's, after a warm-up over the first tenth, falling to zero as a cosine.
        temperature: of the softened probabilities.
        flips: pictures may be mirrored left and right.
        seed: of the order and the mirroring.
    """

    seconds: float
    epochs: int = 2
    most_pictures: int = 20_000
    learning_rate: float = 1e-4
    temperature: float = 2.0
    flips: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """What came of it.

    Attributes:
        model: a ``keras.Model`` like the one given, in float; the very one where nothing improved.
        before, after: divergence (nats, softened) of the rounded model from the float one on
            held-out training pictures; NaN where time was up before it could be measured.
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
    say: Say,
) -> FineTuned:
    """Fine-tunes a classifier for its int8 form.

    Args:
        model: a functional or sequential ``keras.Model``, as of ``convert``; it stays as it is.
        training: pictures to learn from, some of which are held out to judge by.
        calibration: ``(N, H, W, C)`` uint8, the last two black and white: they set the ranges.
        treatment: whose way to ranges and whose operators in float are taken.
        how: how long.
        say: told the end.

    Raises:
        ConversionError: see ``FakeQuantized``.
    """
    tuned = _Course(model, training, calibration, treatment, how).run()
    say(
        f"fine-tuned for int8: {tuned.steps} batches in {tuned.seconds:.0f} s, divergence "
        f"{tuned.before:.3g} before and {tuned.after:.3g} after"
        + ("" if tuned.improved else "; nothing was gained")
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
        self._optimizer = keras.optimizers.Adam(how.learning_rate)
        self._optimizer.build(self._student.variables)
        self._random = np.random.default_rng(how.seed)
        rows = self._random.permutation(len(training))
        held_out = min(_MOST_HELD_OUT, max(_FEWEST, int(_HELD_OUT * len(rows))), len(rows) // 2)
        self._held_out, self._rows = rows[:held_out], rows[held_out:]
        height, width, channels = calibration.shape[1:]
        self._batch = max(_FEWEST_IN_BATCH, min(_BATCH, _PIXELS_IN_BATCH // (height * width)))
        self._batch = max(1, min(self._batch, len(self._rows)))
        pictures = [self._tf.TensorSpec((None, height, width, channels), self._tf.float32)]
        self._divergence = self._tf.function(self._compared, input_signature=pictures)
        self._learn = self._tf.function(self._step, input_signature=pictures)

    def run(self) -> FineTuned:
        if len(self._rows) < _FEWEST or self._share() >= 1:
            return FineTuned(self._model, math.nan, math.nan, 0, self._seconds())
        before = best = self._judged()
        kept = None
        steps, look_seconds = 0, math.inf
        per_epoch = max(1, min(len(self._rows), self._how.most_pictures) // self._batch)
        total = per_epoch * self._how.epochs
        look_every = max(1, per_epoch // _LOOKS_PER_EPOCH)
        for rows in progress(self._batches(per_epoch), "fine-tuning for int8", total):
            share = max(steps / total, self._share())
            if share >= 1:
                break
            self._optimizer.learning_rate.assign(self._rate(share))
            steps += 1
            if not math.isfinite(float(self._learn(self._pictures(rows)))):
                break  # what was kept before is what counts
            if steps % look_every and steps < total:
                continue
            if self._seconds() + (look_seconds if kept else 0) > self._how.seconds:
                break
            started = time.perf_counter()
            judged = self._judged()
            look_seconds = time.perf_counter() - started
            if judged < best:  # never of what is no number
                best, kept = judged, self._student.plain.get_weights()
        if kept is None:
            return FineTuned(self._model, before, before, steps, self._seconds())
        tuned = type(self._model).from_config(self._model.get_config())
        tuned.set_weights(kept)
        return FineTuned(tuned, before, best, steps, self._seconds())

    def _batches(self, per_epoch: int) -> Iterator[NDArray[np.int64]]:
        for _ in range(self._how.epochs):
            order = self._random.permutation(self._rows)
            for number in range(per_epoch):
                yield np.sort(order[number * self._batch : (number + 1) * self._batch])

    def _pictures(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        pixels = self._training.pixels(rows).astype(np.float32)
        if self._how.flips:
            mirrored = self._random.random(len(pixels)) < _MIRRORED
            pixels[mirrored] = pixels[mirrored, :, ::-1]
        return pixels

    def _judged(self) -> float:
        """Mean divergence on the pictures held out."""
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

    def _rate(self, share: float) -> float:
        if share < _WARM_UP:
            return self._how.learning_rate * (share + 0.01) / (_WARM_UP + 0.01)
        falling = (share - _WARM_UP) / (1 - _WARM_UP)
        return self._how.learning_rate * (1 + math.cos(math.pi * falling)) / 2

    def _seconds(self) -> float:
        return time.perf_counter() - self._began

    def _share(self) -> float:
        """Of the time, 0..1 and beyond."""
        return self._seconds() / self._how.seconds
