"""Files of a data set's folder that no layout reads, and pictures with a wrong ending."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from edge_sdk.errors import UnreadableImageError
from edge_sdk.imageheader import Kind, read_header
from edge_sdk.vision.images import EXTENSIONS
from host_tools.data.pictures import PictureFolder

# What belongs to a layout without being a picture: paths below its folder, as fnmatch reads them.
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
_FOREIGN = tuple(
    ".heic .heif .avif .jxl .jp2 .jfif .jpe .dng .cr2 .cr3 .nef .arw .orf .raf .raw .psd .svg .ppm .pgm "
    ".tga .ico .dcm".split()
)
_HEAD_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Strays:
    """Files that are not read.

    Attributes:
        foreign: pictures in formats that edgecls does not read.
        unlabelled: pictures outside of the classes.
        others: anything else.
    """

    foreign: tuple[Path, ...] = ()
    unlabelled: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()


def find_strays(folder: PictureFolder) -> Strays:
    """Looks for them below the folder; hidden files and what belongs to the layout are passed over.

    Archives and tables named by themselves have none: what lies beside them is no part of them.
    """
    foreign: list[Path] = []
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
                (foreign if ending in _FOREIGN else others).append(path)
    return Strays(tuple(foreign), tuple(unlabelled), tuple(others))


def true_kind(path: Path) -> Kind | None:
    """What a picture file is, where its name says something else; None where the name is right.

    Only the head is read, as the picture has been decoded before.
    """
    said = _KINDS.get(path.suffix.lower())
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            try:
                kind = read_header(head, str(path)).kind
            except UnreadableImageError:  # a long head, such as a camera's with a preview inside
                kind = read_header(head + file.read(), str(path)).kind
    except (OSError, UnreadableImageError):
        return None
    return None if kind == said else kind


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
