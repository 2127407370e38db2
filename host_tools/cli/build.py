"""``edgecls build``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from host_tools.cli.options import (
    corruptions_option,
    prepared_data_options,
    resume_option,
    set_option,
)

if TYPE_CHECKING:
    from host_tools.data.load import DataPlace


@click.command()
@click.argument("recipe")
@prepared_data_options(required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The run directory: model, artifacts, scores and report.",
)
@set_option
@resume_option
@corruptions_option
@click.option("--json", "as_json", is_flag=True, help="Print the validation as JSON.")
def build(
    recipe: str,
    data: DataPlace,
    out: Path,
    overrides: tuple[str, ...],
    resume: bool,
    corruptions: bool,
    as_json: bool,
) -> None:
    """Train, convert, validate and report, as RECIPE defines.

    RECIPE is a name from edgecls recipe list, or a TOML file. A budget in the recipe is a gate: exit
    code 3 if one failed, 4 if there are too few pictures to decide.

    \b
    Example:
      edgecls build edge-mobilenet --data photos/ --out trash
    """
    import json

    from host_tools.cli.output import end_with_verdict, print_comparison, say
    from host_tools.recipe import load_recipe
    from host_tools.workflow import build as build_everything

    comparison = build_everything(
        load_recipe(recipe, overrides), data, out, resume=resume, corruptions=corruptions, note=say
    )
    if as_json:
        click.echo(json.dumps(comparison.to_json()))
    else:
        print_comparison(comparison)
    say(f"report: {out / 'report.html'}")
    end_with_verdict(comparison)
