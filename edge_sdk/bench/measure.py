"""``measure``: runs all measurements of a plan, in the order with the least interference."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

import edge_sdk
from edge_sdk.bench.costs import (
    cold_start,
    measure_age,
    measure_energy,
    median_ms,
    profile_operators,
    run_sustained,
)
from edge_sdk.bench.plan import (
    BenchPlan,
    Camera,
    ChosenPictures,
    OpenedModel,
    OpeningOptions,
    open_to_measure,
    pictures_of_artifact,
    pictures_of_camera,
    pictures_of_folder,
)
from edge_sdk.bench.results import Benchmark, Failure, ModelResult, Settings
from edge_sdk.bench.timing import LatencyTimer, thread_counts, thread_points, time_interleaved
from edge_sdk.engines import parse_backend
from edge_sdk.errors import ArtifactError, BenchmarkError, EdgeClsError, SourceError
from edge_sdk.machine.board import System
from edge_sdk.machine.facts import read_machine
from edge_sdk.machine.power import EnergyCounter, open_energy
from edge_sdk.machine.watch import Conditions, Watch
from edge_sdk.types import utc_now

_MB = 1e6


class ModelMeasurement:
    """An open model and its result so far.

    Args:
        opened: the model; ``timer`` closes it.
        chosen: the pictures it classifies.

    Attributes:
        timer: times the model.
        result: so far.
    """

    def __init__(self, opened: OpenedModel, chosen: ChosenPictures) -> None:
        artifact = opened.classifier.artifact
        self.timer = LatencyTimer(opened.classifier, chosen.frames)
        self._opened, self._chosen = opened, chosen
        self._peak_bytes = 0
        self._no_cold_start = False
        self.result = ModelResult(
            path=str(artifact.path),
            name=artifact.path.stem,
            sha256=artifact.sha256,
            format=artifact.format,
            backend=opened.opening.backend,
            runtime=opened.runtime,
            xnnpack=opened.xnnpack,
            threads=opened.opening.threads,
            size_bytes=len(artifact.data),
            model_bytes=artifact.model_bytes,
            input_px=(artifact.preprocessing.width, artifact.preprocessing.height),
            pictures=chosen.described,
            load_ms=opened.load_ms,
            first_ms=self.timer.first(),
            notes=(
                *((opened.note,) if opened.note else ()),
                *((chosen.note,) if chosen.note else ()),
                *(f"omitted: {text}" for text in chosen.unreadable),
            ),
        )

    @property
    def name(self) -> str:
        """The model with backend and threads, for messages."""
        return f"{self.result.name} ({self.result.backend}, {_threads(self.result.threads)})"

    def note(self, text: str) -> None:
        """Adds a note for the reader."""
        self.result = replace(self.result, notes=(*self.result.notes, text))

    def cold_start(self, *, counts: bool) -> None:
        """Measures one more fresh process; a failure is noted, and ends the cold starts."""
        if self._no_cold_start:
            return
        files = self._chosen.files
        try:
            done = cold_start(self._opened.opening, files[0] if files else None)
        except BenchmarkError as error:
            self._no_cold_start = True
            self.note(f"the cold start was not measured: {error}")
            return
        if not counts:
            return
        starts = (*self.result.cold_starts_ms, done.ms)
        self._peak_bytes = max(self._peak_bytes, done.peak_rss_bytes or 0)
        self.result = replace(
            self.result,
            cold_starts_ms=starts,
            cold_start_ms=median_ms(starts),
            peak_rss_mb=self._peak_bytes / _MB or None,
        )

    def take_samples(self, precision_percent: float) -> None:
        """Copies the timings of the timer into the result."""
        timer = self.timer
        self.result = replace(
            self.result,
            warmup=timer.warmup,
            stable=timer.stable,
            settled=timer.runs > 0 and timer.half_width_percent() <= precision_percent,
            samples=timer.samples(),
        )

    def scale(self, plan: BenchPlan, seconds: float, between: Callable[[], object]) -> None:
        """Times it with other numbers of threads; a failure is noted."""
        if parse_backend(self._opened.backend).name == "edgetpu":
            self.note("the Edge TPU does not use threads of the processor")
            return
        counts = thread_counts(plan.cores)
        timers: list[LatencyTimer] = []
        try:
            with contextlib.ExitStack() as stack:
                for count in counts:
                    classifier = replace(self._opened.opening, threads=count).open()
                    timers.append(LatencyTimer(classifier, self._chosen.frames))
                    stack.callback(classifier.close)
                time_interleaved(
                    timers,
                    seconds=seconds,
                    precision_percent=plan.precision_percent,
                    seed=plan.seed,
                    between=between,
                    failed=_raise,
                )
        except EdgeClsError as error:
            self.note(f"throughput over threads was not measured: {error}")
        else:
            self.result = replace(self.result, scaling=thread_points(counts, timers))

    def profile(self, seconds: float) -> None:
        """Times its operators; if that is not possible, it is noted."""
        artifact = self._opened.classifier.artifact
        if artifact.kind != "tflite" or artifact.needs_edgetpu:
            self.note("single operators are timed only for a .tflite that runs on the processor")
            return
        middle = np.full(artifact.input.shape, 1, np.dtype(artifact.input.dtype))
        try:
            profile = profile_operators(
                artifact.data,
                middle,
                backend=self._opened.backend,
                threads=self.result.threads,
                seconds=seconds,
            )
        except EdgeClsError as error:
            self.note(f"single operators were not timed: {error}")
        else:
            self.result = replace(self.result, operators=profile)

    def sustain(self, seconds: float, system: System) -> None:
        """Runs without a pause.

        Raises:
            EngineError: an inference failed.
        """
        self.result = replace(self.result, sustained=run_sustained(self.timer, seconds, system))

    def measure_energy(self, seconds: float, counter: EnergyCounter) -> None:
        """Reads the energy counter idle and at work; a failure is noted."""
        try:
            energy = measure_energy(self.timer, seconds, counter)
        except OSError as error:
            self.note(f"energy was not measured: {error}")
        else:
            self.result = replace(self.result, energy=energy)

    def measure_age(self, camera: Camera, seconds: float) -> None:
        """Classifies a camera's frames.

        Raises:
            SourceError: the camera is missing or lost.
            EngineError: an inference failed.
        """
        with contextlib.closing(camera.open(self.result.input_px)) as source:
            age = measure_age(source, self.timer.classifier, camera=camera.name, seconds=seconds)
        self.result = replace(self.result, age=age)


def begin_measurement(opening: OpeningOptions, chosen: ChosenPictures | None) -> ModelMeasurement:
    """Opens a model to measure it.

    Args:
        opening: the model and its options.
        chosen: the pictures it classifies; None: those of the artifact.

    Raises:
        ArtifactError: the file is missing, damaged or not a classifier.
        EngineError: its backend is unknown or not installed, or the first inference failed.
    """
    opened = open_to_measure(opening)
    try:
        return ModelMeasurement(opened, chosen or pictures_of_artifact(opened.classifier.artifact))
    except BaseException:
        opened.classifier.close()
        raise


def _raise(_timer: LatencyTimer, error: EdgeClsError) -> None:
    raise error


def _threads(count: int) -> str:
    return f"{count} thread" + ("s" if count > 1 else "")


# Share of the time for one model that thread scaling, or operators, may use.
_SHARE = 0.25
_ENERGY_S = (1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """A benchmark, and the errors behind its ``failed``, in their order."""

    benchmark: Benchmark
    errors: tuple[EdgeClsError, ...]


def measure(
    plan: BenchPlan, *, system: System | None = None, note: Callable[[str], object] = lambda _: None
) -> Measured:
    """Runs the plan. A model that fails is omitted and reported; Ctrl-C keeps the figures so far.

    Args:
        plan: the measurements.
        system: the machine, for its facts.
        note: called with a short text on progress.

    Raises:
        SourceError: the pictures or the camera are missing; raised before any measurement.
    """
    session = _Session(plan, system or System(), note)
    try:
        session.run()
    except KeyboardInterrupt:
        session.complete = False
    finally:
        session.close()
    return session.measured()


class _Session:
    def __init__(self, plan: BenchPlan, system: System, note: Callable[[str], object]) -> None:
        self.complete = True
        self._plan, self._system, self._note = plan, system, note
        self._created = utc_now()
        self._machine = read_machine(system)
        self._watch = Watch(system, machine=self._machine)
        self._conditions: Conditions | None = None
        self._measurements: list[ModelMeasurement] = []
        self._failed: list[tuple[Failure, EdgeClsError]] = []

    def run(self) -> None:
        plan = self._plan
        chosen = self._pictures()
        self._watch.start()
        for opening in plan.openings:
            self._note(f"{opening.path.name}: opening")
            try:
                self._measurements.append(begin_measurement(opening, chosen))
            except EdgeClsError as error:
                self._fail(str(opening.path), opening.backend, opening.threads, error)
        for turn in range(plan.cold_starts + 1 if plan.cold_starts else 0):
            for measurement in list(self._measurements):
                self._note(f"{measurement.name}: cold start")
                measurement.cold_start(counts=turn > 0)
                self._watch.sample()
        self._warm()
        self._measure_details()
        self._measure_load()
        self._conditions = self._watch.finish()
        if plan.camera is not None:
            self._ages()

    def _pictures(self) -> ChosenPictures | None:
        plan = self._plan
        if plan.data is not None:
            return pictures_of_folder(plan.data, plan.seed)
        if plan.camera is None:
            return None
        self._note(f"{plan.camera.name}: taking pictures")
        size = self._size()
        if size is None:
            return None
        source = plan.camera.open(size)
        with contextlib.closing(source):
            return pictures_of_camera(source, plan.camera.name)

    def _size(self) -> tuple[int, int] | None:
        """Input size of the first readable model; None: none is, and each error is reported later."""
        for opening in self._plan.openings:
            with contextlib.suppress(ArtifactError):
                how = opening.artifact().preprocessing
                return how.width, how.height
        return None

    def _warm(self) -> None:
        if not self._measurements:
            return
        self._note(f"timing, up to {self._plan.seconds * len(self._measurements):g} s")
        by_timer = {id(measurement.timer): measurement for measurement in self._measurements}
        try:
            time_interleaved(
                [measurement.timer for measurement in self._measurements],
                seconds=self._plan.seconds,
                precision_percent=self._plan.precision_percent,
                seed=self._plan.seed,
                between=self._watch.sample,
                failed=lambda timer, error: self._drop(by_timer[id(timer)], error),
            )
        finally:
            for measurement in self._measurements:
                measurement.take_samples(self._plan.precision_percent)

    def _measure_details(self) -> None:
        """Measures threads and operators once per file and backend."""
        plan, seen = self._plan, set[tuple[str, str]]()
        seconds = max(plan.seconds * _SHARE, 0.1)
        for measurement in list(self._measurements):
            key = measurement.result.path, measurement.result.backend
            if key in seen:
                continue
            seen.add(key)
            alike = [d for d in self._measurements if (d.result.path, d.result.backend) == key]
            if len(alike) > 1:
                pairs = sorted(((d.result.threads, d.timer) for d in alike), key=lambda p: p[0])
                points = thread_points([p[0] for p in pairs], [p[1] for p in pairs])
                for other in alike:
                    other.result = replace(other.result, scaling=points)
            elif plan.cores:
                self._note(f"{measurement.name}: threads")
                measurement.scale(plan, seconds, self._watch.sample)
            if plan.operators:
                self._note(f"{measurement.name}: operators")
                measurement.profile(seconds)
            self._watch.sample()

    def _measure_load(self) -> None:
        """Measures energy and sustained speed."""
        plan = self._plan
        counter, why = open_energy(self._system) if plan.energy else (None, "")
        for measurement in list(self._measurements):
            if counter is not None:
                low, high = _ENERGY_S
                seconds = min(max(plan.seconds, low), high)
                self._note(f"{measurement.name}: energy")
                measurement.measure_energy(seconds, counter)
            elif why:
                measurement.note(why)
            if plan.sustained_s:
                self._note(f"{measurement.name}: {plan.sustained_s:g} s without a pause")
                try:
                    measurement.sustain(plan.sustained_s, self._system)
                except EdgeClsError as error:
                    self._drop(measurement, error)
            self._watch.sample()

    def _ages(self) -> None:
        camera = self._plan.camera
        assert camera is not None  # checked by the caller
        for measurement in list(self._measurements):
            self._note(f"{measurement.name}: {camera.name}, {self._plan.seconds:g} s")
            try:
                measurement.measure_age(camera, self._plan.seconds)
            except SourceError as error:
                measurement.note(f"the camera failed: {error}")
                self._fail(
                    measurement.result.path,
                    measurement.result.backend,
                    measurement.result.threads,
                    error,
                )
            except EdgeClsError as error:
                self._drop(measurement, error)

    def _drop(self, measurement: ModelMeasurement, error: EdgeClsError) -> None:
        self._measurements.remove(measurement)
        measurement.timer.close()
        self._fail(
            measurement.result.path, measurement.result.backend, measurement.result.threads, error
        )

    def _fail(self, path: str, backend: str, threads: int, error: EdgeClsError) -> None:
        failure = Failure(path, backend, threads, type(error).__name__, str(error))
        self._failed.append((failure, error))

    def close(self) -> None:
        for measurement in self._measurements:
            measurement.timer.close()

    def measured(self) -> Measured:
        conditions = self._conditions
        if conditions is None:
            with contextlib.suppress(RuntimeError):  # Ctrl-C before the watch was started
                conditions = self._watch.finish()
        reasons = conditions.invalid_reasons if conditions else ()
        notes = conditions.notes if conditions else ()
        models = tuple(
            replace(
                measurement.result,
                notes=(*measurement.result.notes, *notes),
                valid=not reasons,
                invalid_reasons=reasons,
                complete=self.complete,
            )
            for measurement in self._measurements
        )
        plan = self._plan
        return Measured(
            Benchmark(
                created=self._created,
                edgecls=edge_sdk.__version__,
                machine=self._machine,
                settings=Settings(plan.seconds, plan.precision_percent, plan.seed),
                models=models,
                conditions=conditions,
                failed=tuple(failure for failure, _ in self._failed),
                valid=not reasons,
                invalid_reasons=reasons,
                complete=self.complete,
            ),
            tuple(error for _, error in self._failed),
        )
