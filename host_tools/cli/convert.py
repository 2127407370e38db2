"""``edgecls convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_sdk.errors import ConversionError
from host_tools.cli.options import prepared_data_options, split_option

if TYPE_CHECKING:
    from host_tools.data.load import DataPlace
    from host_tools.data.pictures import Split
    from host_tools.repair.report import Repaired

# Copies of values in host_tools.recipe.keys and host_tools.quantize.lint, so that --help imports
# neither; a test compares them.
_FORMATS = ("float32", "float16", "dynamic", "int8", "int16x8", "int4", "onnx", "onnx-int8")
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
    type=click.Choice(_FORMATS),
    multiple=True,
    help="May be given several times  [default: as in the recipe, else int8 and float16].",
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
    help="Number of calibration pictures  [default: as in the recipe, else 200].",
)
@click.option(
    "--ignore-lint",
    "ignored",
    metavar="CODE",
    type=click.Choice(_LINT_CODES),
    multiple=True,
    help="Convert despite this fault of the calibration pictures; see docs/calibration.md.",
)
@click.option(
    "--io",
    type=click.Choice(["uint8", "int8", "float32"]),
    help="Input dtype of an int8 artifact  [default: as in the recipe, else uint8].",
)
@click.option(
    "--max-drop",
    metavar="POINTS",
    type=click.FloatRange(0, 100),
    help="Repair int8 until it loses no more accuracy than this; see docs/repair.md.",
)
@click.option(
    "--max-class-drop",
    metavar="POINTS",
    type=click.FloatRange(0, 100),
    help="With --max-drop: and until no single class loses more than this.",
)
@click.option(
    "--repair-seconds",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="Time limit of the repair.",
)
@click.option(
    "--edgetpu",
    is_flag=True,
    help="Also compile the int8 artifact for the Coral Edge TPU; see docs/edgetpu.md.",
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
    io: str | None,
    max_drop: float | None,
    max_class_drop: float | None,
    repair_seconds: float,
    edgetpu: bool,
) -> None:
    """Convert MODEL, a run directory or a .keras file, to artifacts.

    int8, int16x8 and onnx-int8 are calibrated on training pictures from --data or on those of
    --calibration, never on random data. The pictures are checked first: a fault that would distort
    the ranges stops the conversion.

    With --max-drop one artifact is made: as much int8 as the budget allows, on the validation split;
    the test split confirms it. The exit code is 3 if it does not, 4 if there are too few pictures to
    decide.

    \b
    Example:
      edgecls convert runs/first --data photos/ --format int8
      edgecls convert runs/first --data photos/ --max-drop 0.5
    """
    from dataclasses import replace

    from host_tools.cli.output import say
    from host_tools.conversion import (
        convert_run,
        formats_needing_data,
        recipe_for_bare,
        repair_run,
    )
    from host_tools.data.load import load_for
    from host_tools.quantize.lint import CalibrationRequest
    from host_tools.recipe import ConversionRecipe
    from host_tools.run_directory import find_trained
    from host_tools.third_party.keras import load_keras

    if max_drop is not None and (data is None or set(formats) - {"int8"}):
        raise click.UsageError(
            "--max-drop repairs the int8 artifact on the validation split of a data set: give --data "
            "DIR, and no --format but int8"
        )
    if max_class_drop is not None and max_drop is None:
        raise click.UsageError(
            "--max-class-drop is a budget of the repair; add --max-drop, as in --max-drop 0.5"
        )
    if folder is not None and _given(context, "split"):
        raise click.UsageError(
            "--split selects pictures of --data, --calibration uses other pictures; give one of them"
        )
    trained = find_trained(model)
    conversion = trained.recipe.conversion if trained.recipe else ConversionRecipe()
    if formats:
        conversion = replace(conversion, formats=formats)
    if calibration_images:
        conversion = replace(conversion, calibration_images=calibration_images)
    if io is not None:
        conversion = replace(conversion, io=io)
    if max_drop is not None:
        conversion = replace(conversion, formats=("int8",))
    needing = formats_needing_data(conversion.formats)
    if data is None and folder is None and needing:
        raise click.UsageError(
            f"{' and '.join(needing)} need calibration pictures: give --data DIR, or --calibration DIR"
        )
    compiler = _compiler(conversion.formats) if edgetpu else None
    dataset = None
    request = CalibrationRequest(split, folder, ignored, context.params["max_pixels"])
    if data is not None:
        recipe = trained.recipe or recipe_for_bare(trained, load_keras(trained.path))
        dataset = load_for(recipe, data, say)
    destination = out or trained.path.parent
    verdict = None
    if max_drop is None:
        paths = convert_run(trained, dataset, conversion, destination, request=request, note=say)
    else:
        from host_tools.repair.rungs import RepairBudget

        assert dataset is not None  # checked above
        budget = RepairBudget(max_drop, repair_seconds, max_class_drop=max_class_drop)
        repaired = repair_run(
            trained, dataset, conversion, destination, budget, request=request, note=say
        )
        _print_table(repaired)
        paths, verdict = [repaired.path], repaired.verdict
    for path in paths:
        click.echo(path)
    if compiler is not None:
        from host_tools.cli.edgetpu import say_report
        from host_tools.edgetpu.artifact import compile_artifact

        int8 = next((path for path in paths if path.name.endswith("_int8.tflite")), None)
        if int8 is None:
            raise ConversionError(
                f"{paths[0]}: no int8 model is within the budget, so there is nothing for the Edge TPU"
            )
        compiled = compile_artifact(int8, compiler, note=say)
        say_report(compiled)
        click.echo(compiled.path)
    if verdict in ("fail", "inconclusive"):
        raise click.exceptions.Exit(3 if verdict == "fail" else 4)


def _print_table(repaired: Repaired) -> None:
    """Prints the rungs, one line each, and the verdict of the test split."""
    ladder, best = repaired.ladder, repaired.ladder.best
    for number, rung in enumerate(ladder.rungs):
        click.echo(
            f"{'*' if number == ladder.chosen else ' '} {rung.name:<34} {100 * rung.accuracy:6.2f} % "
            f"{rung.drop_points:+6.2f} points {rung.size_bytes:>11,} bytes {rung.latency_ms:8.2f} ms",
            err=True,
        )
    for kind, share in ladder.blamed.items():
        click.echo(f"{kind} is slow in int8 here: float saves {100 * share:.0f} %", err=True)
    figures = repaired.confirmed or best
    low, high = figures.drop_ci95
    class_budget = repaired.budget.max_class_drop
    click.echo(
        f"{repaired.verdict}: {figures.drop_points:+.2f} points ({low:+.2f} to {high:+.2f}) on "
        f"{f'{repaired.confirmed.n:,} test' if repaired.confirmed else f'{ladder.n:,} validation'} "
        f"pictures, budget {repaired.budget.max_drop:g}; largest drop of a class "
        f"{figures.class_drop_points:.2f}"
        + ("" if class_budget is None else f", budget {class_budget:g}"),
        err=True,
    )


def _compiler(formats: tuple[str, ...]) -> Path:
    """Finds the compiler before the conversion starts."""
    from host_tools.edgetpu.compiler import find_compiler

    if "int8" not in formats:
        raise click.UsageError("--edgetpu compiles the int8 artifact: add --format int8")
    return find_compiler()


def _given(context: click.Context, parameter: str) -> bool:
    return context.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE
