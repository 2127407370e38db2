"""Every page of the host: one template environment, one style sheet.

A page is a template of this folder that extends ``base.html``. Names of folders and files may hold
any text: every value is escaped, except what a caller marks as ``markup``.
"""

from __future__ import annotations

import base64
import functools
from pathlib import Path
from typing import Any, Literal

from edge_sdk.files import write_atomically
from host_tools.extras import require

_SPACE = "\N{NO-BREAK SPACE}"


def check_installed() -> None:
    """Checks that a page can be written, before minutes of work for it.

    Raises:
        MissingExtraError: the extra ``[host]`` is not installed.
    """
    _environment()


def write_page(path: Path, template: str, **values: Any) -> None:
    """Fills in a template and writes the page, whole or not at all.

    Args:
        path: where the page goes.
        template: the name of a template in this folder, such as ``flips.html``.
        values: what the template names.

    Raises:
        MissingExtraError: the extra ``[host]`` is not installed.
        OSError: the page cannot be written.
    """
    # A file name need not be valid UTF-8.
    write_atomically(path, render(template, **values).encode(errors="backslashreplace"))


def render(template: str, **values: Any) -> str:
    """The page that ``template`` gives with ``values``; raises as ``write_page`` does."""
    page: str = _environment().get_template(template).render(values)
    return page


def markup(text: str) -> Any:
    """``text`` as it is, for a template: HTML or SVG that this project generated, never a user's text."""
    return require("markupsafe").Markup(text)


def data_url(data: bytes, kind: Literal["jpeg", "png"]) -> str:
    """An image file as a URL that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@functools.cache
def _environment() -> Any:
    jinja2 = require("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("host_tools", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "decimal": lambda figure: "" if figure is None else f"{figure:.3f}",
        "signed": lambda points: f"{points:+.2f}",
        "kilobytes": lambda size: f"{size / 1000:,.1f} kB",
        "file_name": lambda path: Path(path).name,
        "jpeg_url": lambda data: data_url(data, "jpeg"),
    }
    return environment


def _percent(share: float | None, places: int = 2) -> str:
    """A share, 0..1, in percent; nothing where it is not known."""
    return "" if share is None else f"{100 * share:.{places}f}{_SPACE}%"
