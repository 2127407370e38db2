"""Reads every picture of a data set once and keeps what the findings need."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import DatasetError, UnreadableImageError
from edge_sdk.vision.headers import Kind, read_header
from edge_sdk.vision.images import EXTENSIONS, MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing, Preprocessor
from host_tools.data.audit.duplicates import (
    DEFAULT_BITS,
    SIDE_PX,
    CopyGroup,
    NearCopies,
    exact_copies,
    near_copies,
)
from host_tools.data.pictures import Picture, PictureFolder, Unreadable, decode_all
from host_tools.progress import progress

# Files that belong to a layout and are not pictures: paths below its folder, as fnmatch reads them.
_BELONGS: dict[str, tuple[str, ...]] = {
    "cifar10": ("*",),
    "imagenet100": ("Labels.json",),
    "tiny-imagenet": ("w*.txt", "*_boxes.txt", "val/val_annotations.txt", "test/*"),
    "csv": ("*.csv", "*.tsv"),
    "folders": (),
}
_DOCUMENTS = ("readme*", "license*", "copying*", "citation*", "*.md")

_KINDS: dict[str, Kind] = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
# Pictures that edgecls does not read.
_UNSUPPORTED = tuple(
    ".heic .heif .avif .jxl .jp2 .jfif .jpe .dng .cr2 .cr3 .nef .arw .orf .raf .raw .psd .svg .ppm .pgm "
    ".tga .ico .dcm".split()
)
_HEAD_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Strays:
    """Files that are not read.

    Attributes:
        unsupported: pictures in formats that edgecls does not read.
        unlabelled: pictures outside of the classes.
        others: anything else.
    """

    unsupported: tuple[Path, ...] = ()
    unlabelled: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()


def find_strays(folder: PictureFolder) -> Strays:
    """Finds stray files below the folder; hidden files and files of the layout are skipped.

    An archive or a table given by its path has none: the files beside it are not part of it.
    """
    unsupported: list[Path] = []
    unlabelled: list[Path] = []
    others: list[Path] = []
    if folder.root.is_dir():
        read = {os.path.normpath(picture.path) for picture in folder.pictures}
        for path in _files_below(folder.root):
            if os.path.normpath(path) in read or _belongs(path, folder):
                continue
            ending = path.suffix.lower()
            if ending in EXTENSIONS:
                unlabelled.append(path)
            else:
                (unsupported if ending in _UNSUPPORTED else others).append(path)
    return Strays(tuple(unsupported), tuple(unlabelled), tuple(others))


def true_kind(path: Path) -> Kind | None:
    """The true format of a picture file whose name claims another; None where the name is right.

    Only the head is read, as the picture has been decoded before.
    """
    claimed = _KINDS.get(path.suffix.lower())
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            try:
                kind = read_header(head, str(path)).kind
            except UnreadableImageError:  # a long head, such as a camera's with a preview inside
                kind = read_header(head + file.read(), str(path)).kind
    except (OSError, UnreadableImageError):
        return None
    return None if kind == claimed else kind


def _belongs(path: Path, folder: PictureFolder) -> bool:
    within = path.relative_to(folder.root)
    if len(within.parts) == 1 and _matches(path.name.lower(), _DOCUMENTS):
        return True
    return _matches(within.as_posix(), _BELONGS.get(folder.layout, ()))


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _files_below(root: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(where, name)


_COLOUR = Preprocessing(SIDE_PX, SIDE_PX, 3, "squash")
_GRAY = Preprocessing(SIDE_PX, SIDE_PX, 1, "squash")
# JPEG stores colours apart from brightness, and a gray picture comes back within two levels.
_GRAY_LEVELS = 2


@dataclass(frozen=True, slots=True)
class Misnamed:
    """A picture whose file extension names another format than it has."""

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
        misnamed: pictures with a wrong file extension.
        strays: files that are not read.
        exact: groups of pictures with the same pixels.
        near: groups of near copies; None where they were not searched for.
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
    note: Callable[[str], None] = lambda _: None,
) -> Examination:
    """Reads every picture; takes about 3 kB of memory for each.

    Args:
        folder: the data set.
        bits: largest Hamming distance of near copies' hashes; 0 finds exact copies only.
        max_pixels: larger pictures count as unreadable.
        note: called with a message for each step.

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
    note(f"{folder.root}: reading {total:,} pictures")
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
        note(f"comparing {n:,} pictures with each other")
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
