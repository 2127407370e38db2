"""``edgecls build``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_sdk.cli.options import max_megapixels_option
from host_tools.cli.options import data_option, resume_option, set_option


@click.command()
@click.argument("recipe")
@data_option(required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The run directory: model, artifacts, scores and report.",
)
@set_option
@resume_option
@click.option("--json", "as_json", is_flag=True, help="Print the validation as JSON.")
@max_megapixels_option
def build(
    recipe: str,
    data: Path,
    out: Path,
    overrides: tuple[str, ...],
    resume: bool,
    as_json: bool,
    max_pixels: int,
) -> None:
    """Train, convert, validate and report: everything that RECIPE says.

    RECIPE is a name from edgecls recipe list, or a TOML file. Gates are those the recipe names a
    budget for: exit code 3 if one failed, 4 if there are too few pictures to tell.

    \b
    Example:
      edgecls build edge-mobilenet --data photos/ --out trash
    """
    import json

    from host_tools.cli.output import end_with_verdict, print_comparison, say
    from host_tools.recipe import load_recipe
    from host_tools.workflow import build as build_everything

    comparison = build_everything(
        load_recipe(recipe, overrides), data, out, resume=resume, max_pixels=max_pixels, say=say
    )
    if as_json:
        click.echo(json.dumps(comparison.to_json()))
    else:
        print_comparison(comparison)
    say(f"report: {out / 'report.html'}")
    end_with_verdict(comparison)
