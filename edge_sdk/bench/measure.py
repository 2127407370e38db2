"""``measure``: everything that a plan asks for, in an order that disturbs the least."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import edge_sdk
from edge_sdk.bench.draft import Draft, begin_draft
from edge_sdk.bench.pictures import Chosen, pictures_of_camera, pictures_of_folder
from edge_sdk.bench.plan import Plan
from edge_sdk.bench.results import Benchmark, Failure, Settings
from edge_sdk.bench.scaling import thread_points
from edge_sdk.bench.turns import take_turns
from edge_sdk.errors import ArtifactError, EdgeClsError, SourceError
from edge_sdk.machine.conditions import Conditions
from edge_sdk.machine.energy import open_energy
from edge_sdk.machine.facts import read_machine
from edge_sdk.machine.system import System
from edge_sdk.machine.watch import Watch
from edge_sdk.records import utc_now

# Of the time for one model: what a look at other numbers of threads or at operators may take.
_SHARE = 0.25
_ENERGY_S = (1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """A benchmark, and the errors behind its ``failed``, in their order."""

    benchmark: Benchmark
    errors: tuple[EdgeClsError, ...]


def measure(
    plan: Plan, *, system: System | None = None, tell: Callable[[str], object] = lambda _: None
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
    def __init__(self, plan: Plan, system: System, tell: Callable[[str], object]) -> None:
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

    def _pictures(self) -> Chosen | None:
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
