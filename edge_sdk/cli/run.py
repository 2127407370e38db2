"""``edgecls run``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_sdk.cli.options import (
    ModelOptions,
    json_option,
    max_megapixels_option,
    model_options,
    threshold_option,
    top_k_option,
)


@click.command()
@click.argument("model", type=click.Path(path_type=Path), envvar="EDGECLS_MODEL")
@click.option(
    "--source",
    "paths",
    metavar="PATH",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    required=True,
    help="A folder of pictures, or one picture; may be given several times.",
)
@model_options
@top_k_option
@threshold_option
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many frames.")
@max_megapixels_option
@json_option
def run(
    model: Path,
    paths: tuple[Path, ...],
    options: ModelOptions,
    top_k: int,
    threshold: float | None,
    limit: int | None,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Classify every frame of a source, one line each.

    MODEL may also stand in $EDGECLS_MODEL. A picture that cannot be read is reported, the loop goes
    on, and the exit code is 1.

    \b
    Example:
      edgecls run trash_int8.tflite --source photos/ --json
    """
    from edge_sdk.cli.output import TextLines
    from edge_sdk.pipeline import run as run_pipeline
    from edge_sdk.sinks.jsonl import JsonLines
    from edge_sdk.sources.folder import FolderSource

    source = FolderSource(*paths, max_pixels=max_pixels)
    with options.open(model) as classifier:
        statistics = run_pipeline(
            source,
            classifier,
            [JsonLines() if as_json else TextLines()],
            top_k=top_k,
            threshold=threshold,
            limit=limit,
        )
    rate = statistics.frames / statistics.seconds if statistics.seconds else 0.0
    click.echo(
        f"{statistics.frames} frames in {statistics.seconds:.1f} s ({rate:.0f} per second), "
        f"{statistics.unreadable} unreadable",
        err=True,
    )
    if statistics.unreadable:
        raise click.exceptions.Exit(1)
