"""What ``bench`` measures: options of its own, put together as a plan."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from edge_sdk.terminal import own, printable

if TYPE_CHECKING:
    from edge_sdk.bench.plan import Camera, Plan
    from edge_sdk.vision.preprocess import Crop

PARTS = ("cold", "threads", "operators", "energy")
_THREADS_MAX = 64
_log = logging.getLogger("edgecls.bench")


class Asked(NamedTuple):
    """The command line's words."""

    models: tuple[Path, ...]
    backends: tuple[str, ...]
    threads: str
    labels: Path | None
    normalize: str | None
    crop: Crop | None
    data: Path | None
    camera: str | None
    seconds: float
    precision: float
    seed: int
    sustained: float
    skipped: tuple[str, ...]

    def plan(self) -> Plan:
        """What is to be measured.

        Raises:
            UsageError: threads or a camera that cannot be.
            UndescribedArtifactError: the labels cannot be read.
        """
        from edge_sdk.artifact.description import read_labels
        from edge_sdk.bench.opening import Opening
        from edge_sdk.bench.plan import Plan
        from edge_sdk.machine.facts import read_machine

        cores = read_machine().usable_cores
        labels = None if self.labels is None else read_labels(self.labels)
        return Plan(
            openings=tuple(
                Opening(path, backend, threads, labels, self.normalize, self.crop)
                for path in dict.fromkeys(self.models)
                for backend in dict.fromkeys(self.backends)
                for threads in parse_threads(self.threads, cores)
            ),
            seconds=self.seconds,
            precision_percent=self.precision,
            seed=self.seed,
            data=self.data,
            camera=None if self.camera is None else _camera(self.camera),
            cold_starts=0 if "cold" in self.skipped else 5,
            cores=0 if "threads" in self.skipped else cores,
            operators="operators" not in self.skipped,
            sustained_s=self.sustained,
            energy="energy" not in self.skipped,
        )


def parse_threads(text: str, cores: int) -> tuple[int, ...]:
    """Reads ``--threads``: ``1``, ``1,2,4``, ``1-4`` or ``all`` (1 to the number of cores).

    Raises:
        UsageError: anything else.
    """
    if text == "all":
        from edge_sdk.bench.scaling import thread_counts

        return thread_counts(cores)
    counts: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(part) > 7:
            raise _no_threads(text)
        counts += range(int(first), int(last if dash else first) + 1)
    if not counts or min(counts) < 1 or max(counts) > _THREADS_MAX:
        raise _no_threads(text)
    return tuple(dict.fromkeys(counts))


def _no_threads(text: str) -> click.UsageError:
    return click.UsageError(
        f"--threads {text}: expected numbers from 1 to {_THREADS_MAX}, as in 1, 1,2,4 or 1-4, or all"
    )


def _camera(text: str) -> Camera:
    from edge_sdk.bench.plan import Camera
    from edge_sdk.cli.run_options import parse_camera
    from edge_sdk.sources.camera import open_camera

    spec = parse_camera(text, typed=True)
    return Camera(str(spec), lambda size: open_camera(spec, size=size, give_up_s=10.0))


class Progress:
    """One line on a terminal that says what is being done; elsewhere it is for ``-v``."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def tell(self, text: str) -> None:
        """Says it in place of what was said before."""
        if self._shown:
            click.echo(f"\r\x1b[K{printable(text)}", nl=False, file=own(sys.stderr))
        else:
            _log.info("%s", text)

    def end(self) -> None:
        """Takes the line away."""
        if self._shown:
            click.echo("\r\x1b[K", nl=False, file=own(sys.stderr))


def bench_options(function: Any) -> Any:
    """The options of ``Asked`` beyond those of foreign models."""
    options = (
        click.option(
            "--backend",
            "backends",
            multiple=True,
            default=("cpu",),
            metavar="NAME",
            help="cpu, litert, tflite-runtime, litert-noxnnpack, onnx, edgetpu[:usb:N|:pci:N]; may be "
            "given several times  [default: cpu].",
        ),
        click.option(
            "--threads",
            default="1",
            show_default=True,
            metavar="N[,N...]",
            help="CPU threads for one inference: 1, 1,2,4, 1-4 or all.",
        ),
        click.option(
            "--data",
            metavar="DIR",
            type=click.Path(path_type=Path),
            help="Pictures to classify  [default: each model's own self-test].",
        ),
        click.option(
            "--camera",
            metavar="[SPEC]",
            is_flag=False,
            flag_value="auto",
            help="Also measure how old decisions are, from this camera's sensor to the answer; SPEC "
            "as for run.",
        ),
        click.option(
            "--seconds",
            metavar="S",
            type=click.FloatRange(min=0, min_open=True, max=86_400),
            default=10.0,
            show_default=True,
            help="Time each model for so long at most.",
        ),
        click.option(
            "--precision",
            metavar="PERCENT",
            type=click.FloatRange(min=0),
            default=1.0,
            show_default=True,
            help="Stop when every median is known to so many percent.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Of the order of turns.",
        ),
        click.option(
            "--sustained",
            metavar="S",
            type=click.FloatRange(min=0, max=86_400),
            default=0.0,
            help="Also run each model without a pause for so long: does it keep its speed?",
        ),
        click.option(
            "--skip",
            "skipped",
            multiple=True,
            type=click.Choice(PARTS),
            help="Leave this out; may be given several times.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function
