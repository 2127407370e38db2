"""``edgecls train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from host_tools.cli.options import (
    corruptions_option,
    prepared_data_options,
    resume_option,
    set_option,
    split_option,
    team_options,
)

if TYPE_CHECKING:
    from host_tools.data.load import DataPlace
    from host_tools.train.distributed import Meeting


@click.command()
@click.argument("recipe")
@prepared_data_options(required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="The run directory  [default: runs/NAME, or runs/NAME-2 ... beside finished ones].",
)
@split_option(
    ("train", "all"),
    "train",
    "Pictures to train on; all leaves none for validation or test, for a final training.",
)
@set_option
@resume_option
@corruptions_option
@team_options
def train(
    recipe: str,
    data: DataPlace,
    out: Path | None,
    split: str,
    overrides: tuple[str, ...],
    resume: bool,
    corruptions: bool,
    meeting: Meeting | None,
    together: bool,
) -> None:
    """Train a model: RECIPE is a name from edgecls recipe list, or a TOML file.

    A checkpoint is written after every epoch; after Ctrl-C the same command with --resume continues.

    \b
    Example:
      edgecls train small-cnn --data photos/ --out runs/first --set training.epochs=20
    """
    from contextlib import ExitStack

    from host_tools.cli.output import say
    from host_tools.data.load import load_for
    from host_tools.recipe import load_recipe
    from host_tools.run_directory import RunDirectory, default_folders, take_default, taken
    from host_tools.train.distributed import use_jax
    from host_tools.workflow import train_run

    if together:
        use_jax()
    loaded = load_recipe(recipe, overrides)
    with ExitStack() as stack:
        # Before the pictures are read, which may take long. Only rank 0 writes.
        if meeting is not None and meeting.rank > 0:
            out = out or next(default_folders(loaded.name, resume=resume))
        elif out is None:
            out = stack.enter_context(take_default(loaded.name, resume=resume))
        else:
            stack.enter_context(taken(out))
        run = RunDirectory(out)
        dataset = load_for(loaded, data, say)
        if split == "all":
            dataset = dataset.all_for_training()
        report = train_run(
            loaded,
            dataset,
            run,
            resume=resume,
            corruptions=corruptions,
            note=say,
            together=together,
            meeting=meeting,
        )
    if report is None:
        say("done; rank 0 writes the run directory")
        return
    evaluation = report["evaluation"]
    if evaluation["n"]:
        click.echo(
            f"{run.path}: accuracy {100 * evaluation['accuracy']:.2f} % on {evaluation['n']} "
            "validation pictures"
        )
    say(f"next: edgecls convert {run.path} --data {data.path}")
