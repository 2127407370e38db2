"""``edgecls bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from edge_sdk.cli.bench_options import Asked, Progress, bench_options
from edge_sdk.cli.group import GATE_FAILED, GATE_INCONCLUSIVE, INTERRUPTED, exit_code
from edge_sdk.cli.options import foreign_options, json_option
from edge_sdk.errors import BaselineError

if TYPE_CHECKING:
    from edge_sdk.bench.compare import Comparison
    from edge_sdk.bench.plan import Plan
    from edge_sdk.bench.results import Benchmark

_COMPARE = "compare"


class Outputs(NamedTuple):
    """Where the results go."""

    report: Path | None
    markdown: Path | None
    out: Path | None
    validation: Path | None
    as_json: bool


class Gate(NamedTuple):
    """What the results are held against."""

    baseline: Path | None
    max_regress: float | None
    force: bool


@click.command()
@click.argument(
    "models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@bench_options
@foreign_options
@click.option(
    "--report",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page to attach to a message.",
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
    help="Write all figures, for --baseline and compare.",
)
@click.option(
    "--validation",
    metavar="FILE.json",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What edgecls validate --json printed: accuracy beside latency.",
)
@click.option(
    "--baseline",
    metavar="FILE.json",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compare with figures of this machine from before.",
)
@click.option(
    "--max-regress",
    metavar="PERCENT",
    type=click.FloatRange(min=0),
    help="Exit with 3 where a model has become slower by more than this.",
)
@click.option("--force", is_flag=True, help="Compare with a baseline that does not fit, too.")
@click.option(
    "--allow-invalid",
    is_flag=True,
    help="Exit with 0 although the machine was throttled, overloaded or swapping.",
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
    **asked: Any,
) -> None:
    """Measure how fast models are here: latency, throughput, start, memory; and whether to trust it.

    Several models take turns, so that a machine that gets slower hits all alike. Runs are many enough
    for the interval of the median, or as many as fit into --seconds. A machine that was throttled,
    overloaded or swapping makes the figures invalid: exit code 3. Ctrl-C and SIGTERM write what there is.

    With the word compare instead of models, two files that --out wrote are put side by side.

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
            "--max-regress needs something to compare with: --baseline FILE.json, as written by --out"
        )
    _bench(
        Asked(models=models, **asked).plan(),
        outputs,
        Gate(baseline, max_regress, force),
        allow_invalid,
    )


def _bench(plan: Plan, outputs: Outputs, gate: Gate, allow_invalid: bool) -> None:
    from edge_sdk.bench.accuracy import read_accuracies
    from edge_sdk.bench.measure import measure

    accuracies = read_accuracies(outputs.validation) if outputs.validation else ()
    baseline, warnings = _baseline(gate, plan)
    progress = Progress()
    try:
        measured = measure(plan, tell=progress.tell)
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
        click.echo("Interrupted. These are the figures so far, marked as incomplete.", err=True)
        code = INTERRUPTED
    if code:
        raise click.exceptions.Exit(code)


def _baseline(gate: Gate, plan: Plan) -> tuple[Benchmark | None, tuple[str, ...]]:
    """The stored benchmark, and what was wrong with it but forced; before anything is measured."""
    if gate.baseline is None:
        return None, ()
    from edge_sdk.bench.compare import check_common, refusals
    from edge_sdk.bench.stored import read_benchmark
    from edge_sdk.machine.facts import read_machine

    baseline = read_benchmark(gate.baseline, any_schema=gate.force)
    keys = [(opening.path.stem, opening.backend, opening.threads) for opening in plan.openings]
    reasons = refusals(baseline, read_machine(), keys)
    if reasons and not gate.force:
        raise BaselineError(
            f"{gate.baseline}: no baseline for this: {'; '.join(reasons)}. Measure a new one with "
            "--out FILE.json, or compare all the same with --force"
        )
    check_common(baseline, keys, (str(gate.baseline), "what is asked for"))
    for reason in reasons:
        click.echo(f"{gate.baseline}: compared all the same, though {reason}", err=True)
    return baseline, reasons


def _write(
    benchmark: Benchmark, comparison: Comparison | None, outputs: Outputs, accuracies: Any
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


def _gates(benchmark: Benchmark, comparison: Comparison | None, allow_invalid: bool) -> int:
    if not benchmark.valid and not allow_invalid:
        for reason in benchmark.invalid_reasons:
            click.echo(f"not valid: {reason}", err=True)
        click.echo("(--allow-invalid takes the figures all the same)", err=True)
        return GATE_FAILED
    return _verdict_code(comparison)


def _verdict_code(comparison: Comparison | None) -> int:
    verdict = None if comparison is None else comparison.verdict
    return {"fail": GATE_FAILED, "inconclusive": GATE_INCONCLUSIVE}.get(verdict or "", 0)


def _compare(files: tuple[Path, ...], outputs: Outputs, max_regress: float | None) -> None:
    """Two stored benchmarks, mostly of two boards."""
    import json

    from edge_sdk.bench.compare import compare
    from edge_sdk.bench.markdown import comparison_markdown
    from edge_sdk.bench.page_comparison import write_comparison_page
    from edge_sdk.bench.stored import read_benchmark
    from edge_sdk.bench.table import comparison_table
    from edge_sdk.files import write_atomically

    if len(files) != 2:
        raise click.UsageError(
            f"compare got {len(files)} files, expected two that --out wrote, as in edgecls bench "
            "compare pi4.json pi5.json (a model that is called compare: ./compare)"
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
