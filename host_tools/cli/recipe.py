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
    """List the recipes that come with edgecls.

    \b
    Example:
      edgecls recipe list
    """
    from host_tools.recipe import builtin_recipes, load_recipe

    names = builtin_recipes()
    width = max(map(len, names))
    for name in names:
        click.echo(f"{name.ljust(width)}  {load_recipe(name).description}")


@recipe.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a recipe with every default filled in: a TOML file to start your own from.

    \b
    Example:
      edgecls recipe show small-cnn > mine.toml
    """
    from host_tools.recipe import load_recipe, recipe_toml

    click.echo(recipe_toml(load_recipe(name)), nl=False)


@recipe.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a recipe file; a wrong key or value is exit code 2.

    \b
    Example:
      edgecls recipe check mine.toml
    """
    from host_tools.recipe import load_recipe

    click.echo(f"{file}: a valid recipe, {load_recipe(file).name}")
