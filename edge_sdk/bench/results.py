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
    """Statistics of timings, in milliseconds; percentiles by linear interpolation.

    Attributes:
        n: number of timings.
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
        """Computes the statistics of timings and their blocks; None without timings."""
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
    """All timed classifications, slow ones too, in order of time; all of one length.

    Attributes:
        block: number (0-based) of the block of a run: models are interleaved block by block.
        at_s: start of the run, in seconds since the start of the measurement.
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
        """From a frame in memory to the answer: the three stages together."""
        stages = (self.preprocess_ms, self.inference_ms, self.postprocess_ms)
        return tuple(sum(run) for run in zip(*stages, strict=True))


@dataclass(frozen=True, slots=True)
class ThreadPoint:
    """One point of thread scaling: throughput with this number of threads; interleaved as well."""

    threads: int
    runs: int
    p50_ms: float
    ci95_ms: tuple[float, float] | None
    fps: float


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """One operator, run as a separate model.

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
    """The time of an inference by operator.

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
    """A part of a sustained run; clock and temperature are None if unknown."""

    at_s: float
    runs: int
    p50_ms: float
    fps: float
    cpu_mhz: float | None
    temperature_c: float | None


@dataclass(frozen=True, slots=True)
class Sustained:
    """A run without a pause, and the change of speed.

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
    """Energy of the whole processor package, from the machine's own counter.

    Attributes:
        source: where it was read, such as ``intel-rapl:0 package-0``.
        seconds, runs: duration of the work, and number of runs.
        joules_per_run: above idle; may be negative on a busy machine.
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
    """The age of answers to a camera's frames, from the sensor's timestamp to the answer.

    Attributes:
        camera: its specification.
        frames, seconds: number of classified frames, and duration.
        dropped: frames that a newer one replaced before they were read.
        duplicates: frames with the timestamp or the pixels of the previous one.
        unreadable: frames that could not be decoded.
        age_ms: of each frame with a timestamp.
        capture_ms: waiting time for each frame.
        note: for the reader, such as missing timestamps.
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
    """The classified pictures.

    Attributes:
        origin: ``data``, ``self-test`` (of the artifact) or ``camera``.
        place: folder or camera; empty for the self-test.
        n: number of different pictures, used in turn.
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
    """One model on one backend with one number of threads.

    Attributes:
        path, name, sha256, format: which model; ``format`` such as ``int8``.
        backend, runtime: as requested, and its package and version.
        xnnpack: whether the XNNPACK kernels run it; None if unknown.
        threads: for one inference.
        size_bytes, model_bytes: the file, and the model in it.
        input_px: ``(width, height)`` of the model's input.
        pictures: the classified pictures.
        load_ms: open, check and prepare the model, with libraries loaded.
        first_ms: the first classification after.
        cold_start_ms: median over ``cold_starts_ms``: a fresh process from its start to its first
            answer; None where it was not measured.
        peak_rss_mb: highest resident memory of such a process, in MB (1e6 bytes).
        warmup: classifications before timing began.
        stable: the warm-up ended because timings stopped falling, not by its time limit.
        settled: the median's interval became as narrow as requested.
        samples: every timed classification.
        scaling: throughput over threads, by threads.
        operators, sustained, energy, age: None if not measured; ``notes`` has the reason.
        notes: for the reader.
        valid, invalid_reasons: validity, by the state of the machine.
        complete: false if Ctrl-C ended it.
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
    """The requested settings.

    Attributes:
        seconds: longest time of warm timing for each model.
        precision_percent: requested half width of the median's interval.
        seed: of the order of models.
    """

    seconds: float
    precision_percent: float
    seed: int


@dataclass(frozen=True, slots=True)
class Benchmark:
    """All results of one ``edgecls bench``.

    Attributes:
        created: when, ISO 8601 in UTC.
        edgecls: version of this package.
        machine: the machine.
        conditions: state of that machine during the measurement; None if Ctrl-C came before.
        settings: the requested settings.
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
    """Reads a stored benchmark; unknown keys are ignored.

    Args:
        path: a file that ``bench --out`` wrote.
        any_schema: also try another schema.

    Raises:
        BaselineError: the file is missing, damaged, not a benchmark, or of another schema.
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
