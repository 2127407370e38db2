"""``edgecls data preview``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from host_tools.cli.options import prepared_data_options, set_option

if TYPE_CHECKING:
    from host_tools.data.prepare import DataPlace


@click.command()
@click.argument("recipe")
@prepared_data_options(required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("preview.jpg"),
    show_default=True,
    help="The picture to write, a JPEG.",
)
@set_option
def preview(recipe: str, data: DataPlace, out: Path, overrides: tuple[str, ...]) -> None:
    """Draw what a network would see: training pictures as they are and as RECIPE augments them.

    \b
    Example:
      edgecls data preview small-cnn --data photos/ --set augmentation.rotation=20
    """
    from edge_sdk.files import write_atomically
    from host_tools.cli.output import say
    from host_tools.data.prepare import load_for
    from host_tools.recipe import load_recipe
    from host_tools.report.contact_sheet import contact_sheet, jpeg

    loaded = load_recipe(recipe, overrides)
    dataset = load_for(loaded, data, say)
    write_atomically(out, jpeg(contact_sheet(dataset, loaded)))
    click.echo(out)
