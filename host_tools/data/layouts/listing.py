"""The contents of a folder, names in a message, and the names of WordNet classes."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from edge_sdk.vision.images import EXTENSIONS

_MOST_NAMED = 3
_LOOPS: set[str] = set()  # a folder is listed several times, each link is logged once
_log = logging.getLogger("edgecls.data")


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in it, sorted, hidden ones left out.

    A symbolic link that loops is left out and logged.

    Raises:
        OSError: it cannot be read.
    """
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if not entry.name.startswith(".") and _leads_to_folder(entry)
        )


def pictures_below(folder: Path) -> list[Path]:
    """The picture files below a folder, sorted, hidden ones left out.

    As ``edge_sdk.sources.folder.list_images``, but a folder that cannot be read is an error, since a
    data set must not shrink in silence. A symbolic link that loops is left out and logged.

    Raises:
        OSError: a folder cannot be read.
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
                elif entry.name.lower().endswith(EXTENSIONS) and _leads_to_file(entry):
                    found.append(Path(entry.path))
    return sorted(found)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    return _followed(entry, entry.is_dir)


def _leads_to_file(entry: os.DirEntry[str]) -> bool:
    return _followed(entry, entry.is_file)


def _followed(entry: os.DirEntry[str], test: Callable[[], bool]) -> bool:
    try:
        return test()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    if entry.path not in _LOOPS:
        _LOOPS.add(entry.path)
        _log.warning("%s: left out, a symbolic link that loops; remove it", entry.path)
    return False


def first_few(names: Collection[str]) -> str:
    """The first three of some names, for a message."""
    shown = [name for name, _ in zip(names, range(_MOST_NAMED), strict=False)]
    return ", ".join(shown) + (", ..." if len(names) > _MOST_NAMED else "")


def class_names(wnids: Sequence[str], words: Mapping[str, str]) -> tuple[str, ...]:
    """A name for every identifier: its first word, as in "tench" for "tench, Tinca tinca".

    An identifier without words is its own name. Two classes of one name (ImageNet has two cranes)
    are distinguished by their identifiers, as in "crane (n03126707)".
    """
    names = [words.get(wnid, "").split(",")[0].strip() or wnid for wnid in wnids]
    count = Counter(names)
    return tuple(
        name if count[name] == 1 else f"{name} ({wnid})"
        for name, wnid in zip(names, wnids, strict=True)
    )
