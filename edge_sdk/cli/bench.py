"""``edgecls bench``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from edge_sdk.cli.group import GATE_FAILED, GATE_INCONCLUSIVE, INTERRUPTED, exit_code
from edge_sdk.cli.options import json_option, third_party_options
from edge_sdk.errors import BaselineError
from edge_sdk.terminal import own, printable

if TYPE_CHECKING:
    from edge_sdk.bench.compare import BenchmarkComparison
    from edge_sdk.bench.plan import BenchPlan, Camera
    from edge_sdk.bench.results import Benchmark
    from edge_sdk.vision.preprocess import Crop

PARTS = ("cold", "threads", "operators", "energy")
_THREADS_MAX = 64
_log = logging.getLogger("edgecls.bench")


class BenchOptions(NamedTuple):
    """The options of the command line that define the measurement."""

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

    def plan(self) -> BenchPlan:
        """The plan of the measurement.

        Raises:
            UsageError: ``--threads`` or ``--camera`` is invalid.
            UndescribedArtifactError: the labels cannot be read.
        """
        from edge_sdk.artifact.description import read_labels
        from edge_sdk.bench.plan import BenchPlan, OpeningOptions
        from edge_sdk.machine.facts import read_machine

        cores = read_machine().usable_cores
        labels = None if self.labels is None else read_labels(self.labels)
        return BenchPlan(
            openings=tuple(
                OpeningOptions(path, backend, threads, labels, self.normalize, self.crop)
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
        from edge_sdk.bench.timing import thread_counts

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


class BenchProgress:
    """Progress: one line on a terminal, replaced each time; elsewhere a log line for ``-v``."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()

    def note(self, text: str) -> None:
        """Prints ``text`` in place of the line before."""
        if self._on_terminal:
            click.echo(f"\r\x1b[K{printable(text)}", nl=False, file=own(sys.stderr))
        else:
            _log.info("%s", text)

    def end(self) -> None:
        """Clears the line."""
        if self._on_terminal:
            click.echo("\r\x1b[K", nl=False, file=own(sys.stderr))


