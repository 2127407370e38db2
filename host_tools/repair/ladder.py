"""The ladder: cheap treatments, operators in float, fine-tuning, float16, until a budget holds.

The model is chosen on the validation split; the caller confirms it once on the test split.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact.tflite import summarize
from edge_sdk.engines import open_engine
from edge_sdk.vision.tensors import RAW, Encoder
from host_tools.quantize.activations import Observed, RangeMethod, observe, ranges
from host_tools.quantize.graph import Graph, append_softmax
from host_tools.quantize.int8 import Treatment, equalized, rounded_model
from host_tools.quantize.lint import CheckedCalibration
from host_tools.repair.rungs import (
    Candidate,
    Ladder,
    RepairBudget,
    Rung,
    Sensitivity,
    answers,
    divergence,
    outcome,
    sensitivities,
    steps,
)

_WARM_UP = 3
_FEWEST, _MOST = 15, 400


def latencies_ms(
    flatbuffers: Sequence[bytes], picture: NDArray[np.uint8], seconds: float = 1.0
) -> list[float]:
    """Median milliseconds of one inference of each model, one thread.

    Args:
        flatbuffers: models of the same input size.
        picture: ``(H, W, C)`` uint8.
        seconds: about how long to measure in all; at least 15 rounds are made.
    """
    engines = [open_engine(flatbuffer, threads=1) for flatbuffer in flatbuffers]
    tensors = [
        Encoder(summarize(flatbuffer, "the model").inputs[0], RAW)(picture).copy()
        for flatbuffer in flatbuffers
    ]
    for engine, tensor in zip(engines, tensors, strict=True):
        for _ in range(_WARM_UP):
            engine.infer(tensor)
    rounds: list[list[int]] = []
    until = time.perf_counter() + seconds
    while len(rounds) < _FEWEST or (time.perf_counter() < until and len(rounds) < _MOST):
        row = []
        for engine, tensor in zip(engines, tensors, strict=True):
            started = time.perf_counter_ns()
            engine.infer(tensor)
            row.append(time.perf_counter_ns() - started)
        rounds.append(row)
    for engine in engines:
        engine.close()
    return [float(value) for value in np.median(rounds, axis=0) / 1e6]


class Maker:
    """Makes int8 models.

    Args:
        graph: of the float model up to its logits; it stays as it is.
        observed: of ``graph`` on ``pixels``.
        pixels: ``(N, H, W, C)`` uint8 calibration pictures, the last two black and white.
    """

    def __init__(
        self, graph: Graph, observed: Mapping[str, Observed], pixels: NDArray[np.uint8]
    ) -> None:
        self._pixels = pixels
        self._networks = {False: (graph, observed)}
        self._limits: dict[tuple[bool, RangeMethod], Mapping[str, tuple[float, float]]] = {}

    def network(self, treatment: Treatment) -> tuple[Graph, Mapping[str, Observed]]:
        """The float network before rounding and bias correction, and its observed activations."""
        if treatment.equalized not in self._networks:
            self._networks[True] = equalized(*self._networks[False], self._pixels)
        return self._networks[treatment.equalized]

    def limits(self, treatment: Treatment) -> Mapping[str, tuple[float, float]]:
        """The range of every tensor of that network."""
        key = (treatment.equalized, treatment.ranges)
        if key not in self._limits:
            self._limits[key] = ranges(self.network(treatment)[1], treatment.ranges)
        return self._limits[key]

    def int8(self, treatment: Treatment) -> bytes:
        """An int8 flatbuffer with float32 probabilities.

        Raises:
            ConversionError: an operator that has no 8-bit form.
        """
        return rounded_model(*self.network(treatment), self.limits(treatment), treatment)


# All are tried; the best one is the base of the next rungs.
FREE: tuple[tuple[str, str, Treatment], ...] = (
    (
        "int8",
        "weights per channel, ranges of all observed values",
        Treatment("minmax", equalized=False, corrected=False),
    ),
    (
        "ranges cut at 99.99 %",
        "the outermost ten-thousandth of each activation saturates",
        Treatment("percentile", equalized=False, corrected=False),
    ),
    (
        "ranges of least squared error",
        "the least squared error of rounding and saturation, per activation",
        Treatment("mse", equalized=False, corrected=False),
    ),
    (
        "biases corrected",
        "biases compensate the rounding of weights",
        Treatment("mse", equalized=False, corrected=True),
    ),
    (
        "equalised, biases corrected",
        "equalised channels, then ranges of least squared error and corrected biases",
        Treatment("mse", equalized=True, corrected=True),
    ),
)


Note = Callable[[str], None]
# From a treatment and a time limit in seconds to a fine-tuned float model; None: not improved.
FineTune = Callable[[Treatment, float], Graph | None]

# The largest share of operators in float, and of the time; fine-tuning needs time, too.
_MOST_FLOAT = 0.5
_TIME_BEFORE_TUNING = 0.6
_TIME_FOR_TUNING = 0.9  # of what is left then
# A smaller gain may be noise of the measurement, and is not worth a larger file.
_WORTH = 0.9
_NOTICED_MS = 0.2


class Climber:
    """Searches once.

    Args:
        graph: of the float model up to its logits.
        calibration: pictures that passed the lint, and their observed activations.
        pixels, truth: ``(N, H, W, C)`` uint8 pictures of the validation split and ``(N,)`` labels.
        float16: makes the float16 model, the last rung.
        budget: when to stop.
        io: what the input of an int8 model stores.
        note: called with each rung as it is measured.
        fine_tune: makes the fine-tuned model; None: that rung is left out.
    """

    def __init__(
        self,
        graph: Graph,
        calibration: CheckedCalibration,
        pixels: NDArray[np.uint8],
        truth: NDArray[np.int64],
        float16: Callable[[], bytes],
        budget: RepairBudget,
        io: str,
        note: Note,
        fine_tune: FineTune | None = None,
    ) -> None:
        self._fine_tune = fine_tune
        self._graph, self._calibration = graph, calibration
        self._maker = Maker(graph, calibration.observed, calibration.pixels)
        self._quantized = self._maker.int8
        self._pixels, self._truth = pixels, truth
        self._float16, self._budget, self._io, self._note = float16, budget, io, note
        self._float = append_softmax(graph.pack())
        self._began = time.perf_counter()
        self._rungs: list[Rung] = []
        self._made: list[Candidate] = []
        self._blamed: dict[str, float] = {}
        self._sensitive: tuple[Sensitivity, ...] = ()
        self._fast_from = 0  # rungs before this one have operators without a fast int8 kernel

    def climb(self) -> Ladder:
        """Tries rung after rung until the budget holds; the best one in the end otherwise."""
        self._reference = answers(self._float, self._pixels, "the float model")
        self._right = self._reference.argmax(axis=1) == self._truth
        treatment = self._free()
        if not self._budget.slower_allowed:
            treatment = self._as_fast_as_float(treatment)
        if not self._done():
            for candidate in self._partly_float(treatment):
                self._measure(candidate)
                if self._done() or (self._fine_tune and self._left() < 1 - _TIME_BEFORE_TUNING):
                    break
        if not self._done() and self._fine_tune is not None:
            self._fine_tuned(treatment, self._fine_tune)
        if not self._done(in_any_case=True):
            note = "weights in half precision, computed in float32"
            self._measure(Candidate("float16", note, "float16", self._float16()))
        chosen = self._choice()
        return Ladder(
            reference=float(self._right.mean()),
            n=len(self._truth),
            float_ms=self._rungs[chosen].latency_ms / self._rungs[chosen].latency_ratio,
            float_bytes=len(self._float),
            rungs=tuple(self._rungs),
            chosen=chosen,
            flatbuffer=self._made[chosen].flatbuffer,
            equalized=self._made[chosen].equalized,
            graph=self._made[chosen].graph,
            blamed=self._blamed,
            sensitive=self._sensitive,
        )

    def _free(self) -> Treatment:
        """Tries the treatments without a cost at run time, within the time limit; returns the best."""
        tried: list[Treatment] = []
        for name, note, treatment in FREE:
            if tried and self._left() < 0:
                break
            treatment = replace(treatment, io=self._io)
            made = self._quantized(treatment)
            self._measure(Candidate(name, note, "int8", made, equalized=treatment.equalized))
            tried.append(treatment)
        best = min(range(len(tried)), key=lambda i: _preference(self._rungs[i]))
        return tried[best]

    def _as_fast_as_float(self, treatment: Treatment) -> Treatment:
        """Leaves kinds of operators in float while that makes a slow model faster."""
        plain = self._quantized(treatment)
        picture = self._pixels[0]
        float_ms, whole = latencies_ms([self._float, plain], picture)
        if whole < _NOTICED_MS or _WORTH * whole <= float_ms:
            return treatment
        kinds = sorted({one.kind for one in self._graph.operators})
        kept: list[str] = []
        best = whole
        found: dict[str, float] = {}
        for kind in kinds:
            if self._left() < 0:
                break
            names = tuple(one.name for one in self._graph.operators if one.kind == kind)
            trial = self._quantized(replace(treatment, kept_float=names))
            base, took = latencies_ms([plain, trial], picture)
            if took < _WORTH * base:
                found[kind] = 1 - took / base
        for kind in sorted(found, key=lambda one: -found[one]):
            if self._left() < 0:
                break
            names = tuple(one.name for one in self._graph.operators if one.kind == kind)
            trial = self._quantized(replace(treatment, kept_float=(*kept, *names)))
            base, took = latencies_ms([plain, trial], picture)
            if took * whole / base < _WORTH * best:
                best, kept = took * whole / base, [*kept, *names]
                self._blamed[kind] = found[kind]
        if not kept:
            self._note(
                f"int8 takes {whole:.2f} ms and float32 {float_ms:.2f} ms here, and no "
                "single operator kind is the cause"
            )
            return treatment
        kinds_kept = ", ".join(self._blamed)
        treatment = replace(treatment, kept_float=tuple(kept))
        self._fast_from = len(self._rungs)
        self._measure(
            Candidate(
                f"{kinds_kept} in float",
                f"int8 has no fast kernel for {kinds_kept} here",
                "int8",
                self._quantized(treatment),
                tuple(kept),
                treatment.equalized,
            )
        )
        return treatment

    def _partly_float(self, treatment: Treatment) -> Iterator[Candidate]:
        model, seen = self._maker.network(treatment)
        left = self._left() * self._budget.seconds
        pictures = self._calibration.pixels[:-2]
        limits = self._maker.limits(treatment)
        self._sensitive = sensitivities(
            model, seen, limits, treatment, pictures, max(left / 2, 1.0)
        )
        most = _MOST_FLOAT * len(self._graph.operators)
        for added in steps(self._sensitive, treatment.kept_float, most):
            kept = (*treatment.kept_float, *added)
            yield Candidate(
                f"{len(added)} of {len(self._graph.operators)} operators in float",
                f"in float, the most sensitive first: {', '.join(added[:4])}"
                + (", ..." if len(added) > 4 else ""),
                "int8",
                self._quantized(replace(treatment, kept_float=kept)),
                kept,
                treatment.equalized,
            )

    def _fine_tuned(self, treatment: Treatment, fine_tune: FineTune) -> None:
        graph = fine_tune(treatment, _TIME_FOR_TUNING * self._left() * self._budget.seconds)
        if graph is None:
            return
        pixels, kept = self._calibration.pixels, treatment.kept_float
        maker = Maker(graph, observe(graph, pixels), pixels)
        # Tuned for the rounding of its own weights; whether other treatments help is measured.
        plain = replace(treatment, equalized=False, corrected=False)
        ways = {
            plain: "fine-tuned",
            replace(treatment, equalized=True, corrected=True): "fine-tuned, treated",
        }
        for how, name in ways.items():
            made = maker.int8(how)
            note = "weights trained further, rounded as they will be"
            self._measure(Candidate(name, note, "int8", made, kept, how.equalized, graph))

    def _measure(self, candidate: Candidate) -> None:
        started = time.perf_counter()
        scores = answers(candidate.flatbuffer, self._pixels, candidate.name)
        answer = scores.argmax(axis=1)
        right = answer == self._truth
        limits = (self._budget.max_drop, self._budget.max_class_drop)
        found = outcome(self._right, right, self._truth, *limits)
        low, high = found.drop_ci95
        float_ms, took = latencies_ms([self._float, candidate.flatbuffer], self._pixels[0])
        rung = Rung(
            name=candidate.name,
            note=candidate.note,
            format=candidate.format,
            kept_float=candidate.kept_float,
            accuracy=float(right.mean()),
            **asdict(found),
            agreement=float((answer == self._reference.argmax(axis=1)).mean()),
            divergence=divergence(self._reference, scores),
            size_bytes=len(candidate.flatbuffer),
            latency_ms=took,
            latency_ratio=took / float_ms,
            seconds=time.perf_counter() - started,
        )
        self._rungs.append(rung)
        self._made.append(candidate)
        self._note(
            f"{rung.name}: drop {rung.drop_points:+.2f} points ({low:+.2f} to {high:+.2f}), "
            f"{rung.size_bytes:,} bytes, {rung.latency_ms:.2f} ms ({rung.latency_ratio:.2f} x float32)"
        )

    def _done(self, *, in_any_case: bool = False) -> bool:
        """A rung holds, or (but for the last rung) the time limit is reached."""
        if any(rung.holds for rung in self._rungs[self._fast_from :]):
            return True
        return not in_any_case and self._left() < 0

    def _left(self) -> float:
        """Share of the time left; negative past the limit."""
        return 1 - (time.perf_counter() - self._began) / self._budget.seconds

    def _choice(self) -> int:
        """The best rung that holds; else the one with the smallest loss."""
        numbers = range(len(self._rungs))
        fitting = [i for i in numbers if i >= self._fast_from and self._rungs[i].holds]
        if not fitting:
            return min(numbers, key=lambda i: self._rungs[i].drop_points)
        # int8 before float16, few operators in float before many, then the answers kept.
        return min(
            fitting,
            key=lambda i: (
                self._rungs[i].format != "int8",
                len(self._rungs[i].kept_float),
                *_preference(self._rungs[i]),
            ),
        )


def _preference(rung: Rung) -> tuple[float, float]:
    """By the share of unchanged answers, which varies less by chance than the accuracy.

    Ties are broken by the scores.
    """
    return -rung.agreement, rung.divergence
