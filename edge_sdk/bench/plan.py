"""What a benchmark is to measure, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.bench.opening import Opening
from edge_sdk.ports import FrameSource


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera to measure the age of decisions with.

    Attributes:
        name: its specification, without passwords.
        open: opens it for ``(width, height)`` of a model's input.
    """

    name: str
    open: Callable[[tuple[int, int]], FrameSource]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a benchmark is to measure.

    Attributes:
        openings: the models, each with a backend and a number of threads.
        seconds: of warm timing for each at most.
        precision_percent: warm timing ends earlier where every median is known as well: half of its
            95 % interval.
        seed: of the order of turns, and of the choice of pictures.
        data: a folder of pictures; None: those of the camera, else of each artifact's self-test.
        camera: None: ages are not measured.
        cold_starts: fresh processes per model; 0: none.
        cores: throughput is measured with 1 to so many threads; 0: it is not.
        operators: time single operators.
        sustained_s: seconds of work without a pause; 0: none.
        energy: read the machine's counter, where there is one.
    """

    openings: tuple[Opening, ...]
    seconds: float = 10.0
    precision_percent: float = 1.0
    seed: int = 0
    data: Path | None = None
    camera: Camera | None = None
    cold_starts: int = 5
    cores: int = 0
    operators: bool = True
    sustained_s: float = 0.0
    energy: bool = True