def bench_options(function: Any) -> Any:
    """The options of ``BenchOptions`` beyond those of third-party models."""
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
            help="Also measure the age of answers, from this camera's sensor to the answer; SPEC as for "
            "run.",
        ),
        click.option(
            "--seconds",
            metavar="S",
            type=click.FloatRange(min=0, min_open=True, max=86_400),
            default=10.0,
            show_default=True,
            help="Time each model for at most this long.",
        ),
        click.option(
            "--precision",
            metavar="PERCENT",
            type=click.FloatRange(min=0),
            default=1.0,
            show_default=True,
            help="Stop when the interval of every median is within this.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Seed of the random order of models.",
        ),
        click.option(
            "--sustained",
            metavar="S",
            type=click.FloatRange(min=0, max=86_400),
            default=0.0,
            help="Also run each model without a pause for this long, to see whether it slows down.",
        ),
        click.option(
            "--skip",
            "skipped",
            multiple=True,
            type=click.Choice(PARTS),
            help="Omit this; may be given several times.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


_COMPARE = "compare"


class Outputs(NamedTuple):
    """Where the results go."""

    report: Path | None
    markdown: Path | None
    out: Path | None
    validation: Path | None
    as_json: bool


class Gate(NamedTuple):
    """What the results are compared with."""

    baseline: Path | None
    max_regress: float | None
    force: bool


@click.command()
@click.argument(
    "models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@bench_options
@third_party_options
@click.option(
    "--report",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write an HTML report.",
)
@click.option(
    "--markdown",
    metavar="FILE.md",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write tables for a pull request.",
)
@click.option(
    "--out",
    metavar="FILE.json",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all figures as JSON, for --baseline and compare.",
)
@click.option(
    "--validation",
    metavar="FILE.json",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Output of edgecls validate --json: shows accuracy beside latency.",
)
@click.option(
    "--baseline",
    metavar="FILE.json",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compare with earlier figures of this machine.",
)
@click.option(
    "--max-regress",
    metavar="PERCENT",
    type=click.FloatRange(min=0),
    help="Exit with 3 if a model is slower than the baseline by more than this.",
)
@click.option("--force", is_flag=True, help="Compare even with a baseline that does not match.")
@click.option(
    "--allow-invalid",
    is_flag=True,
    help="Exit with 0 even if the machine was throttled, overloaded or swapping.",
)
@json_option
def bench(
    models: tuple[Path, ...],
    report: Path | None,
    markdown: Path | None,
    out: Path | None,
    validation: Path | None,
    baseline: Path | None,
    max_regress: float | None,
    force: bool,
    allow_invalid: bool,
    as_json: bool,
    **measured: Any,
) -> None:
    """Measure latency, throughput, start time and memory of models, and whether the figures are valid.

    Models are interleaved, so that a machine that slows down affects all equally. A measurement ends
    when the median's interval reaches --precision, or after --seconds. If the machine was throttled,
    overloaded or swapping, the figures are invalid: exit code 3. Ctrl-C and SIGTERM write the figures
    so far.

    edgecls bench compare OLD NEW compares two files written by --out.

    \b
    Example:
      edgecls bench trash_int8.tflite trash_float16.tflite --report bench.html
      edgecls bench trash_int8.tflite --out today.json --baseline old.json --max-regress 10
      edgecls bench compare pi4.json pi5.json
    """
    outputs = Outputs(report, markdown, out, validation, as_json)
    if models[0] == Path(_COMPARE):
        _compare(models[1:], outputs, max_regress)
        return
    if max_regress is not None and baseline is None:
        raise click.UsageError(
            "--max-regress needs a baseline; add --baseline FILE.json, as written by --out"
        )
    _bench(
        BenchOptions(models=models, **measured).plan(),
        outputs,
        Gate(baseline, max_regress, force),
        allow_invalid,
    )


def _bench(plan: BenchPlan, outputs: Outputs, gate: Gate, allow_invalid: bool) -> None:
    from edge_sdk.bench.accuracy import read_accuracies
    from edge_sdk.bench.measure import measure

    accuracies = read_accuracies(outputs.validation) if outputs.validation else ()
    baseline, warnings = _baseline(gate, plan)
    progress = BenchProgress()
    try:
        measured = measure(plan, note=progress.note)
    finally:
        progress.end()
    benchmark, errors = measured.benchmark, measured.errors
    if errors and not benchmark.models and benchmark.complete:
        for error in errors[1:]:
            click.echo(f"Error: {error}", err=True)
        raise errors[0]
    comparison = None
    if baseline is not None and gate.baseline is not None and benchmark.complete:
        from edge_sdk.bench.compare import compare

        comparison = compare(
            baseline,
            benchmark,
            names=(str(gate.baseline), "now"),
            max_regress_percent=gate.max_regress,
            warnings=warnings,
        )
    _write(benchmark, comparison, outputs, accuracies)
    for error in errors:
        click.echo(f"Error: {error}", err=True)
    code = exit_code(errors[0]) if errors else _gates(benchmark, comparison, allow_invalid)
    if not benchmark.complete:
        click.echo("Interrupted: the figures so far, marked as incomplete.", err=True)
        code = INTERRUPTED
    if code:
        raise click.exceptions.Exit(code)


def _baseline(gate: Gate, plan: BenchPlan) -> tuple[Benchmark | None, tuple[str, ...]]:
    """Reads the baseline before the measurement; with it, the mismatches that ``--force`` ignores."""
    if gate.baseline is None:
        return None, ()
    from edge_sdk.bench.compare import check_common, refusals
    from edge_sdk.bench.results import read_benchmark
    from edge_sdk.machine.facts import read_machine

    baseline = read_benchmark(gate.baseline, any_schema=gate.force)
    keys = [(opening.path.stem, opening.backend, opening.threads) for opening in plan.openings]
    reasons = refusals(baseline, read_machine(), keys)
    if reasons and not gate.force:
        raise BaselineError(
            f"{gate.baseline}: this baseline does not match: {'; '.join(reasons)}. Measure a new one "
            "with --out FILE.json, or compare anyway with --force"
        )
    check_common(baseline, keys, (str(gate.baseline), "the command line"))
    for reason in reasons:
        click.echo(f"{gate.baseline}: compared anyway (--force), although {reason}", err=True)
    return baseline, reasons


def _write(
    benchmark: Benchmark, comparison: BenchmarkComparison | None, outputs: Outputs, accuracies: Any
) -> None:
    import json

    from edge_sdk.bench.markdown import comparison_markdown
    from edge_sdk.bench.markdown import markdown as as_markdown
    from edge_sdk.bench.table import comparison_table, table
    from edge_sdk.files import write_atomically

    content = benchmark.to_json()
    if comparison is not None:
        content["comparison"] = comparison.to_json()
    text = json.dumps(content) if outputs.as_json or outputs.out else ""
    if outputs.out is not None:
        write_atomically(outputs.out, text)
    if outputs.report is not None:
        from edge_sdk.bench.page import write_page

        write_page(benchmark, outputs.report, accuracies, comparison)
    if outputs.markdown is not None:
        parts = [as_markdown(benchmark, accuracies)]
        parts += [comparison_markdown(comparison)] if comparison is not None else []
        write_atomically(outputs.markdown, "\n".join(parts))
    if outputs.as_json:
        click.echo(text)
        return
    click.echo(table(benchmark, accuracies).rstrip("\n"))
    if comparison is not None:
        click.echo("\n" + comparison_table(comparison).rstrip("\n"))
    for path in (outputs.report, outputs.markdown, outputs.out):
        if path is not None:
            click.echo(f"wrote {path}", err=True)


def _gates(
    benchmark: Benchmark, comparison: BenchmarkComparison | None, allow_invalid: bool
) -> int:
    if not benchmark.valid and not allow_invalid:
        for reason in benchmark.invalid_reasons:
            click.echo(f"not valid: {reason}", err=True)
        click.echo("(--allow-invalid accepts the figures anyway)", err=True)
        return GATE_FAILED
    return _verdict_code(comparison)


def _verdict_code(comparison: BenchmarkComparison | None) -> int:
    verdict = None if comparison is None else comparison.verdict
    return {"fail": GATE_FAILED, "inconclusive": GATE_INCONCLUSIVE}.get(verdict or "", 0)


def _compare(files: tuple[Path, ...], outputs: Outputs, max_regress: float | None) -> None:
    """Compares two stored benchmarks, usually of two boards."""
    import json

    from edge_sdk.bench.compare import compare
    from edge_sdk.bench.markdown import comparison_markdown
    from edge_sdk.bench.page_comparison import write_comparison_page
    from edge_sdk.bench.results import read_benchmark
    from edge_sdk.bench.table import comparison_table
    from edge_sdk.files import write_atomically

    if len(files) != 2:
        raise click.UsageError(
            f"compare got {len(files)} files, expected two written by --out, as in edgecls bench "
            "compare pi4.json pi5.json (for a model named compare, type ./compare)"
        )
    before, after = (read_benchmark(file) for file in files)
    comparison = compare(
        before, after, names=(str(files[0]), str(files[1])), max_regress_percent=max_regress
    )
    text = json.dumps(comparison.to_json())
    if outputs.out is not None:
        write_atomically(outputs.out, text)
    if outputs.report is not None:
        write_comparison_page(comparison, before, after, outputs.report)
    if outputs.markdown is not None:
        write_atomically(outputs.markdown, comparison_markdown(comparison))
    click.echo(text if outputs.as_json else comparison_table(comparison).rstrip("\n"))
    if code := _verdict_code(comparison):
        raise click.exceptions.Exit(code)
