"""``measure``: everything that a plan asks for, in an order that disturbs the least."""

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
from edge_sdk.bench.timing import Lane, take_turns, thread_counts, thread_points
from edge_sdk.engines import parse_backend
from edge_sdk.errors import ArtifactError, BenchmarkError, EdgeClsError, SourceError
from edge_sdk.machine.board import System
from edge_sdk.machine.facts import read_machine
from edge_sdk.machine.power import EnergyCounter, open_energy
from edge_sdk.machine.watch import Conditions, Watch
from edge_sdk.types import utc_now

_MB = 1e6


class Draft:
    """A model that is open, and its result so far.

    Args:
        opened: the model; the draft's lane closes it.
        chosen: what it classifies.

    Attributes:
        lane: what times it.
        result: so far.
    """

    def __init__(self, opened: OpenedModel, chosen: ChosenPictures) -> None:
        artifact = opened.classifier.artifact
        self.lane = Lane(opened.classifier, chosen.frames)
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
            first_ms=self.lane.first(),
            notes=(
                *((opened.note,) if opened.note else ()),
                *((chosen.note,) if chosen.note else ()),
                *(f"left out: {text}" for text in chosen.unreadable),
            ),
        )

    @property
    def name(self) -> str:
        """The model as a person tells it from the others."""
        return f"{self.result.name} ({self.result.backend}, {_threads(self.result.threads)})"

    def note(self, text: str) -> None:
        """Adds a sentence for the reader."""
        self.result = replace(self.result, notes=(*self.result.notes, text))

    def cold_start(self, *, counts: bool) -> None:
        """One fresh process more; where it fails, a note says so, and there are no more."""
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
        """Takes over what the lane has timed."""
        lane = self.lane
        self.result = replace(
            self.result,
            warmup=lane.warmup,
            stable=lane.stable,
            settled=lane.runs > 0 and lane.half_width_percent() <= precision_percent,
            samples=lane.samples(),
        )

    def scale(self, plan: BenchPlan, seconds: float, between: Callable[[], object]) -> None:
        """Times it with other numbers of threads; where one fails, a note says so."""
        if parse_backend(self._opened.backend).name == "edgetpu":
            self.note("threads of the processor do not matter to the Edge TPU")
            return
        counts = thread_counts(plan.cores)
        lanes: list[Lane] = []
        try:
            with contextlib.ExitStack() as stack:
                for count in counts:
                    classifier = replace(self._opened.opening, threads=count).open()
                    lanes.append(Lane(classifier, self._chosen.frames))
                    stack.callback(classifier.close)
                take_turns(
                    lanes,
                    seconds=seconds,
                    precision_percent=plan.precision_percent,
                    seed=plan.seed,
                    between=between,
                    failed=_raise,
                )
        except EdgeClsError as error:
            self.note(f"throughput over threads was not measured: {error}")
        else:
            self.result = replace(self.result, scaling=thread_points(counts, lanes))

    def profile(self, seconds: float) -> None:
        """Times its operators; where that cannot be, a note says so."""
        artifact = self._opened.classifier.artifact
        if artifact.kind != "tflite" or artifact.needs_edgetpu:
            self.note("single operators can be timed only of a .tflite that runs on the processor")
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
        self.result = replace(self.result, sustained=run_sustained(self.lane, seconds, system))

    def measure_energy(self, seconds: float, counter: EnergyCounter) -> None:
        """Reads the energy counter at rest and at work; a note says where it stopped to answer."""
        try:
            energy = measure_energy(self.lane, seconds, counter)
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
            age = measure_age(source, self.lane.classifier, camera=camera.name, seconds=seconds)
        self.result = replace(self.result, age=age)


def begin_draft(opening: OpeningOptions, chosen: ChosenPictures | None) -> Draft:
    """Opens a model to measure it.

    Args:
        opening: how.
        chosen: what it classifies; None: pictures of its own.

    Raises:
        ArtifactError: the file is missing, damaged or no classifier.
        EngineError: its backend is unknown or missing here, or the first inference failed.
    """
    opened = open_to_measure(opening)
    try:
        return Draft(opened, chosen or pictures_of_artifact(opened.classifier.artifact))
    except BaseException:
        opened.classifier.close()
        raise


def _raise(_lane: Lane, error: EdgeClsError) -> None:
    raise error


def _threads(count: int) -> str:
    return f"{count} thread" + ("s" if count > 1 else "")


