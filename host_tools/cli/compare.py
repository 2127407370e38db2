"""``edgecls compare``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_sdk.cli.options import json_option


@click.command()
@click.argument(
    "runs", metavar="RUN RUN...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page with curves, classes and the differences of the recipes, as in "
    "--out compare.html.",
)
@json_option
def compare(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Compare several run directories.

    Runs whose recipes differ only in training.seed are also summarized as mean and standard deviation.

    \b
    Example:
      edgecls compare runs/small runs/large --out compare.html
    """
    _check_runs(runs)

    import json

    from host_tools.cli.output import say
    from host_tools.report.comparison import compare_runs
    from host_tools.report.comparison_page import to_lines, write_comparison_page

    comparison = compare_runs(runs)
    if as_json:
        click.echo(json.dumps(comparison.to_json()))
    else:
        click.echo("\n".join(to_lines(comparison)))
    for warning in comparison.warnings:
        say(f"Warning: {warning}")
    if out is not None:
        write_comparison_page(out, comparison)
        say(f"wrote {out}")


def _check_runs(runs: tuple[Path, ...]) -> None:
    if len(runs) < 2:
        raise click.UsageError(
            f"got {runs[0]} alone, expected two or more; name a second run directory"
        )
    seen: dict[Path, Path] = {}
    for run in runs:
        folder = run.resolve()
        if folder in seen:
            also = "" if str(seen[folder]) == str(run) else f", also as {seen[folder]}"
            raise click.UsageError(f"{run}: this run is given twice{also}; name each run once")
        seen[folder] = run
