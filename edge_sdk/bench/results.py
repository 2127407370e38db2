"""The results of a benchmark: frozen values whose fields are the keys of the JSON, written and read.

The fields are the keys of the JSON; what can be computed from the samples (``latency_ms``,
``stages_ms``, ``throughput_fps``, ``runs``) is written for readers and computed again when read.
``edge_sdk.bench.results`` reads it back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.bench.median import interval_over_blocks
from edge_sdk.errors import BaselineError
from edge_sdk.files import TEXT_BYTES, read_file
from edge_sdk.machine.facts import Machine
from edge_sdk.machine.watch import Conditions
from edge_sdk.plain import from_plain, to_plain


@dataclass(frozen=True, slots=True)
class Distribution:
    """What became of many timings, in milliseconds; percentiles by linear interpolation.

    Attributes:
        n: how many.
        ci95: distribution-free 95 % interval of the median, see ``interval_of_median``; None with
            fewer than six. Where blocks are known it also covers the interval of their medians,
            which is the wider one where the machine drifts.
    """

    n: int
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    mean: float
    std: float
    ci95: tuple[float, float] | None

    @classmethod
    def of(cls, values_ms: tuple[float, ...], block: tuple[int, ...] = ()) -> Distribution | None:
        """Describes some timings, and the blocks that they belong to; None of none."""
        if not values_ms:
            return None
        values = np.array(values_ms)
        p50, p90, p95, p99 = np.percentile(values, (50, 90, 95, 99)).tolist()
        return cls(
            n=len(values),
            min=float(values.min()),
            p50=p50,
            p90=p90,
            p95=p95,
            p99=p99,
            max=float(values.max()),
            mean=float(values.mean()),
            std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
            ci95=interval_over_blocks(values, np.array(block, np.int64)),
        )


@dataclass(frozen=True, slots=True)
class Samples:
    """Every timed classification, slow ones too, in the order they were taken; all of one length.

    Attributes:
        block: number of the turn (0-based) that a run belongs to: models take turns.
        at_s: when it began, in seconds since the measurement did.
        preprocess_ms, inference_ms, postprocess_ms: its stages.
    """

    block: tuple[int, ...] = ()
    at_s: tuple[float, ...] = ()
    preprocess_ms: tuple[float, ...] = ()
    inference_ms: tuple[float, ...] = ()
    postprocess_ms: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.block)

    @property
    def total_ms(self) -> tuple[float, ...]:
        """From a frame in hand to the answer: the three stages together."""
        stages = (self.preprocess_ms, self.inference_ms, self.postprocess_ms)
        return tuple(sum(run) for run in zip(*stages, strict=True))


@dataclass(frozen=True, slots=True)
class ThreadPoint:
    """One point of thread scaling: how fast with so many threads; measured in turns as well."""

    threads: int
    runs: int
    p50_ms: float
    ci95_ms: tuple[float, float] | None
    fps: float


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """One operator, run as a model of its own.

    Attributes:
        index: in the graph.
        operator: its name, as ``CONV_2D``.
        output: name of the tensor that it computes.
        ms: the shortest of many rounds.
        share: of the sum of all, 0..1.
    """

    index: int
    operator: str
    output: str
    ms: float
    share: float


@dataclass(frozen=True, slots=True)
class OperatorProfile:
    """Where an inference's time goes, operator by operator.

    Attributes:
        operators: in the order of the graph; without those that could not be run alone.
        sum_ms: of ``operators``.
        whole_ms: the whole model, likewise, in turns with them; alone, operators are not fused and
            find their data where the whole does not, so that the sum differs.
        note: what is missing; empty where nothing is.
    """

    operators: tuple[OperatorTime, ...]
    sum_ms: float
    whole_ms: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a sustained run; clock and temperature are None where the machine does not tell."""

    at_s: float
    runs: int
    p50_ms: float
    fps: float
    cpu_mhz: float | None
    temperature_c: float | None


