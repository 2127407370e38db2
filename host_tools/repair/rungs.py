"""Rungs of the ladder: sensitivities, candidates, their losses, and the whole ladder.

An operator alone in float has unrounded weights; its input and output are still rounded where its
neighbours are int8. So each operator is also tried together with its readers: then the tensor
between them stays in float.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact.tflite import summarize
from edge_sdk.engines import open_engine
from edge_sdk.plain import to_plain
from edge_sdk.vision.tensors import RAW, Encoder
from host_tools.progress import progress
from host_tools.quantize.activations import Observed
from host_tools.quantize.graph import Graph, Operator, append_softmax
from host_tools.quantize.int8 import Treatment, rounded_model
from host_tools.validate.statistics import Verdict, drop_interval, judge, worst

# Keeps the logarithm of a score of zero finite; float32 scores have no finer precision.
_TINY = 1e-7


def answers(flatbuffer: bytes, pixels: NDArray[np.uint8], what: str = "") -> NDArray[np.float32]:
    """``(N, classes)`` probabilities of ``(N, H, W, C)`` uint8 pixels.

    Args:
        flatbuffer: from pixels 0..255 to probabilities.
        pixels: the pictures to classify.
        what: to show with the progress; empty: none is shown.

    Raises:
        EngineError: an inference failed.
    """
    engine = open_engine(flatbuffer, threads=2)
    encode = Encoder(summarize(flatbuffer, "the converted model").inputs[0], RAW)
    pictures = progress(pixels, what, len(pixels)) if what else pixels
    scores = np.stack([engine.infer(encode(picture))[0] for picture in pictures])
    engine.close()
    return scores


def divergence(reference: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """Mean Kullback-Leibler divergence from the reference's ``(N, classes)`` answers, in nats."""
    terms = reference * (np.log(reference + _TINY) - np.log(scores + _TINY))
    return float(terms.sum(axis=1).mean())


# They compute no values that rounding could change.
_MOVES = ("PAD", "RESHAPE", "MAX_POOL_2D", "TRANSPOSE", "SQUEEZE")
_PICTURES = 64
_FEWEST_PICTURES = 8
_MOST_READERS = 3
# Number of the most sensitive groups that are left in float one by one.
_EVERY_STEP = 4


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The gain of leaving some operators in float.

    Attributes:
        names: of one operator, or of one and its readers.
        kind: of the first.
        gain: share (-inf..1) of the int8 model's divergence from the float one that goes away.
    """

    names: tuple[str, ...]
    kind: str
    gain: float


def sensitivities(
    model: Graph,
    seen: Mapping[str, Observed],
    limits: Mapping[str, tuple[float, float]],
    treatment: Treatment,
    pixels: NDArray[np.uint8],
    seconds: float,
) -> tuple[Sensitivity, ...]:
    """Leaves every operator in float, alone and with its readers; the most per operator first.

    Args:
        model, seen, limits: a float network, its channels equalised but its biases not corrected:
            which are depends on what stays in float. What was observed of it, and its ranges.
        treatment: whether biases are, and what else stays in float.
        pixels: ``(N, H, W, C)`` uint8 training pictures; as many are used as the time allows.
        seconds: time limit; the search ends with the operators measured so far.
    """
    packed = model.pack()
    started = time.perf_counter()
    some = pixels[:_FEWEST_PICTURES]

    def scores(kept: tuple[str, ...], pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return answers(
            rounded_model(model, seen, limits, replace(treatment, kept_float=kept)), pictures
        )

    scores(treatment.kept_float, some)
    groups = list(_groups(model, treatment.kept_float))
    each = (time.perf_counter() - started) / _FEWEST_PICTURES
    affordable = int(seconds / 2 / max(each, 1e-6) / max(len(groups), 1))
    pictures = pixels[: min(_PICTURES, max(_FEWEST_PICTURES, affordable))]
    reference = answers(append_softmax(packed), pictures)
    whole = divergence(reference, scores(treatment.kept_float, pictures))
    found = []
    for group in progress(groups, "trying operators in float", len(groups)):
        if time.perf_counter() - started > seconds:
            break
        names = tuple(one.name for one in group)
        left = divergence(reference, scores((*treatment.kept_float, *names), pictures))
        gain = 1 - left / whole if whole > 0 else 0.0
        found.append(Sensitivity(names, group[0].kind, gain))
    return tuple(sorted(found, key=lambda one: -one.gain / len(one.names)))


def steps(
    sensitive: Sequence[Sensitivity], already: Sequence[str], most: float
) -> list[tuple[str, ...]]:
    """Names of more and more operators to leave in float, the most sensitive ones first.

    Every step at first, then when there are a quarter more; in any case, at the end, all that may be.

    Args:
        sensitive: the most sensitive first.
        already: names that are in float already; they are not returned.
        most: the largest number of names.
    """
    found: list[tuple[str, ...]] = []
    added: list[str] = []
    for number, group in enumerate(one for one in sensitive if one.gain > 0):
        more = [name for name in group.names if name not in (*already, *added)]
        if len(added) + len(more) > most:
            break
        added += more
        before = len(found[-1]) if found else 0
        if more and (number < _EVERY_STEP or len(added) >= 1.25 * before):
            found.append(tuple(added))
    if added and found[-1] != tuple(added):
        found.append(tuple(added))
    return found


def _groups(model: Graph, kept: tuple[str, ...]) -> Iterator[tuple[Operator, ...]]:
    for operator in model.operators:
        if operator.kind in _MOVES or operator.name in kept:
            continue
        yield (operator,)
        readers = [one for one in model.consumers(operator.output) if one.name not in kept]
        if 0 < len(readers) <= _MOST_READERS:
            yield (operator, *readers)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Drops in points.

    Attributes:
        drop_points: float accuracy less the other one's.
        drop_ci95: its 95 % interval.
        class_drop_points: of the class that loses most.
        verdict: of both budgets on the intervals, the worse one.
        holds: the drops themselves are within both budgets.
    """

    drop_points: float
    drop_ci95: tuple[float, float]
    class_drop_points: float
    verdict: Verdict
    holds: bool


