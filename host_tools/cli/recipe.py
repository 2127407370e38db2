"""``edgecls recipe``."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def recipe() -> None:
    """List, show and check recipes.

    \b
    Example:
      edgecls recipe list
    """


@recipe.command("list")
def list_() -> None:
    """List the built-in recipes.

    \b
    Example:
      edgecls recipe list
    """
    from host_tools.recipe import builtin_recipes, load_recipe, variants_of

    names = builtin_recipes()
    width = max(map(len, names))
    for name in names:
        click.echo(f"{name.ljust(width)}  {load_recipe(name).description}")
        if variants := variants_of(name):
            click.echo(f"{' ' * width}  variants: {', '.join(f'{name}:{v}' for v in variants)}")


@recipe.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a recipe as TOML, with every key set and explained: a start for your own.

    NAME:VARIANT shows a variant.

    \b
    Example:
      edgecls recipe show small-cnn > mine.toml
    """
    from host_tools.recipe import load_recipe, notes_of, recipe_toml

    click.echo(notes_of(name) + recipe_toml(load_recipe(name), explained=True), nl=False)


@recipe.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a recipe file; exit code 2 for an invalid key or value.

    \b
    Example:
      edgecls recipe check mine.toml
    """
    from host_tools.recipe import load_recipe, variants_of

    names = [load_recipe(file).name]
    names += [load_recipe(f"{file}:{variant}").name for variant in variants_of(file)]
    click.echo(f"{file}: a valid recipe, {', '.join(names)}")
