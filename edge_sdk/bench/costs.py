"""Costs of a model besides latency: start, memory, heat, energy, age of answers, operators."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edge_sdk
from edge_sdk.bench.plan import OpeningOptions
from edge_sdk.bench.results import Age, Energy, OperatorProfile, OperatorTime, Sustained, Window
from edge_sdk.bench.timing import LatencyTimer
from edge_sdk.classifier import Classifier
from edge_sdk.engines import open_engine
from edge_sdk.engines.operators import Slice, SliceRunner, slice_operators
from edge_sdk.errors import (
    BenchmarkError,
    CorruptArtifactError,
    FrameError,
    NoFrameYetError,
    UnreadableImageError,
)
from edge_sdk.machine.board import System
from edge_sdk.machine.power import EnergyCounter, clock_now, temperature
from edge_sdk.ports import FrameSource, LiveSource
from edge_sdk.types import Frame, Tensor

_TIMEOUT_S = 300
# Memory may still grow after the first answer, by buffers of later runs.
_RUNS_AFTER = 5
# The minimal program of a device: further imports would be measured, too. Peak memory is VmHWM, not
# ru_maxrss, which a child inherits from its parent.
_CHILD = """
import json, sys, time
options = json.loads(sys.argv[1])
from edge_sdk import Classifier
classifier = Classifier.open(
    options["path"], options["backend"], threads=options["threads"], **options["how"]
)
if options["picture"]:
    from edge_sdk import read_image
    frame = read_image(options["picture"])
else:
    import numpy as np
    from edge_sdk import Frame
    shape = classifier.artifact.input.shape[1:]
    manifest = classifier.artifact.manifest
    pixels = manifest.selftest.pixels[0] if manifest else np.full(shape, 128, np.uint8)
    gray = shape[2] == 1
    frame = Frame(np.ascontiguousarray(pixels[:, :, 0] if gray else pixels), "gray" if gray else "rgb")
classifier.classify(frame)
answered = time.monotonic_ns()
for _ in range(options["more"]):
    classifier.classify(frame)
try:
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
except (OSError, StopIteration):
    peak = None
print(json.dumps([answered, peak]))
"""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Figures of one fresh process.

    Attributes:
        ms: from its start to its first answer.
        peak_rss_bytes: its peak resident memory; None if the system does not report it.
    """

    ms: float
    peak_rss_bytes: int | None


def cold_start(opening: OpeningOptions, picture: Path | None) -> ColdStart:
    """Starts a fresh process, which classifies one picture.

    Files may be in the disk cache, and bytecode compiled; the caller discards the first call. The child
    does not import from the current folder (``-P``).

    Args:
        opening: the model and its options.
        picture: a file to decode; None: the first picture of the self-test, or a gray one.

    Raises:
        BenchmarkError: it failed or hung.
    """
    options = {
        "path": str(opening.path),
        "backend": opening.backend,
        "threads": opening.threads,
        "how": {
            "labels": None if opening.labels is None else list(opening.labels),
            "normalize": opening.normalize,
            "crop": opening.crop,
        },
        "picture": None if picture is None else str(picture),
        "more": _RUNS_AFTER,
    }
    command = [sys.executable, "-P", "-c", _CHILD, json.dumps(options)]
    # So that the child also finds a package that is run from its folder without installation.
    here = str(Path(edge_sdk.__file__).parents[1])
    given = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, given] if given else [here])}
    began = time.monotonic_ns()
    try:
        child = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(
            f"{opening.path}: a fresh process gave no answer within {_TIMEOUT_S} s"
        ) from error
    lines = child.stdout.decode("utf-8", "replace").strip().splitlines()
    if child.returncode != 0 or not lines:
        errors = child.stderr.decode("utf-8", "replace").strip().splitlines() or ["no output"]
        raise BenchmarkError(
            f"{opening.path}: a fresh process could not classify with it ({errors[-1]})"
        )
    try:
        answered, peak = map(int, json.loads(lines[-1]))
    except (ValueError, TypeError) as error:  # a library that prints at the end
        raise BenchmarkError(
            f"{opening.path}: the output of a fresh process ends with {lines[-1][:80]!r}, expected its "
            "figures; find the library that prints"
        ) from error
    return ColdStart((answered - began) / 1e6, peak)


def median_ms(starts: tuple[float, ...]) -> float | None:
    """The median of cold starts; None if there are none."""
    return float(np.median(starts)) if starts else None