def outcome(
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    truth: NDArray[np.int64],
    max_drop: float,
    max_class_drop: float | None,
) -> Outcome:
    """Compares two models picture by picture.

    Args:
        before, after: ``(N,)``, whether the float model and the other one are right.
        truth: ``(N,)`` label indices, N of at least 1.
        max_drop: budget in points, of all pictures.
        max_class_drop: of every class by itself; None: no such budget.
    """
    drop, interval = _drop(before, after)
    classes = [_drop(before[truth == i], after[truth == i]) for i in np.unique(truth)]
    most = max(points for points, _ in classes)
    verdicts = [judge(interval, max_drop)]
    if max_class_drop is not None:
        verdicts += [judge(one, max_class_drop) for _, one in classes]
    verdict = worst(verdicts)
    assert verdict is not None  # there is at least one
    holds = drop <= max_drop and (max_class_drop is None or most <= max_class_drop)
    return Outcome(drop, interval, most, verdict, holds)


def _drop(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, tuple[float, float]]:
    """Points, and their interval."""
    lost, won, n = int((before & ~after).sum()), int((~before & after).sum()), len(before)
    low, high = drop_interval(lost, won, n)
    return 100 * (lost - won) / n, (100 * low, 100 * high)


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A converted model, not yet measured.

    Attributes:
        name: of the rung, for people.
        note: what was done, in a sentence.
        format: ``int8`` or ``float16``.
        flatbuffer: the model, with float32 probabilities.
        kept_float: names of operators that stayed in float.
        equalized: channels were brought to like size first.
        graph: the float network it was made from; None: the one that is repaired.
    """

    name: str
    note: str
    format: str
    flatbuffer: bytes
    kept_float: tuple[str, ...] = ()
    equalized: bool = False
    graph: Graph | None = None


@dataclass(frozen=True, slots=True)
class Rung:
    """A candidate, measured on the validation split.

    Attributes:
        name, note, format, kept_float: of the candidate.
        accuracy: 0..1.
        drop_points: float accuracy less this one's, in points.
        drop_ci95: its 95 % interval.
        class_drop_points: of the class that loses most.
        verdict: of the budgets on the intervals, the worse one.
        holds: the drops themselves are within the budgets.
        agreement: share (0..1) of pictures with the float model's answer.
        divergence: mean Kullback-Leibler divergence from the float model's scores, in nats.
        size_bytes: of the flatbuffer.
        latency_ms: median of one inference on this machine, one thread.
        latency_ratio: the same over the float32 model's, measured alternately.
        seconds: it took to make and to measure.
    """

    name: str
    note: str
    format: str
    kept_float: tuple[str, ...]
    accuracy: float
    drop_points: float
    drop_ci95: tuple[float, float]
    class_drop_points: float
    verdict: Verdict
    holds: bool
    agreement: float
    divergence: float
    size_bytes: int
    latency_ms: float
    latency_ratio: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RepairBudget:
    """The limits of a repair.

    Attributes:
        max_drop: points of accuracy on the validation split.
        max_class_drop: of any one class; None: as many as ``max_drop`` lets it lose.
        seconds: for the whole search; the rung being measured then is the last.
        slower_allowed: an int8 model may be slower than float32; else kinds of operators that make
            it so stay in float.
    """

    max_drop: float
    seconds: float = 600.0
    slower_allowed: bool = False
    max_class_drop: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """Everything that was tried.

    Attributes:
        reference: accuracy (0..1) of the float model on the ``n`` validation pictures.
        float_ms, float_bytes: its latency and size in float32.
        rungs: in the order tried.
        chosen: the number of the best one.
        flatbuffer: of that one.
        equalized: its channels were brought to like size first, so that its tensors are the float
            network's but for a factor per channel.
        graph: the fine-tuned float network it was made of; None: the one that is repaired.
        blamed: operator kinds that made int8 slower than float32, with the share (0..1) of the
            int8 latency that leaving each in float saved.
        sensitive: operators by what leaving them in float gains; empty where not needed.
    """

    reference: float
    n: int
    float_ms: float
    float_bytes: int
    rungs: tuple[Rung, ...]
    chosen: int
    flatbuffer: bytes
    equalized: bool = False
    graph: Graph | None = None
    blamed: dict[str, float] = field(default_factory=dict)
    sensitive: tuple[Sensitivity, ...] = ()

    @property
    def best(self) -> Rung:
        """The chosen rung."""
        return self.rungs[self.chosen]

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "reference": {"accuracy": self.reference, "n": self.n},
            "float32": {"latency_ms": self.float_ms, "size_bytes": self.float_bytes},
            "rungs": to_plain(self.rungs),
            "chosen": self.chosen,
            "blamed": self.blamed,
            "sensitive": to_plain(self.sensitive),
        }
