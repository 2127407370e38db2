"""Options that several host commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def data_option(*, required: bool) -> Callable[[F], F]:
    """``--data``: a folder of labelled pictures."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        required=required,
        help="Labelled pictures: a folder per class, or train/val/test with a folder per class each.",
    )


def split_option(choices: tuple[str, ...], default: str | None, what: str) -> Callable[[F], F]:
    """``--split``: which of the pictures."""
    return click.option(
        "--split",
        type=click.Choice(choices),
        default=default,
        show_default=default is not None,
        help=what,
    )


def set_option(function: F) -> F:
    """``--set KEY=VALUE``, given to the callback as ``overrides``."""
    return click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Change the recipe, as in --set training.epochs=20.",
    )(function)


def resume_option(function: F) -> F:
    """``--resume``."""
    return click.option(
        "--resume", is_flag=True, help="Go on where an interrupted training stopped."
    )(function)
