"""All contestants in turns: answers, latency, cold starts, memory, size of their installation."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.contestants import REFERENCES, Contestant
from benchmarks.peers.material import Material
from benchmarks.peers.processes import Surroundings, Worker, start_once

# Linear steps, one linear step and Pillow's bicubic see other pixels at sharp edges; float32 does
# not round. Beyond this, another network or other channels would have answered.
SCORE_TOLERANCE = 0.25
# What makes an environment, and is no part of an installation.
_TOOLS = ("pip", "setuptools", "wheel", "_distutils_hack", "pkg_resources", "distutils-precedence")

Answers = list[list[list[Any]]]  # of each frame: (label, score), best first


class WrongAnswerError(Exception):
    """A contestant's answer differs from the bare interpreter's."""


@dataclass(slots=True)
class Measured:
    """What was measured of one contestant.

    Attributes:
        blocks_ms: latencies, a list for each round.
        cpu_ms: processor time per frame, over all threads, for each round.
        cold_start_ms: from before the start of a process to its first answer.
        peak_rss_mb: of these processes, in 10⁶ bytes.
        install_mb: of its environment's packages.
        packages: with their versions.
    """

    blocks_ms: list[list[float]] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    cold_start_ms: list[float] = field(default_factory=list)
    peak_rss_mb: list[float] = field(default_factory=list)
    install_mb: float = 0.0
    packages: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: rounds of so many runs each, fresh processes, seed of the order."""

    rounds: int
    runs: int
    starts: int
    seed: int


class Arena:
    """Measures contestants in turns.

    Args:
        environments: the folder that ``make_environments`` filled.
        material: what they are given.
        contestants: who takes part.
        surroundings: their environment variables.
        plan: how much.
        note: gets a line of text for each step.
    """

    def __init__(
        self,
        environments: Path,
        material: Material,
        contestants: Sequence[Contestant],
        surroundings: Surroundings,
        plan: Plan,
        note: Callable[[str], None],
    ) -> None:
        self._environments, self._material = environments, material
        self._contestants, self._surroundings = contestants, surroundings
        self._plan, self._note = plan, note
        self._order = random.Random(plan.seed)
        self._expected: dict[str, Answers] = {}

    def measure(self) -> dict[str, Measured]:
        """By name.

        Raises:
            WorkerError: a worker does not start, or ended.
            WrongAnswerError: a contestant answers differently than the bare interpreter.
        """
        measured = {contestant.name: Measured() for contestant in self._contestants}
        for crop in {contestant.crop for contestant in self._contestants}:
            with self._worker(REFERENCES[crop]) as reference:
                self._expected[crop] = reference.ask(do="answers")
        self._take_turns(measured)
        self._start_fresh(measured)
        for contestant in self._contestants:
            packages = site_packages(self._environments / contestant.environment)
            one = measured[contestant.name]
            one.install_mb, one.packages = size_mb(packages), versions(packages)
        return measured

    def _worker(self, contestant: Contestant) -> Worker:
        command = contestant.command(self._environments, "serve", self._material)
        return Worker(contestant.name, command, self._surroundings)

    def _take_turns(self, measured: dict[str, Measured]) -> None:
        with contextlib.ExitStack() as stack:
            workers = {}
            for contestant in self._contestants:
                self._note(f"{contestant.name}: answers")
                worker = stack.enter_context(self._worker(contestant))
                check(contestant.name, worker.ask(do="answers"), self._expected[contestant.crop])
                workers[contestant.name] = worker
            for number in range(self._plan.rounds):
                self._note(f"round {number + 1} of {self._plan.rounds}")
                for name in self._shuffled(workers):
                    answer = workers[name].ask(do="time", runs=self._plan.runs)
                    measured[name].blocks_ms.append(answer["ms"])
                    measured[name].cpu_ms.append(answer["cpu_ms"])

    def _start_fresh(self, measured: dict[str, Measured]) -> None:
        by_name = {contestant.name: contestant for contestant in self._contestants}
        for number in range(-1, self._plan.starts):  # the first fills the caches of files
            self._note(f"cold start {number + 1} of {self._plan.starts}")
            for name in self._shuffled(by_name):
                contestant = by_name[name]
                command = contestant.command(self._environments, "once", self._material)
                elapsed_ms, answer, peak_mb = start_once(name, command, self._surroundings)
                check(name, [answer], self._expected[contestant.crop][:1])
                if number >= 0:
                    measured[name].cold_start_ms.append(elapsed_ms)
                    measured[name].peak_rss_mb.append(peak_mb)

    def _shuffled(self, names: dict[str, Any]) -> list[str]:
        return self._order.sample(list(names), len(names))


def check(name: str, answers: Answers, expected: Answers) -> None:
    """Compares the best label of each frame, and its score.

    Raises:
        WrongAnswerError: it differs.
    """
    for number, (answer, wanted) in enumerate(zip(answers, expected, strict=True)):
        label, score = answer[0]
        best, sure = wanted[0]
        if label != best or abs(score - sure) > SCORE_TOLERANCE:
            raise WrongAnswerError(
                f"{name}: frame {number} is {label!r} ({score:.2f}) instead of {best!r} "
                f"({sure:.2f}); it does other work, so its times cannot be compared"
            )


def site_packages(environment: Path) -> Path:
    """The folder of an environment's packages."""
    return next(environment.glob("lib/python*/site-packages"))


def size_mb(packages: Path) -> float:
    """The size of the packages in 10⁶ bytes, without the tools that installed them."""
    return (
        sum(
            path.lstat().st_size
            for top in packages.iterdir()
            if not top.name.startswith(_TOOLS)
            for path in (top, *top.rglob("*"))
            if not path.is_dir()
        )
        / 1e6
    )


def versions(packages: Path) -> dict[str, str]:
    """Name and version of each package."""
    found = (path.name.removesuffix(".dist-info") for path in packages.glob("*.dist-info"))
    pairs = dict(sorted(name.rsplit("-", 1) for name in found))
    return {name: version for name, version in pairs.items() if name not in _TOOLS}
