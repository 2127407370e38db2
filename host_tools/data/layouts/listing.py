"""What lies in a folder, and how names are told in a message."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from edge_sdk.images import EXTENSIONS

_TOLD = 3


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in it, sorted, hidden ones left out.

    Raises:
        OSError: it cannot be read, or a link in it goes round in circles.
    """
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if not entry.name.startswith(".") and entry.is_dir()
        )


def pictures_below(folder: Path) -> list[Path]:
    """The picture files below a folder, sorted, hidden ones left out.

    As ``edge_sdk.sources.list_images``, but a folder that cannot be read is an error, since a
    data set must not shrink in silence.

    Raises:
        OSError: a folder cannot be read, or a link goes round in circles.
    """
    found: list[Path] = []
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif entry.name.lower().endswith(EXTENSIONS) and entry.is_file():
                    found.append(Path(entry.path))
    return sorted(found)


def first_few(names: Collection[str]) -> str:
    """The first three of some names, for a message."""
    told = [name for name, _ in zip(names, range(_TOLD), strict=False)]
    return ", ".join(told) + (", ..." if len(names) > _TOLD else "")
