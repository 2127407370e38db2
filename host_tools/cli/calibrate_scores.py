"""``edgecls calibrate-scores``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_sdk.cli.group import GATE_FAILED, GATE_INCONCLUSIVE
from edge_sdk.cli.options import json_option, max_megapixels_option
from host_tools.cli.options import data_option, layout_option, split_option


def _share(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is None or 0.0001 <= value <= 0.9999:  # false for NaN, too
        return value
    raise click.BadParameter(
        f"{value:g} is not a share of 0.0001 to 0.9999; 95 % is 0.95", context, parameter
    )


@click.command("calibrate-scores")
@click.argument(
    "artifacts", metavar="ARTIFACT...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@data_option(required=True)
@layout_option
@split_option(
    ("validation", "all"),
    "validation",
    "validation: fit on the validation split of the training, report on its test split. all: "
    "pictures that the model was not trained on; fit on one half, report on the other.",
)
@click.option(
    "--coverage",
    metavar="SHARE",
    type=float,
    callback=_share,
    help="Threshold by which at least this share of known pictures keeps an answer, as in 0.95.",
)
@click.option(
    "--false-accept",
    metavar="SHARE",
    type=float,
    callback=_share,
    help="Threshold by which at most this share of unknown pictures gets an answer, as in 0.01; "
    "needs --unknown.",
)
@click.option(
    "--accuracy",
    metavar="SHARE",
    type=float,
    callback=_share,
    help="Threshold by which at least this share of the answers is right, as in 0.98.",
)
@click.option(
    "--unknown",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Pictures of unknown things; one half to fit, the other to report.",
)
@click.option(
    "--no-temperature", is_flag=True, help="Do not change the scores; fit a threshold only."
)
@click.option("--dry-run", is_flag=True, help="Report only; change no artifact.")
@click.option(
    "--report",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page with reliability diagrams and the risk-coverage curve.",
)
@click.option(
    "--backend", default="cpu", show_default=True, help="Backend of the model, as in edgecls run."
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="CPU threads for one inference.",
)
@max_megapixels_option
@json_option
def calibrate_scores(
    artifacts: tuple[Path, ...],
    data: Path,
    layout: str,
    split: str,
    coverage: float | None,
    false_accept: float | None,
    accuracy: float | None,
    unknown: tuple[Path, ...],
    no_temperature: bool,
    dry_run: bool,
    report: Path | None,
    backend: str,
    threads: int,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Fit temperature and "unknown" threshold of each ARTIFACT's scores.

    Both are fitted on the artifact's own scores, int8 scores for an int8 model, and written into its
    manifest: run and classify apply them. The model itself is not changed. A threshold meets its goal
    at 95 % confidence; the exit code is 4 if there are too few pictures for that, and 3 if the pictures
    reported on miss the goal, and then nothing is written. This is not the calibration of int8 ranges:
    see convert --calibration.

    \b
    Example:
      edgecls calibrate-scores trash_int8.tflite --data photos/ --coverage 0.95
    """
    import json

    from host_tools.cli.output import say
    from host_tools.predict import Opening
    from host_tools.scores.calibrate import advice, to_json, to_lines
    from host_tools.scores.calibrate import calibrate_scores as calibrate
    from host_tools.scores.fit import FitRequest, Goal, Kind

    wanted: dict[Kind, float | None] = {
        "coverage": coverage,
        "false_accept": false_accept,
        "accuracy": accuracy,
    }
    goals = [Goal(kind, share) for kind, share in wanted.items() if share is not None]
    if len(goals) > 1:
        raise click.UsageError(
            f"got {len(goals)} goals, expected one: give one of --coverage, --false-accept and "
            "--accuracy; the report states its effect on the others"
        )
    if not goals and no_temperature:
        raise click.UsageError(
            "--no-temperature without a goal leaves nothing to fit; add a goal, as in --coverage 0.95"
        )
    if false_accept is not None and not unknown:
        raise click.UsageError("--false-accept needs pictures of unknown things; add --unknown DIR")
    done = calibrate(
        artifacts,
        data,
        FitRequest(temperature=not no_temperature, goal=goals[0] if goals else None),
        unknown=unknown,
        layout=layout,
        fresh=split == "all",
        opening=Opening(backend, threads),
        max_pixels=max_pixels,
        write=not dry_run,
        note=say,
    )
    if as_json:
        click.echo(json.dumps(to_json(done)))
    else:
        click.echo("\n".join(to_lines(done)))
    if report is not None:
        from host_tools.scores.page import write_page

        write_page(report, done)
        say(f"wrote {report}")
    for one in done:
        if (why := advice(one.fitted)) is not None:
            say(f"{one.path}: {one.fitted.verdict}: {why}")
    verdicts = {one.fitted.verdict for one in done}
    if "fail" in verdicts:
        raise click.exceptions.Exit(GATE_FAILED)
    if "inconclusive" in verdicts:
        raise click.exceptions.Exit(GATE_INCONCLUSIVE)