@dataclass(frozen=True, slots=True)
class Sustained:
    """A run without a pause, and whether the machine kept its speed.

    Attributes:
        seconds: how long.
        windows: its parts, in order.
        slowdown_percent: median latency of the last quarter against the first; positive is slower.
    """

    seconds: float
    windows: tuple[Window, ...]
    slowdown_percent: float


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy as the machine's own counter tells it, for the whole processor package.

    Attributes:
        source: where it was read, such as ``intel-rapl:0 package-0``.
        seconds, runs: how long the counter was watched at work, and how much was done.
        joules_per_run: above idle; may come out negative on a busy machine.
        busy_watts, idle_watts: at work and just before.
    """

    source: str
    seconds: float
    runs: int
    joules_per_run: float
    busy_watts: float
    idle_watts: float


@dataclass(frozen=True, slots=True)
class Age:
    """A camera's frames: how old each decision was, from the sensor's time to the answer.

    Attributes:
        camera: its specification.
        frames, seconds: classified, in how long.
        dropped: frames that a newer one replaced before they were read.
        duplicates: frames with the timestamp or the very pixels of the one before.
        unreadable: frames that were no picture.
        age_ms: of each frame that has a timestamp.
        capture_ms: how long each frame was waited for.
        note: what a reader must know, as that the camera gives no timestamps.
    """

    camera: str
    frames: int
    seconds: float
    dropped: int
    duplicates: int
    unreadable: int
    age_ms: tuple[float, ...]
    capture_ms: tuple[float, ...]
    note: str = ""

    @property
    def age(self) -> Distribution | None:
        """Of ``age_ms``; None without timestamps."""
        return Distribution.of(self.age_ms)

    @property
    def capture(self) -> Distribution | None:
        """Of ``capture_ms``."""
        return Distribution.of(self.capture_ms)


@dataclass(frozen=True, slots=True)
class PictureSet:
    """What was classified.

    Attributes:
        origin: ``data``, ``self-test`` (of the artifact) or ``camera``.
        place: folder or camera; empty for the self-test.
        n: how many different ones, in turn.
        size_px: ``(width, height)`` of the first.
    """

    origin: str
    place: str
    n: int
    size_px: tuple[int, int]


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
    pictures: PictureSet
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


def read_benchmark(path: Path, *, any_schema: bool = False) -> Benchmark:
    """Reads a stored benchmark; keys that it does not know are ignored.

    Args:
        path: a file that ``bench --out`` wrote.
        any_schema: try one of another schema, too.

    Raises:
        BaselineError: no such file, no benchmark, another schema, or damaged.
    """
    try:
        text = read_file(path, TEXT_BYTES)
    except OSError as error:
        raise BaselineError(
            f"{path}: cannot be read ({error.strerror or error}); give a file that edgecls bench "
            "MODEL --out FILE.json wrote"
        ) from error
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BaselineError(
            f"{path}: not JSON ({error}); give a file that edgecls bench MODEL --out FILE.json wrote"
        ) from error
    return parse_benchmark(content, str(path), any_schema=any_schema)


def parse_benchmark(content: object, name: str, *, any_schema: bool = False) -> Benchmark:
    """The benchmark that a JSON object describes.

    Args:
        content: what ``json.loads`` gave.
        name: what to call it in errors.
        any_schema: try one of another schema, too.

    Raises:
        BaselineError: of another type or schema, or a key is missing or of the wrong kind.
    """
    kind = content.get("type") if isinstance(content, dict) else type(content).__name__
    if not isinstance(content, dict) or kind != "benchmark":
        raise BaselineError(
            f"{name}: is of type {kind!r}, expected a benchmark; give a file that edgecls bench MODEL "
            "--out FILE.json wrote"
        )
    schema = content.get("schema")
    if schema != SCHEMA and not any_schema:
        raise BaselineError(
            f"{name}: has schema {schema!r:.20}, this edgecls reads {SCHEMA}; measure it again with "
            "edgecls bench MODEL --out FILE.json, or try all the same with --force"
        )
    try:
        benchmark = from_plain(Benchmark, content)
        for model in benchmark.models:
            _check_lengths(model.samples)
    except ValueError as error:
        raise BaselineError(
            f"{name}: {error}; the file is damaged or was edited, measure it again with edgecls "
            "bench MODEL --out FILE.json"
        ) from error
    return benchmark


def _check_lengths(samples: object) -> None:
    lengths = {len(getattr(samples, field.name)) for field in fields(samples)}  # type: ignore[arg-type]
    if len(lengths) != 1:
        raise ValueError("its samples are lists of different lengths")
