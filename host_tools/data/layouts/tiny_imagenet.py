"""Tiny ImageNet as Stanford's CS231n distributes it."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.errors import DatasetError
from edge_sdk.files import read_text
from host_tools.data.layouts.listing import class_names, first_few, pictures_below, subfolders
from host_tools.data.pictures import Picture, PictureFolder, check_found


def looks_like(root: Path) -> bool:
    """``val/val_annotations.txt``, or ``wnids.txt`` and an ``images`` folder in every class."""
    if not root.is_dir():
        return False
    if _annotations(root).is_file():
        return True
    return (root / "wnids.txt").is_file() and any(
        (folder / "images").is_dir() for folder in _class_folders(root)
    )


def read(root: Path) -> PictureFolder:
    """Reads ``train`` as the training split and the annotated pictures of ``val`` as the test split.

    Classes are in the order of their WordNet identifiers and are named by ``words.txt``. ``test``
    has no labels and is ignored.

    Raises:
        DatasetError: ``val`` without annotations, or annotations that do not fit the pictures; see
            ``check_found``.
        OSError: a folder cannot be read.
    """
    folders = _class_folders(root)
    index = {folder.name: i for i, folder in enumerate(folders)}
    train = [
        Picture(path, index[folder.name], "train")
        for folder in folders
        for path in pictures_below(folder / "images")
    ]
    pictures = (*train, *_val(root, index))
    words = root / "words.txt"
    classes = class_names(list(index), _pairs(words) if words.exists() else {})
    check_found(root, classes, pictures)
    return PictureFolder(root, classes, pictures, "tiny-imagenet")


def _class_folders(root: Path) -> list[Path]:
    return subfolders(root / "train") if (root / "train").is_dir() else []


def _annotations(root: Path) -> Path:
    return root / "val" / "val_annotations.txt"


def _val(root: Path, index: dict[str, int]) -> list[Picture]:
    if not (root / "val").is_dir():
        return []
    annotations = _annotations(root)
    if not annotations.is_file():
        raise DatasetError(
            f"{annotations}: there is no such file, and the labels of val/images are in it; unpack "
            "the archive again, or add --layout folders where val has a folder per class"
        )
    labelled = _pairs(annotations)
    images = root / "val" / "images"
    files = {path.name: path for path in pictures_below(images)} if images.is_dir() else {}
    for problem, names in (
        ("are not in val/images", [name for name in labelled if name not in files]),
        (
            "are in val/images and not in this file",
            [name for name in files if name not in labelled],
        ),
        (
            "are of a class that train lacks",
            [f"{name} ({wnid})" for name, wnid in labelled.items() if wnid not in index],
        ),
    ):
        if names:
            raise DatasetError(
                f"{annotations}: {len(names)} pictures {problem}: {first_few(names)}; expected a line "
                "for every picture of val/images, in the classes of train; unpack the archive again"
            )
    return [Picture(path, index[labelled[name]], "test") for name, path in files.items()]


def _pairs(path: Path) -> dict[str, str]:
    """The first of the tab-separated columns to the second."""
    try:
        lines = read_text(path).split("\n")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not UTF-8 text ({error}); unpack it again") from error
    pairs: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) < 2 or pairs.get(cells[0], cells[1]) != cells[1]:
            raise DatasetError(
                f"{path}: line {number} reads {line[:80]!r}; expected a name, a tab, and one and the "
                "same answer for each line with that name; unpack it again"
            )
        pairs[cells[0]] = cells[1]
    return pairs
