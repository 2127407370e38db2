"""What is known of one model so far: a result that grows while it is measured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edge_sdk.bench.age import measure_age
from edge_sdk.bench.costs import cold_start, median_ms
from edge_sdk.bench.opening import Opened, Opening, open_to_measure
from edge_sdk.bench.operators import profile_operators
from edge_sdk.bench.pictures import Chosen, pictures_of_artifact
from edge_sdk.bench.plan import Camera, Plan
from edge_sdk.bench.results import ModelResult
from edge_sdk.bench.scaling import thread_counts, thread_points
from edge_sdk.bench.sustained import measure_energy, run_sustained
from edge_sdk.bench.timing import Lane
from edge_sdk.bench.turns import take_turns
from edge_sdk.engines import parse_backend
from edge_sdk.errors import BenchmarkError, EdgeClsError
from edge_sdk.machine.energy import EnergyCounter
from edge_sdk.machine.system import System

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

    def __init__(self, opened: Opened, chosen: Chosen) -> None:
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

    def scale(self, plan: Plan, seconds: float, between: Callable[[], object]) -> None:
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


def begin_draft(opening: Opening, chosen: Chosen | None) -> Draft:
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
