"""Data sets in the layouts people have them in, recognised by looking: one file per layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge_sdk.errors import DatasetError
from host_tools.data.layouts import folders
from host_tools.data.pictures import PictureFolder


class Layout(NamedTuple):
    """A layout: whether a path looks like it, and how it is read."""

    looks_like: Callable[[Path], bool]
    read: Callable[[Path], PictureFolder]


# Asked in this order; the last one takes whatever is left.
LAYOUTS: dict[str, Layout] = {
    "folders": Layout(folders.looks_like, folders.read),
}


def find_pictures(root: str | Path, layout: str = "auto") -> PictureFolder:
    """Reads a data set in the layout it is in.

    Args:
        root: a folder, an archive or a table, see ``docs/datasets.md``.
        layout: a name from ``LAYOUTS``; ``auto`` looks.

    Raises:
        DatasetError: nothing there, or not a data set in that layout; see ``check_found``.
    """
    root = Path(root)
    if not root.exists():
        raise DatasetError(f"{root}: there is no such folder")
    if layout == "auto":
        layout = next(name for name, known in LAYOUTS.items() if known.looks_like(root))
    return LAYOUTS[layout].read(root)