_WINDOWS = 30
_WINDOW_LEAST_S = 0.5
_QUARTER = 4
_IDLE_S = 1.0


def run_sustained(timer: LatencyTimer, seconds: float, system: System) -> Sustained:
    """Classifies without a pause, and reads clock and temperature between windows.

    Args:
        timer: classifies; its samples are not changed.
        seconds: how long; a heat sink takes minutes to warm up.
        system: the machine, for clock and temperature.
    """
    window_s = max(seconds / _WINDOWS, _WINDOW_LEAST_S)
    windows: list[Window] = []
    began_s = time.perf_counter()
    while (at_s := time.perf_counter() - began_s) < seconds or not windows:
        taken = timer.busy(window_s)
        spent_s = time.perf_counter() - began_s - at_s
        windows.append(
            Window(
                at_s=at_s,
                runs=len(taken),
                p50_ms=float(np.median(taken)),
                fps=len(taken) / spent_s,
                cpu_mhz=clock_now(system),
                temperature_c=temperature(system),
            )
        )
    return Sustained(time.perf_counter() - began_s, tuple(windows), slowdown_percent(windows))


def slowdown_percent(windows: list[Window]) -> float:
    """Change of the median latency from the first to the last quarter of the windows, in percent."""
    quarter = max(1, len(windows) // _QUARTER)
    first = float(np.median([window.p50_ms for window in windows[:quarter]]))
    last = float(np.median([window.p50_ms for window in windows[-quarter:]]))
    return 100 * (last / first - 1)


def measure_energy(timer: LatencyTimer, seconds: float, counter: EnergyCounter) -> Energy:
    """Reads an energy counter over a second idle and ``seconds`` of work.

    Args:
        timer: classifies; its samples are not changed.
        seconds: of work.
        counter: the machine's.
    """
    before_j, before_s = counter.joules(), time.perf_counter()
    time.sleep(_IDLE_S)
    idle_j, idle_s = counter.joules(), time.perf_counter()
    runs = len(timer.busy(seconds))
    busy_j, busy_s = counter.joules(), time.perf_counter()
    idle_watts = (idle_j - before_j) / (idle_s - before_s)
    return Energy(
        source=counter.name,
        seconds=busy_s - idle_s,
        runs=runs,
        joules_per_run=(busy_j - idle_j - idle_watts * (busy_s - idle_s)) / runs,
        busy_watts=(busy_j - idle_j) / (busy_s - idle_s),
        idle_watts=idle_watts,
    )


# Frames in a camera's queue at opening are older than later ones.
_SETTLE_FRAMES = 5
_NO_TIMES = "this camera gives no timestamps, so ages are not known"


def measure_age(
    source: FrameSource,
    classifier: Classifier,
    *,
    camera: str,
    seconds: float,
    between: Callable[[], object] = lambda: None,
) -> Age:
    """Classifies a camera's frames as ``edgecls run`` does, and measures the age of each answer.

    A duplicate has the timestamp of the previous frame or, without timestamps, its pixels.

    Args:
        source: an open camera; stays open.
        classifier: stays open.
        camera: name of the source in the report.
        seconds: how long, after the first few frames, which are discarded.
        between: called after every frame.

    Raises:
        SourceError: the camera is lost.
        EngineError: an inference failed.
    """
    tally = _Tally(source)
    until_s, began_s = float("inf"), 0.0
    seen = 0
    asked_s = time.monotonic()
    while time.monotonic() < until_s:
        began_ns = time.monotonic_ns()
        try:
            frame = source.read()
            if frame is None:
                break
            captured_ns = time.monotonic_ns()
            classifier.classify(frame)
            answered_ns = time.monotonic_ns()
        except NoFrameYetError:
            if seen < _SETTLE_FRAMES and time.monotonic() - asked_s > seconds:
                break
            continue
        except (UnreadableImageError, FrameError):
            tally.unreadable += 1
            continue
        seen += 1
        if seen <= _SETTLE_FRAMES:
            tally.begin(frame)
            began_s = time.monotonic()
            until_s = began_s + seconds if seen == _SETTLE_FRAMES else until_s
        else:
            tally.add(frame, (captured_ns - began_ns) / 1e6, answered_ns)
        between()
    return tally.result(camera, time.monotonic() - began_s if seen else 0.0)


class _Tally:
    """Counters of a camera measurement; drops are counted from ``begin`` on."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._dropped_before = self._dropped()
        self._age_ms: list[float] = []
        self._capture_ms: list[float] = []
        self._last: tuple[int, int | None] | None = None
        self._duplicates = 0
        self.unreadable = 0

    def begin(self, frame: Frame) -> None:
        self._dropped_before = self._dropped()
        self._last = _mark(frame)

    def add(self, frame: Frame, capture_ms: float, answered_ns: int) -> None:
        mark = _mark(frame)
        self._duplicates += mark == self._last
        self._last = mark
        self._capture_ms.append(capture_ms)
        if frame.timestamp_ns is not None:
            self._age_ms.append((answered_ns - frame.timestamp_ns) / 1e6)

    def result(self, camera: str, seconds: float) -> Age:
        frames = len(self._capture_ms)
        return Age(
            camera=camera,
            frames=frames,
            seconds=seconds,
            dropped=self._dropped() - self._dropped_before,
            duplicates=self._duplicates,
            unreadable=self.unreadable,
            age_ms=tuple(self._age_ms),
            capture_ms=tuple(self._capture_ms),
            note=_NO_TIMES if frames and not self._age_ms else "",
        )

    def _dropped(self) -> int:
        return self._source.dropped if isinstance(self._source, LiveSource) else 0


def _mark(frame: Frame) -> tuple[int, int | None]:
    """A key of the frame: duplicates have the same key."""
    if frame.timestamp_ns is not None:
        return 0, frame.timestamp_ns
    return zlib.crc32(frame.pixels.tobytes()), None


_ROUNDS_MIN, _ROUNDS_MAX = 3, 50
# After another operator the weights are not in the cache, as in the whole model. Reading the clock
# takes as long as a small operator, so short ones are timed over several runs.
_SHORT_NS, _REPEAT = 50_000, 5


def profile_operators(
    model: bytes, tensor: Tensor, *, backend: str, threads: int, seconds: float
) -> OperatorProfile:
    """Times each operator alone, interleaved with the whole model; takes the minimum of many rounds.

    The minimum, since other load only adds time, and more to longer operators (see the documentation
    of Python's ``timeit``): shares stay correct.

    Args:
        model: the bytes of a ``.tflite`` file.
        tensor: an input of the whole model, in its dtype.
        backend: a CPU backend of TensorFlow Lite; the operators run in LiteRT.
        threads: for one inference.
        seconds: time limit without loading; at least three rounds are run.

    Raises:
        EngineNotInstalledError: LiteRT is missing.
        EngineError: the model cannot be cut.
    """
    xnnpack = not backend.endswith("-noxnnpack")
    runners: list[tuple[Slice, SliceRunner]] = []
    not_runnable: list[str] = []
    for piece in slice_operators(model):
        try:
            runners.append((piece, SliceRunner(piece.model, threads=threads, xnnpack=xnnpack)))
        except CorruptArtifactError:
            not_runnable.append(piece.operator)
    whole = open_engine(model, backend, threads=threads)
    times = np.zeros((_ROUNDS_MAX, len(runners)))
    wholes = np.zeros(_ROUNDS_MAX)
    clock, until_s, rounds = time.perf_counter_ns, time.perf_counter() + seconds, 0
    try:
        for row in range(_ROUNDS_MAX):
            for column, (_, runner) in enumerate(runners):
                times[row, column] = _timed(runner)
            whole.infer(tensor)
            began = clock()
            whole.infer(tensor)
            wholes[row] = clock() - began
            rounds = row + 1
            if rounds >= _ROUNDS_MIN and time.perf_counter() > until_s:
                break
    finally:
        whole.close()
    shortest = times[:rounds].min(axis=0) / 1e6 if runners else np.zeros(0)
    total = float(shortest.sum())
    return OperatorProfile(
        operators=tuple(
            OperatorTime(piece.index, piece.operator, piece.output, float(ms), float(ms) / total)
            for (piece, _), ms in zip(runners, shortest, strict=True)
        ),
        sum_ms=total,
        whole_ms=float(wholes[:rounds].min()) / 1e6,
        note=f"could not run alone: {', '.join(sorted(set(not_runnable)))}" if not_runnable else "",
    )


def _timed(runner: SliceRunner) -> float:
    """Nanoseconds of one run; the mean of several if one is short."""
    run, clock = runner.run, time.perf_counter_ns
    run()
    began = clock()
    run()
    taken = clock() - began
    if taken >= _SHORT_NS:
        return taken
    began = clock()
    for _ in range(_REPEAT):
        run()
    return (clock() - began) / _REPEAT
