"""Elements of an HTML page: all text is escaped here; only ``Markup`` is inserted unchanged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from string import Template

from edge_sdk.bench.charts import look


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: str) -> Markup:
    """The value, escaped unless it is markup already."""
    if isinstance(value, Markup):
        return value
    return Markup(escape(value).replace(" %", "&nbsp;%"))  # no line break before the percent sign


def join(parts: Iterable[str]) -> Markup:
    """All parts one after another."""
    return Markup("\n".join(text(part) for part in parts if part))


def tag(name: str, *content: str, kind: str = "") -> Markup:
    """An element, with a class of the style sheet where given."""
    attribute = f' class="{escape(kind)}"' if kind else ""
    return Markup(f"<{name}{attribute}>{''.join(text(part) for part in content)}</{name}>")


def section(title: str, *content: str, kind: str = "") -> Markup:
    """A card of the page; empty without content."""
    known = [part for part in content if part]
    return tag("section", tag("h2", title), join(known), kind=kind) if known else Markup("")


def listed(entries: Iterable[str]) -> Markup:
    """A list."""
    return tag("ul", join(tag("li", entry) for entry in entries))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> Markup:
    """A table that scrolls horizontally on a narrow screen."""
    first = tag("tr", *(tag("th", cell) for cell in head)) if head else Markup("")
    body = join(tag("tr", *(tag("td", cell) for cell in row)) for row in rows)
    return tag("div", tag("table", first, body, kind=kind), kind="wide")


def facts(rows: Iterable[tuple[str, str]]) -> Markup:
    """A table of names and values, without a head."""
    return table((), rows, kind="facts")


def beside(pieces: Iterable[str]) -> Markup:
    """Pieces in as many columns as fit."""
    known = [piece for piece in pieces if piece]
    return (
        tag("div", join(tag("div", piece) for piece in known), kind="beside")
        if known
        else Markup("")
    )


def figure(title: str, caption: str, drawn: str) -> Markup:
    """A chart with its title and caption."""
    return join(
        (
            tag("h3", breakable(title)),
            tag("p", caption, kind="quiet small") if caption else "",
            Markup(drawn),
        )
    )


def breakable(value: str) -> Markup:
    """The name of a model or a file, with optional line breaks at its separators."""
    whole = re.sub(r"(\d) (threads?)\b", r"\1&nbsp;\2", escape(value))
    return Markup(re.sub(r"([_/\-·])(?=\w)", r"\1<wbr>", whole))


def key(series: int) -> Markup:
    """A short line in the colour of a series."""
    return Markup(f'<span class="key {look(series)}"></span>')


def named(series: int, value: str) -> Markup:
    """A name with its colour."""
    return Markup(f"{key(series)}{breakable(value)}")


def legend(names: Sequence[str], series: Sequence[int] | None = None) -> Markup:
    """Names with their colours; nothing for a single one."""
    if len(names) < 2:
        return Markup("")
    order = series or range(len(names))
    entries = (tag("li", named(i, entry)) for i, entry in zip(order, names, strict=True))
    return Markup(f'<ul class="legend">{"".join(entries)}</ul>')


def bars(rows: Sequence[tuple[str, Sequence[tuple[int, float]], str]]) -> Markup:
    """Horizontal bars from 0, each of one or more parts, all on the same scale.

    Args:
        rows: name, ``(colour, length)`` of the parts, and the figure beside it.
    """
    most = max((sum(max(0.0, v) for _, v in parts) for _, parts, _ in rows), default=0.0) or 1.0
    pieces = []
    for title, parts, value_text in rows:
        drawn = "".join(
            f'<u class="{look(colour)}" style="width:{100 * max(0.0, value) / most:.2f}%"></u>'
            for colour, value in parts
        )
        pieces.append(
            tag("div", tag("b", breakable(title)), tag("span", Markup(drawn)), tag("i", value_text))
        )
    return tag("div", *pieces, kind="bars")


def whole_page(title: str, parts: Iterable[str]) -> str:
    """The page with the style sheet that comes with this package."""
    template = resources.files("edge_sdk.bench").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(title), body=join(parts))
