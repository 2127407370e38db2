"""``edgecls edgetpu``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_sdk.cli.group import GATE_FAILED
from edge_sdk.cli.options import json_option

if TYPE_CHECKING:
    from host_tools.edgetpu.artifact import CompiledArtifact
    from host_tools.edgetpu.check import EdgeTpuCheck

_TIMEOUT_S = 600  # as in host_tools.edgetpu.compiler, which --help must not import


@click.group()
def edgetpu() -> None:
    """Check and compile models for the Coral Edge TPU.

    \b
    Example:
      edgecls edgetpu check runs/first/first_int8.tflite
    """


@edgetpu.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@json_option
def check(artifact: Path, as_json: bool) -> None:
    """List which operators of ARTIFACT would run on the Edge TPU, and why the others would not.

    ARTIFACT is an int8 .tflite. Neither compiler nor Edge TPU is needed. The exit code is 3 if the
    compiler would refuse the file or map no operator.

    \b
    Example:
      edgecls edgetpu check runs/first/first_int8.tflite
    """
    import json

    from host_tools.cli.output import say
    from host_tools.edgetpu.artifact import check_file

    found, rescaled = check_file(artifact)
    if as_json:
        click.echo(json.dumps({**found.to_json(str(artifact)), "dense_layers_rescaled": rescaled}))
    else:
        for line in _check_lines(found, rescaled):
            click.echo(line)
    if found.refused:
        say("a gate failed: the compiler would refuse this file")
        raise click.exceptions.Exit(GATE_FAILED)
    if not found.mapped:
        say("a gate failed: no operator of this model would run on the Edge TPU")
        raise click.exceptions.Exit(GATE_FAILED)


@edgetpu.command(name="compile")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the compiled artifact  [default: beside ARTIFACT].",
)
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=_TIMEOUT_S,
    show_default=True,
    help="Time limit of the compiler.",
)
def compile_(artifact: Path, out: Path | None, timeout_s: float) -> None:
    """Compile ARTIFACT, an int8 artifact of edgecls, with Google's edgetpu_compiler.

    It writes <name>_int8_edgetpu.tflite, which runs with --backend edgetpu. The compiler is
    $EDGETPU_COMPILER, or found on the PATH.

    \b
    Example:
      edgecls edgetpu compile runs/first/first_int8.tflite
    """
    from host_tools.cli.output import say
    from host_tools.edgetpu.artifact import compile_artifact
    from host_tools.edgetpu.compiler import find_compiler

    compiled = compile_artifact(artifact, find_compiler(), out=out, timeout_s=timeout_s, note=say)
    say_report(compiled)
    click.echo(compiled.path)


def say_report(compiled: CompiledArtifact) -> None:
    """Prints the compiler's table on standard error."""
    report = compiled.report
    rows: list[tuple[str, ...]] = [("operator", "count", "runs on", "compiler status", "meaning")]
    rows += [
        (r.operator, str(r.count), "Edge TPU" if r.mapped else "CPU", r.status, r.meaning)
        for r in sorted(report.rows, key=lambda row: (row.mapped, row.operator))
    ]
    for line in _table(rows):
        click.echo(line, err=True)
    version = f", compiler {report.version}" if report.version else ""
    click.echo(
        f"{report.mapped} of {report.total} operators run on the Edge TPU{version}", err=True
    )
    if report.off_chip_bytes:
        from edge_sdk.files import size_text

        click.echo(
            f"{size_text(report.off_chip_bytes)} of weights do not fit into the Edge TPU and are "
            "fetched for every picture",
            err=True,
        )


def _check_lines(found: EdgeTpuCheck, rescaled: int) -> Iterable[str]:
    counts: dict[tuple[str, ...], int] = {}
    for o in found.operators:
        where = {"mapped": "Edge TPU", "cpu": "CPU", "refused": "nowhere"}[o.verdict]
        key = (o.operator, where, o.reason or "", o.remedy or "")
        counts[key] = counts.get(key, 0) + 1
    rows: list[tuple[str, ...]] = [("operator", "count", "runs on", "why", "what to change")]
    rows += [(key[0], str(n), *key[1:]) for key, n in counts.items()]
    yield from _table(rows)
    yield f"{found.mapped} of {len(found.operators)} operators would run on the Edge TPU"
    if rescaled:
        yield (
            f"note: dense layers whose weights have a scale per output: {rescaled}; compiling gives each "
            "one scale first"
        )
    for note in found.notes:
        yield f"note: {note}"


def _table(rows: list[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
