"""``edgecls explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_sdk.cli.options import (
    ModelOptions,
    json_option,
    max_megapixels_option,
    model_options,
)
from host_tools.cli.options import data_option, layout_option, split_option


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", metavar="[IMAGE...]", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="A second model of the same classes, such as the int8 file made from the first.",
)
@click.option(
    "--method",
    "names",
    type=click.Choice(["grad-cam", "occlusion", "shap"]),
    multiple=True,
    help="May be given several times  [default: all that the model supports].",
)
@click.option(
    "--class", "label", metavar="LABEL", help="Explain this class  [default: the top-1 class]."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    help="Time limit for each picture, model and method.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("explain"),
    show_default=True,
    help="Folder for the maps and index.html.",
)
@data_option(required=False)
@layout_option
@split_option(
    ("train", "validation", "test", "all"),
    None,
    "Split to search for mistakes  [default: test, or all without splits].",
)
@click.option(
    "--worst",
    metavar="N",
    type=click.IntRange(min=1),
    help="With --data: the N wrong answers with the highest scores.",
)
@click.option(
    "--flips",
    metavar="N",
    type=click.IntRange(min=1),
    help="With --data and --against: N pictures that MODEL classifies right and the other wrong.",
)
@model_options
@max_megapixels_option
@json_option
def explain(
    model: Path,
    images: tuple[Path, ...],
    against: Path | None,
    names: tuple[Any, ...],
    label: str | None,
    seconds: float,
    out: Path,
    data: Path | None,
    layout: str,
    split: str | None,
    worst: int | None,
    flips: int | None,
    options: ModelOptions,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Draw heat maps of MODEL for each IMAGE, or for the worst mistakes in --data.

    MODEL is a run directory, a .keras file, any .tflite or .onnx. With --against the page shows two
    models side by side, and what a conversion changed.

    \b
    Example:
      edgecls explain runs/trash photo.jpg --against trash_int8.tflite
      edgecls explain runs/trash --data photos/ --worst 10
    """
    _check_options(images, data, against, split, worst, flips)

    from contextlib import ExitStack

    from host_tools.cli.output import say
    from host_tools.explain.explain import explain as explain_pictures
    from host_tools.explain.methods import choose_methods
    from host_tools.explain.subjects import (
        Search,
        find_mistakes,
        list_named,
        open_subjects,
        read_named,
    )
    from host_tools.predict import Opening

    files = list_named(images) if data is None else []
    failed = False

    def report(result: Any) -> None:
        nonlocal failed
        failed = _print(result, as_json) or failed

    with ExitStack() as stack:
        subjects = open_subjects(model, against, Opening(*options), say)
        for subject in subjects:
            stack.callback(subject.scorer.close)
        if label is not None:
            _check_label(label, subjects[0].labels)
        methods = choose_methods(names, subjects, say)
        if data is None:
            pictures: Any = read_named(files, subjects[0].preprocessing, max_pixels)
            total = len(files)
        else:
            search = Search(data, layout, split, worst or 0, flips or 0, max_pixels)
            pictures = find_mistakes(search, subjects, say)
            total = len(pictures)
        page = explain_pictures(
            pictures,
            subjects,
            methods,
            out,
            seconds=seconds,
            label=label,
            total=total,
            on_result=report,
        )
    say(f"wrote {page}" if page else "nothing to explain")
    if failed:
        raise click.exceptions.Exit(1)


def _print(result: Any, as_json: bool) -> bool:
    """Prints one explanation, or a picture that could not be read: then True."""
    import json

    from edge_sdk.types import ErrorRecord

    unreadable = isinstance(result, ErrorRecord)
    if as_json:
        click.echo(json.dumps(result.to_json()))
    elif unreadable:
        click.echo(f"{result.path}: {result.error}", err=True)
    else:
        click.echo(_sentence(result))
    return unreadable


def _sentence(explanation: Any) -> str:
    answers = ", ".join(
        f"{answer.model} {answer.topk[0].label} {answer.topk[0].score:.3f}"
        for answer in explanation.answers
    )
    agreements = ", ".join(
        f"{result.method} {result.difference.agreement:.3f}"
        for result in explanation.methods
        if result.difference is not None and result.difference.agreement is not None
    )
    truth = explanation.shown.truth
    labelled = f"labelled {truth}; " if truth is not None else ""
    agreement = f"; agreement of maps: {agreements}" if agreements else ""
    return f"{explanation.shown.path}  {labelled}{answers}{agreement}"


def _check_options(
    images: tuple[Path, ...],
    data: Path | None,
    against: Path | None,
    split: str | None,
    worst: int | None,
    flips: int | None,
) -> None:
    searching = worst is not None or flips is not None
    if images and data is not None:
        raise click.UsageError("got pictures and --data; give one of them")
    if data is None and (searching or split is not None):
        raise click.UsageError(
            "--worst, --flips and --split need labelled pictures; add --data DIR"
        )
    if data is not None and not searching:
        raise click.UsageError("--data needs a search; add --worst N or --flips N")
    if flips is not None and against is None:
        raise click.UsageError("--flips compares two models; add --against MODEL")
    if data is None and not images:
        raise click.UsageError("nothing to explain; name pictures, or give --data DIR --worst N")


def _check_label(label: str, labels: tuple[str, ...]) -> None:
    if labels.count(label) == 1:
        return
    import difflib

    if label in labels:
        raise click.BadParameter(
            f"{label!r} is the label of several classes of this model", param_hint="--class"
        )
    lower = {known.lower(): known for known in reversed(labels)}
    near = difflib.get_close_matches(label.lower(), lower, n=3, cutoff=0.5)
    near = near or [known for known in lower if label.lower() in known][:3] or list(lower)[-3:]
    names = ", ".join(lower[known] for known in near)
    raise click.BadParameter(
        f"{label!r} is none of this model's {len(labels)} labels; did you mean {names}?",
        param_hint="--class",
    )
