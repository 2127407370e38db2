"""Reads every picture of a data set once and keeps what the findings are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import DatasetError
from edge_sdk.imageheader import Kind
from edge_sdk.vision.images import MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing, Preprocessor
from host_tools.audit.likeness import SIDE_PX
from host_tools.audit.strays import Strays, find_strays, true_kind
from host_tools.data.audit.duplicates import (
    DEFAULT_BITS,
    CopyGroup,
    NearCopies,
    exact_copies,
    near_copies,
)
from host_tools.data.decode import Unreadable, decode_all
from host_tools.data.pictures import Picture, PictureFolder
from host_tools.progress import progress

_COLOUR = Preprocessing(SIDE_PX, SIDE_PX, 3, "squash")
_GRAY = Preprocessing(SIDE_PX, SIDE_PX, 1, "squash")
# JPEG stores colours apart from brightness, and a gray picture comes back within two levels.
_GRAY_LEVELS = 2


@dataclass(frozen=True, slots=True)
class Misnamed:
    """A picture whose ending promises another format than it has."""

    path: Path
    kind: Kind


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """What was found in a data set.

    Attributes:
        folder: as the layout reads it.
        pictures: N that can be read.
        unreadable: the others, and why.
        sizes: ``(N, 2)`` int64 width and height in pixels, as shown (EXIF rotation applied).
        gray: ``(N,)`` bool, pictures without colours.
        misnamed: pictures with a wrong ending.
        strays: files that are not read.
        exact: groups of pictures with the same pixels.
        near: groups of pictures that show the same; None where they were not looked for.
    """

    folder: PictureFolder
    pictures: tuple[Picture, ...]
    unreadable: tuple[Unreadable, ...]
    sizes: NDArray[np.int64]
    gray: NDArray[np.bool_]
    misnamed: tuple[Misnamed, ...]
    strays: Strays
    exact: tuple[CopyGroup, ...]
    near: NearCopies | None


def examine(
    folder: PictureFolder,
    bits: int = DEFAULT_BITS,
    max_pixels: int = MAX_PIXELS,
    say: Callable[[str], None] = lambda _: None,
) -> Examination:
    """Reads every picture; takes about 3 kB of memory for each.

    Args:
        folder: the data set.
        bits: how far the hashes of near copies may be apart; 0 looks for exact copies only.
        max_pixels: larger pictures count as unreadable.
        say: takes a line about what is being done.

    Raises:
        DatasetError: no picture can be read.
    """
    total = len(folder.pictures)
    thumbnails = np.empty((total, SIDE_PX, SIDE_PX), np.uint8)
    sizes = np.empty((total, 2), np.int64)
    gray = np.empty(total, bool)
    small, colourless = Preprocessor(_COLOUR), Preprocessor(_GRAY)
    pictures: list[Picture] = []
    digests: list[str] = []
    unreadable: list[Unreadable] = []
    misnamed: list[Misnamed] = []
    say(f"{folder.root}: reading {total:,} pictures")
    for result in progress(decode_all(folder.pictures, max_pixels), "reading", total):
        if isinstance(result, Unreadable):
            unreadable.append(result)
            continue
        at, picture = len(pictures), result.picture
        height, width = result.frame.pixels.shape[:2]
        colours = small(result.frame)
        sizes[at] = width, height
        gray[at] = np.ptp(colours.astype(np.int16), axis=2).max() <= _GRAY_LEVELS
        thumbnails[at] = colourless(colours)[:, :, 0]
        pictures.append(picture)
        digests.append(result.digest)
        kind = true_kind(picture.path) if picture.pixels is None else None
        if kind is not None:
            misnamed.append(Misnamed(picture.path, kind))
    if not pictures:
        first = unreadable[0]
        raise DatasetError(
            f"{folder.root}: none of its {total} pictures can be read, first {first.picture.path}: "
            f"{first.reason}; copy them again"
        )
    n = len(pictures)
    near = None
    if bits:
        say(f"comparing {n:,} pictures with each other")
        labels = np.array([picture.label for picture in pictures], np.int64)
        near = near_copies(thumbnails[:n], labels, digests, bits)
    return Examination(
        folder,
        tuple(pictures),
        tuple(unreadable),
        sizes[:n],
        gray[:n],
        tuple(misnamed),
        find_strays(folder),
        exact_copies(digests),
        near,
    )
