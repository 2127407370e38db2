"""``edgecls data``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_sdk.cli.group import GATE_FAILED
from edge_sdk.cli.options import json_option, max_megapixels_option
from host_tools.cli.options import layout_option, prepared_data_options, set_option

if TYPE_CHECKING:
    from host_tools.data.load import DataPlace


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
    """Draw training pictures, as they are and as RECIPE augments them.

    \b
    Example:
      edgecls data preview small-cnn --data photos/ --set augmentation.rotation=20
    """
    from edge_sdk.files import write_atomically
    from host_tools.cli.output import say
    from host_tools.data.load import load_for
    from host_tools.recipe import load_recipe
    from host_tools.report.pictures import contact_sheet, jpeg

    loaded = load_recipe(recipe, overrides)
    dataset = load_for(loaded, data, say)
    write_atomically(out, jpeg(contact_sheet(dataset, loaded)))
    click.echo(out)


@click.group()
def data() -> None:
    """Check a data set before training.

    \b
    Example:
      edgecls data check photos/
    """


@data.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@layout_option
@click.option(
    "--near",
    "bits",
    metavar="BITS",
    type=click.IntRange(0, 32),
    default=10,
    show_default=True,
    help="Largest hash distance of near copies; 0: exact copies only.",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page with samples and pairs of copies, as in --page data-check.html.",
)
@max_megapixels_option
@json_option
def check(
    directory: Path, layout: str, bits: int, page: Path | None, max_pixels: int, as_json: bool
) -> None:
    """Check the pictures in DIR for damaged files, copies and leaks between splits.

    DIR is anything that --data accepts. The exit code is 3 if validation or test pictures are also in
    an earlier split: accuracy measured on them is too high.

    \b
    Example:
      edgecls data check photos/ --page data-check.html
    """
    import json

    from host_tools.cli.output import say
    from host_tools.data.audit.examine import examine
    from host_tools.data.audit.findings import findings
    from host_tools.data.audit.page import to_json, to_lines, write_page
    from host_tools.data.layouts import find_pictures

    seen = examine(find_pictures(directory, layout), bits, max_pixels, say)
    found = findings(seen)
    if as_json:
        click.echo(json.dumps(to_json(seen, found)))
    else:
        click.echo("\n".join(to_lines(seen, found)))
    if page is not None:
        write_page(page, seen, found, max_pixels)
        say(f"wrote {page}")
    if any(finding.severity == "error" for finding in found):
        say("a gate failed: the splits of this data set leak into each other")
        raise click.exceptions.Exit(GATE_FAILED)
