"""``edgecls convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from host_tools.cli.options import prepared_data_options, split_option

if TYPE_CHECKING:
    from host_tools.data.pictures import Split
    from host_tools.data.prepare import DataPlace

# Those of host_tools.quantize.lint, here so that --help loads none of it; a test compares them.
_LINT_CODES = (
    *("one-class", "repeated", "too-few", "value-range", "channels-swapped", "overlap"),
    "unstable-range",
)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@prepared_data_options(required=False)
@click.option(
    "--format",
    "formats",
    type=click.Choice(["float32", "float16", "dynamic", "int8", "int16x8"]),
    multiple=True,
    help="May be given several times  [default: what the recipe says, else int8 and float16].",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the artifacts  [default: beside the model].",
)
@split_option(("train", "validation", "test"), "train", "Pictures of --data to calibrate with.")
@click.option(
    "--calibration",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Calibrate with the pictures in this folder instead.",
)
@click.option(
    "--calibration-images",
    type=click.IntRange(1),
    help="How many of them  [default: what the recipe says, else 200].",
)
@click.option(
    "--ignore-lint",
    "ignored",
    metavar="CODE",
    type=click.Choice(_LINT_CODES),
    multiple=True,
    help="Convert in spite of this fault of the calibration pictures; see docs/calibration.md.",
)
@click.pass_context
def convert(
    context: click.Context,
    model: Path,
    data: DataPlace | None,
    formats: tuple[str, ...],
    out: Path | None,
    split: Split,
    folder: Path | None,
    calibration_images: int | None,
    ignored: tuple[str, ...],
) -> None:
    """Convert MODEL, a run directory or a .keras file, to TensorFlow Lite artifacts.

    int8 and int16x8 are calibrated on training pictures from --data or on those of --calibration,
    never on random ones. The pictures are looked at first: what would spoil the ranges stops the
    conversion.

    \b
    Example:
      edgecls convert runs/first --data photos/ --format int8
    """
    from dataclasses import replace

    from host_tools.cli.output import say
    from host_tools.data.prepare import load_for
    from host_tools.keras_files import load_keras
    from host_tools.quantize.checked import CalibrationRequest
    from host_tools.recipe import ConversionRecipe
    from host_tools.run_directory import find_trained
    from host_tools.workflow import convert_run, formats_needing_data, recipe_for_bare

    if folder is not None and _given(context, "split"):
        raise click.UsageError("--split chooses pictures of --data, and --calibration others")
    trained = find_trained(model)
    conversion = trained.recipe.conversion if trained.recipe else ConversionRecipe()
    if formats:
        conversion = replace(conversion, formats=formats)
    if calibration_images:
        conversion = replace(conversion, calibration_images=calibration_images)
    needing = formats_needing_data(conversion.formats)
    if data is None and folder is None and needing:
        raise click.UsageError(
            f"{' and '.join(needing)} need calibration pictures: give --data DIR, or --calibration DIR"
        )
    dataset = None
    request = CalibrationRequest(split, folder, ignored, context.params["max_pixels"])
    if data is not None:
        recipe = trained.recipe or recipe_for_bare(trained, load_keras(trained.path))
        dataset = load_for(recipe, data, say)
    paths = convert_run(
        trained, dataset, conversion, out or trained.path.parent, request=request, say=say
    )
    for path in paths:
        click.echo(path)


def _given(context: click.Context, parameter: str) -> bool:
    return context.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE
