"""Progress on standard error: a bar on a terminal, nothing in a log."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from typing import TypeVar

from edge_sdk.terminal import own, printable

T = TypeVar("T")


def progress(items: Iterable[T], what: str, total: int) -> Generator[T, None, None]:
    """Passes ``items`` through, showing how far it is and how long it will take."""
    if not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(
        items, desc=printable(what), total=total, unit="", leave=False, file=own(sys.stderr)
    )
