"""``edgecls validate``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_sdk.cli.options import (
    ModelOptions,
    json_option,
    max_megapixels_option,
    model_options,
)
from host_tools.cli.options import data_option, layout_option, split_option


@click.command()
@click.argument(
    "artifacts", metavar="ARTIFACT...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    required=True,
    help="A .keras file or run directory (host), a .tflite, or scores saved by --save-scores.",
)
@data_option(required=True)
@layout_option
@split_option(
    ("train", "validation", "test", "all"),
    None,
    "Pictures to validate on  [default: test, or those with saved scores].",
)
@click.option("--max-drop", type=click.FloatRange(0, 100), help="Budget: points of accuracy.")
@click.option(
    "--max-class-drop", type=click.FloatRange(0, 100), help="Budget: points of any one class."
)
@click.option(
    "--save-scores",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the reference's scores (.npz), for a device to validate against.",
)
@model_options
@max_megapixels_option
@json_option
def validate(
    artifacts: tuple[Path, ...],
    reference: Path,
    data: Path,
    layout: str,
    split: str | None,
    max_drop: float | None,
    max_class_drop: float | None,
    save_scores: Path | None,
    options: ModelOptions,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Measure what each ARTIFACT lost against the reference, and how sure that is.

    Every model sees the same pictures through the same preprocessing. With a budget the exit code
    is 3 where it is exceeded and 4 where there are too few pictures to tell.

    \b
    Example:
      edgecls validate trash_int8.tflite --reference runs/trash --data photos/ --max-drop 1
    """
    import json

    from host_tools.cli.output import end_with_verdict, print_comparison, say
    from host_tools.opening import Opening
    from host_tools.validate.compare import Budget
    from host_tools.validate.scores import save_scores as write_scores
    from host_tools.validate.stage import scores_of
    from host_tools.validate.stage import validate as validate_artifacts

    if save_scores is not None and save_scores.suffix != ".npz":
        raise click.UsageError("--save-scores writes a .npz file; give it that ending")
    comparison = validate_artifacts(
        artifacts,
        reference,
        data,
        layout=layout,
        split=split,
        budget=Budget(max_drop, max_class_drop),
        opening=Opening(*options),
        max_pixels=max_pixels,
        say=say,
    )
    if save_scores is not None:
        write_scores(save_scores, scores_of(comparison))
        say(f"wrote {save_scores}")
    if as_json:
        click.echo(json.dumps(comparison.to_json()))
    else:
        print_comparison(comparison)
    end_with_verdict(comparison)