# Of the time for one model: what a look at other numbers of threads or at operators may take.
_SHARE = 0.25
_ENERGY_S = (1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """A benchmark, and the errors behind its ``failed``, in their order."""

    benchmark: Benchmark
    errors: tuple[EdgeClsError, ...]


def measure(
    plan: BenchPlan, *, system: System | None = None, tell: Callable[[str], object] = lambda _: None
) -> Measured:
    """Measures; a model that fails is left out and told of, Ctrl-C ends it with what there is.

    Args:
        plan: what.
        system: where facts about the machine are read.
        tell: is told what is being done, in a few words.

    Raises:
        SourceError: the pictures or the camera are not there; before anything is measured.
    """
    session = _Session(plan, system or System(), tell)
    try:
        session.run()
    except KeyboardInterrupt:
        session.complete = False
    finally:
        session.close()
    return session.measured()


class _Session:
    def __init__(self, plan: BenchPlan, system: System, tell: Callable[[str], object]) -> None:
        self.complete = True
        self._plan, self._system, self._tell = plan, system, tell
        self._created = utc_now()
        self._machine = read_machine(system)
        self._watch = Watch(system, machine=self._machine)
        self._conditions: Conditions | None = None
        self._drafts: list[Draft] = []
        self._failed: list[tuple[Failure, EdgeClsError]] = []

    def run(self) -> None:
        plan = self._plan
        chosen = self._pictures()
        self._watch.start()
        for opening in plan.openings:
            self._tell(f"{opening.path.name}: opening")
            try:
                self._drafts.append(begin_draft(opening, chosen))
            except EdgeClsError as error:
                self._fail(str(opening.path), opening.backend, opening.threads, error)
        for turn in range(plan.cold_starts + 1 if plan.cold_starts else 0):
            for draft in list(self._drafts):
                self._tell(f"{draft.name}: cold start")
                draft.cold_start(counts=turn > 0)
                self._watch.sample()
        self._warm()
        self._look_inside()
        self._keep_on()
        self._conditions = self._watch.finish()
        if plan.camera is not None:
            self._ages()

    def _pictures(self) -> ChosenPictures | None:
        plan = self._plan
        if plan.data is not None:
            return pictures_of_folder(plan.data, plan.seed)
        if plan.camera is None:
            return None
        self._tell(f"{plan.camera.name}: taking pictures")
        size = self._size()
        if size is None:
            return None
        source = plan.camera.open(size)
        with contextlib.closing(source):
            return pictures_of_camera(source, plan.camera.name)

    def _size(self) -> tuple[int, int] | None:
        """Of the first model that can be read; None: there is none, as each will say itself."""
        for opening in self._plan.openings:
            with contextlib.suppress(ArtifactError):
                how = opening.artifact().preprocessing
                return how.width, how.height
        return None

    def _warm(self) -> None:
        if not self._drafts:
            return
        self._tell(f"timing, up to {self._plan.seconds * len(self._drafts):g} s")
        by_lane = {id(draft.lane): draft for draft in self._drafts}
        try:
            take_turns(
                [draft.lane for draft in self._drafts],
                seconds=self._plan.seconds,
                precision_percent=self._plan.precision_percent,
                seed=self._plan.seed,
                between=self._watch.sample,
                failed=lambda lane, error: self._drop(by_lane[id(lane)], error),
            )
        finally:
            for draft in self._drafts:
                draft.take_samples(self._plan.precision_percent)

    def _look_inside(self) -> None:
        """Threads and operators: once per file and backend, since they hold for all of them."""
        plan, seen = self._plan, set[tuple[str, str]]()
        seconds = max(plan.seconds * _SHARE, 0.1)
        for draft in list(self._drafts):
            key = draft.result.path, draft.result.backend
            if key in seen:
                continue
            seen.add(key)
            alike = [d for d in self._drafts if (d.result.path, d.result.backend) == key]
            if len(alike) > 1:
                pairs = sorted(((d.result.threads, d.lane) for d in alike), key=lambda p: p[0])
                points = thread_points([p[0] for p in pairs], [p[1] for p in pairs])
                for other in alike:
                    other.result = replace(other.result, scaling=points)
            elif plan.cores:
                self._tell(f"{draft.name}: threads")
                draft.scale(plan, seconds, self._watch.sample)
            if plan.operators:
                self._tell(f"{draft.name}: operators")
                draft.profile(seconds)
            self._watch.sample()

    def _keep_on(self) -> None:
        plan = self._plan
        counter, why = open_energy(self._system) if plan.energy else (None, "")
        for draft in list(self._drafts):
            if counter is not None:
                low, high = _ENERGY_S
                seconds = min(max(plan.seconds, low), high)
                self._tell(f"{draft.name}: energy")
                draft.measure_energy(seconds, counter)
            elif why:
                draft.note(why)
            if plan.sustained_s:
                self._tell(f"{draft.name}: {plan.sustained_s:g} s without a pause")
                try:
                    draft.sustain(plan.sustained_s, self._system)
                except EdgeClsError as error:
                    self._drop(draft, error)
            self._watch.sample()

    def _ages(self) -> None:
        camera = self._plan.camera
        assert camera is not None  # whoever calls this has looked
        for draft in list(self._drafts):
            self._tell(f"{draft.name}: {camera.name}, {self._plan.seconds:g} s")
            try:
                draft.measure_age(camera, self._plan.seconds)
            except SourceError as error:
                draft.note(f"the camera failed: {error}")
                self._fail(draft.result.path, draft.result.backend, draft.result.threads, error)
            except EdgeClsError as error:
                self._drop(draft, error)

    def _drop(self, draft: Draft, error: EdgeClsError) -> None:
        self._drafts.remove(draft)
        draft.lane.close()
        self._fail(draft.result.path, draft.result.backend, draft.result.threads, error)

    def _fail(self, path: str, backend: str, threads: int, error: EdgeClsError) -> None:
        failure = Failure(path, backend, threads, type(error).__name__, str(error))
        self._failed.append((failure, error))

    def close(self) -> None:
        for draft in self._drafts:
            draft.lane.close()

    def measured(self) -> Measured:
        conditions = self._conditions
        if conditions is None:
            with contextlib.suppress(RuntimeError):  # Ctrl-C came before it was started
                conditions = self._watch.finish()
        reasons = conditions.invalid_reasons if conditions else ()
        notes = conditions.notes if conditions else ()
        models = tuple(
            replace(
                draft.result,
                notes=(*draft.result.notes, *notes),
                valid=not reasons,
                invalid_reasons=reasons,
                complete=self.complete,
            )
            for draft in self._drafts
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
