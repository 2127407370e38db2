"""The parts of a benchmark's result: frozen values whose fields are the keys of the JSON."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_sdk.bench.median import interval_over_blocks


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
class Pictures:
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
