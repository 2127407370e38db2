"""The ladder's values: a budget, a candidate, a measured rung, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from host_tools.quantize.graph import Graph
from host_tools.repair.sensitivity import Sensitivity
from host_tools.validate.gates import Verdict


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
        graph: the float network it was made of; None: the one that is repaired.
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
        latency_ratio: the same over the float32 model's, measured in turns with it.
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

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "name": self.name,
            "note": self.note,
            "format": self.format,
            "kept_float": list(self.kept_float),
            "accuracy": self.accuracy,
            "drop_points": self.drop_points,
            "drop_ci95": list(self.drop_ci95),
            "class_drop_points": self.class_drop_points,
            "verdict": self.verdict,
            "holds": self.holds,
            "agreement": self.agreement,
            "divergence": self.divergence,
            "size_bytes": self.size_bytes,
            "latency_ms": self.latency_ms,
            "latency_ratio": self.latency_ratio,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class RepairBudget:
    """What a repair may cost.

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
            "rungs": [rung.to_json() for rung in self.rungs],
            "chosen": self.chosen,
            "blamed": self.blamed,
            "sensitive": [
                {"names": list(one.names), "kind": one.kind, "gain": one.gain}
                for one in self.sensitive
            ],
        }
