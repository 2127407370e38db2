"""What a benchmark found out: frozen values, and the JSON that ``bench --json`` prints.

The fields are the keys of the JSON; what can be computed from the samples (``latency_ms``,
``stages_ms``, ``throughput_fps``, ``runs``) is written for readers and computed again when read.
``edge_sdk.bench.stored`` reads it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_sdk.bench.parts import (
    Age,
    Distribution,
    Energy,
    OperatorProfile,
    Pictures,
    Samples,
    Sustained,
    ThreadPoint,
)
from edge_sdk.machine.conditions import Conditions
from edge_sdk.machine.facts import Machine
from edge_sdk.plain import to_plain

SCHEMA = 1
_DIGITS = 6  # milliseconds to the nanosecond
_NONE = Samples()


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model on one backend with so many threads.

    Attributes:
        path, name, sha256, format: which model; ``format`` such as ``int8``.
        backend, runtime: as asked for, and package and version behind it.
        xnnpack: whether the XNNPACK kernels really run it; None where nobody can tell.
        threads: for one inference.
        size_bytes, model_bytes: the file, and the model in it.
        input_px: ``(width, height)`` of the model's input.
        pictures: what was classified.
        load_ms: open, check and prepare the model, in a process that has its libraries.
        first_ms: the first classification after.
        cold_start_ms: median over ``cold_starts_ms``: a fresh process from its start to its first
            answer; None where it was not measured.
        peak_rss_mb: highest resident memory of such a process, in MB (1e6 bytes).
        warmup: classifications before timing began.
        stable: the warm-up ended because timings had stopped to fall, not because time was over.
        settled: the median's interval became as narrow as asked for.
        samples: every timed classification.
        scaling: throughput over threads, by threads.
        operators, sustained, energy, age: None where it was not measured; ``notes`` say why.
        notes: for the reader.
        valid, invalid_reasons: whether the machine let it be measured.
        complete: false where Ctrl-C came before the end.
    """

    path: str
    name: str
    sha256: str
    format: str
    backend: str
    runtime: str
    xnnpack: bool | None
    threads: int
    size_bytes: int
    model_bytes: int
    input_px: tuple[int, int]
    pictures: Pictures
    load_ms: float
    first_ms: float
    cold_start_ms: float | None = None
    cold_starts_ms: tuple[float, ...] = ()
    peak_rss_mb: float | None = None
    warmup: int = 0
    stable: bool = False
    settled: bool = False
    samples: Samples = _NONE
    scaling: tuple[ThreadPoint, ...] = ()
    operators: OperatorProfile | None = None
    sustained: Sustained | None = None
    energy: Energy | None = None
    age: Age | None = None
    notes: tuple[str, ...] = ()
    valid: bool = True
    invalid_reasons: tuple[str, ...] = ()
    complete: bool = True

    @property
    def latency(self) -> Distribution | None:
        """From a frame in hand to the answer; None before the first run."""
        return Distribution.of(self.samples.total_ms, self.samples.block)

    @property
    def preprocess(self) -> Distribution | None:
        """Of the first stage."""
        return Distribution.of(self.samples.preprocess_ms, self.samples.block)

    @property
    def inference(self) -> Distribution | None:
        """Of the second stage."""
        return Distribution.of(self.samples.inference_ms, self.samples.block)

    @property
    def postprocess(self) -> Distribution | None:
        """Of the third stage."""
        return Distribution.of(self.samples.postprocess_ms, self.samples.block)

    @property
    def throughput_fps(self) -> float | None:
        """Classifications per second, one after another without a pause; None before the first."""
        total_ms = sum(self.samples.total_ms)
        return 1000 * len(self.samples) / total_ms if total_ms else None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of one model."""
        stages = {
            "preprocess": self.preprocess,
            "inference": self.inference,
            "postprocess": self.postprocess,
        }
        content: dict[str, Any] = _rounded(self)
        samples = content.pop("samples")
        return {
            **content,
            "runs": len(self.samples),
            "latency_ms": _rounded(self.latency),
            "stages_ms": {
                name: _rounded(stage.p50 if stage else None) for name, stage in stages.items()
            },
            "stages": {name: _rounded(stage) for name, stage in stages.items()},
            "throughput_fps": _rounded(self.throughput_fps),
            **({"age_ms": _rounded(self.age.age)} if self.age else {}),
            "samples": samples,
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """A model that could not be measured, or not to the end; the others were.

    ``kind`` is the name of the error in ``edge_sdk.errors``, ``error`` its sentence.
    """

    path: str
    backend: str
    threads: int
    kind: str
    error: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for.

    Attributes:
        seconds: longest time of warm timing for each model.
        precision_percent: the median's interval is to be this narrow on either side.
        seed: of the order in which models take their turns.
    """

    seconds: float
    precision_percent: float
    seed: int


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Everything that one ``edgecls bench`` found out.

    Attributes:
        created: when, ISO 8601 in UTC.
        edgecls: version of this package.
        machine: what it was measured on.
        conditions: what that machine did meanwhile; None where Ctrl-C came before it was watched.
        settings: what was asked for.
        models: the results, in the order of the command line.
        failed: models that could not be measured.
        valid, invalid_reasons: of all models together.
        complete: false where Ctrl-C came before the end.
    """

    created: str
    edgecls: str
    machine: Machine
    settings: Settings
    models: tuple[ModelResult, ...]
    conditions: Conditions | None = None
    failed: tuple[Failure, ...] = ()
    valid: bool = True
    invalid_reasons: tuple[str, ...] = ()
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        """The JSON object, ready for ``json.dumps``."""
        return {
            "schema": SCHEMA,
            "type": "benchmark",
            **_rounded(self),
            "models": [model.to_json() for model in self.models],
        }


def _rounded(value: Any) -> Any:
    return to_plain(value, digits=_DIGITS)
