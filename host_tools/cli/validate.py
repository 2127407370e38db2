"""``edgecls validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_sdk.cli.options import json_option, max_megapixels_option, third_party_options
from host_tools.cli.options import data_option, layout_option, split_option

# Exit codes as for errors, see edge_sdk.cli.group.
_FAILED = 1
_NOT_INSTALLED = 5


@click.command()
@click.argument(
    "artifacts", metavar="ARTIFACT...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="A .keras file or run directory (host), a .tflite or .onnx, or scores saved by --save-scores.",
)
@data_option(required=True)
@layout_option
@split_option(
    ("train", "validation", "test", "all"),
    None,
    "Pictures to validate on  [default: test, or those in the saved scores].",
)
@click.option("--max-drop", type=click.FloatRange(0, 100), help="Budget: points of accuracy.")
@click.option(
    "--max-class-drop", type=click.FloatRange(0, 100), help="Budget: points of any one class."
)
@click.option(
    "--save-scores",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Save the reference's scores (.npz), for validation on a device.",
)
@click.option(
    "--flips",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for a page of the pictures whose answer changed (index.html, flips.json).",
)
@click.option(
    "--max-flips",
    metavar="N",
    type=click.IntRange(min=0),
    default=24,
    show_default=True,
    help="With --flips: at most this many pictures of each artifact on the page.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="With --flips: time limit for all heat maps; 0: none.",
)
@click.option(
    "--any-preprocessing",
    is_flag=True,
    help="Compare models even if their size, crop or colours differ.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    default=("cpu",),
    help="cpu, litert, tflite-runtime, litert-noxnnpack, onnx, edgetpu[:usb:N|:pci:N]. Given "
    "several times: compare the backends; the first is the reference  "
    "[default: cpu].",
)
@click.option(
    "--min-agreement",
    metavar="PERCENT",
    type=click.FloatRange(0, 100),
    default=90.0,
    show_default=True,
    help="With several backends: lower agreement with the first is a failure.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="CPU threads for one inference.",
)
@third_party_options
@max_megapixels_option
@json_option
def validate(
    artifacts: tuple[Path, ...],
    reference: Path | None,
    data: Path,
    layout: str,
    split: str | None,
    max_drop: float | None,
    max_class_drop: float | None,
    save_scores: Path | None,
    flips: Path | None,
    max_flips: int,
    seconds: float,
    any_preprocessing: bool,
    backends: tuple[str, ...],
    min_agreement: float,
    threads: int,
    labels: Path | None,
    normalize: str | None,
    crop: Any,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Measure the accuracy drop of each ARTIFACT against the reference, with its 95 % interval.

    Every model gets the same pictures through the same preprocessing. With a budget the exit code is 3
    if it is exceeded and 4 if there are too few pictures to decide.

    With several backends and no reference, each classifies the same pictures: exit code 1 if one
    fails or gives different answers, 5 if one is not installed.

    \b
    Example:
      edgecls validate trash_int8.tflite --reference runs/trash --data photos/ --max-drop 1
      edgecls validate trash_int8.tflite --data photos/ --backend litert --backend litert-noxnnpack
    """
    from host_tools.predict import Opening

    opening = Opening(backends[0], threads, labels, normalize, crop)
    if len(backends) > 1:
        given = {
            "--reference": reference,
            "--max-drop": max_drop,
            "--max-class-drop": max_class_drop,
            "--save-scores": save_scores,
            "--flips": flips,
            "--any-preprocessing": any_preprocessing or None,
        }
        _check_single_backend([option for option, value in given.items() if value is not None])
        _compare_backends(
            artifacts, backends, data, opening, as_json,
            layout=layout, split=split, max_pixels=max_pixels, min_agreement=min_agreement / 100,
        )  # fmt: skip
        return
    if reference is None:
        raise click.UsageError(
            "Missing option '--reference': the drop is measured against it; name the run directory, or "
            "several backends (--backend A --backend B) to compare those"
        )
    if save_scores is not None and save_scores.suffix != ".npz":
        raise click.UsageError(
            f"--save-scores {save_scores}: expected a name that ends in .npz, as in scores.npz"
        )

    import json

    from host_tools.cli.output import end_with_verdict, print_comparison, say
    from host_tools.predict import save_scores as write_scores
    from host_tools.validate.flips import check_extras, write_flips
    from host_tools.validate.results import Budget
    from host_tools.validate.validation import scores_of
    from host_tools.validate.validation import validate as validate_artifacts

    if flips is not None:
        check_extras()
    comparison = validate_artifacts(
        artifacts,
        reference,
        data,
        layout=layout,
        split=split,
        budget=Budget(max_drop, max_class_drop),
        opening=opening,
        max_pixels=max_pixels,
        any_preprocessing=any_preprocessing,
        say=say,
    )
    if save_scores is not None:
        write_scores(save_scores, scores_of(comparison))
        say(f"wrote {save_scores}")
    if as_json:
        click.echo(json.dumps(comparison.to_json()))
    else:
        print_comparison(comparison)
    if flips is not None:
        page = write_flips(
            comparison,
            reference,
            artifacts,
            data,
            flips,
            opening,
            max_flips=max_flips,
            seconds=seconds,
            max_pixels=max_pixels,
            note=say,
        )
        say(f"wrote {page}")
    end_with_verdict(comparison)


def _check_single_backend(given: list[str]) -> None:
    if given:
        raise click.UsageError(
            f"{given[0]} needs a single --backend; several backends are compared with the first of "
            "them, so use two commands"
        )


def _compare_backends(
    artifacts: tuple[Path, ...],
    backends: tuple[str, ...],
    data: Path,
    opening: Any,
    as_json: bool,
    **how: Any,
) -> None:
    import json

    from host_tools.cli.output import say
    from host_tools.validate.agreement import to_lines, validate_runtimes

    agreement = validate_runtimes(artifacts, backends, data, opening=opening, note=say, **how)
    if as_json:
        click.echo(json.dumps(agreement.to_json()))
    else:
        for line in to_lines(agreement):
            click.echo(line)
    for participant in agreement.broken:
        if participant.status == "disagrees":
            say(f"{participant.runtime.backend} disagrees: {participant.reason}")
    if agreement.broken:
        raise click.exceptions.Exit(_FAILED)
    if agreement.missing:
        raise click.exceptions.Exit(_NOT_INSTALLED)
