"""A folder of labelled pictures: one sub-folder per class, with or without ready splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_sdk.errors import DatasetError
from edge_sdk.images import EXTENSIONS
from edge_sdk.sources.folder import list_images

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

_SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """One file: its path, the index of its class, and its split where the folder has them."""

    path: Path
    label: int
    split: Split | None


@dataclass(frozen=True, slots=True)
class PictureFolder:
    """What was found: class names in the order of their indices, and all pictures, sorted."""

    root: Path
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]

    @property
    def ready_splits(self) -> frozenset[Split]:
        """The splits that the folder itself has; empty where edgecls splits it."""
        return frozenset(picture.split for picture in self.pictures if picture.split is not None)


def find_pictures(root: str | Path) -> PictureFolder:
    """Looks through a folder.

    Sub-folders named train, val, valid, validation or test are splits with a folder per class
    each; otherwise every sub-folder is a class. Classes are sorted by name, as Keras does.

    Raises:
        DatasetError: no folder, no pictures, an empty class, a name that is no label, or a class
            that the training split lacks.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: there is no such folder")
    folders = _subfolders(root)
    # A split holds folders; a class that happens to be called "train" holds pictures.
    splits = {
        folder: _SPLIT_FOLDERS[folder.name.lower()]
        for folder in folders
        if folder.name.lower() in _SPLIT_FOLDERS and _subfolders(folder)
    }
    found: list[tuple[Path, Split | None]]
    if "train" in splits.values() or (splits and len(splits) == len(folders)):
        beside = [folder.name for folder in folders if folder not in splits and list_images(folder)]
        if beside:
            raise DatasetError(
                f"{root}: {', '.join(beside)} stands beside the splits and is none of them; splits "
                f"are called {', '.join(_SPLIT_FOLDERS)}"
            )
        found = [
            (inner, split) for folder, split in splits.items() for inner in _subfolders(folder)
        ]
    else:
        found = [(folder, None) for folder in folders]
    classes = sorted({folder.name for folder, _ in found})
    index = {name: i for i, name in enumerate(classes)}
    pictures = [
        Picture(path, index[folder.name], split)
        for folder, split in found
        for path in list_images(folder)
    ]
    _check(root, tuple(classes), pictures)
    return PictureFolder(root, tuple(classes), tuple(sorted(pictures, key=lambda p: p.path)))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _check(root: Path, classes: tuple[str, ...], pictures: list[Picture]) -> None:
    if not pictures:
        raise DatasetError(
            f"{root}: no pictures in it; expected a folder per class, as in {root}/cat/1.jpg "
            f"({' '.join(EXTENSIONS)})"
        )
    counts = Counter(picture.label for picture in pictures)
    empty = [name for i, name in enumerate(classes) if not counts[i]]
    if empty:
        raise DatasetError(
            f"{root}: no pictures in the class folder {', '.join(empty)}; fill it or remove it"
        )
    odd = [name for name in classes if "\n" in name or "\r" in name]
    if odd:
        raise DatasetError(
            f"{root}: the class {odd[0]!r} cannot stand on a line of labels; rename it"
        )
    train = {picture.label for picture in pictures if picture.split == "train"}
    unknown = [name for i, name in enumerate(classes) if train and i not in train]
    if unknown:
        raise DatasetError(f"{root}: class {', '.join(unknown)} has no training pictures")


def check_trainable(folder: PictureFolder) -> None:
    """What training asks of a folder beyond being one.

    Raises:
        DatasetError: fewer than two classes, or a class with a single picture.
    """
    root, classes = folder.root, folder.classes
    counts = Counter(picture.label for picture in folder.pictures)
    if len(classes) < 2:
        raise DatasetError(
            f"{root}: only one class, {classes[0]}; a classifier needs at least two folders side by side"
        )
    single = [name for i, name in enumerate(classes) if counts[i] == 1]
    if single:
        raise DatasetError(
            f"{root}: a single picture in class {', '.join(single)}; a class needs one to learn "
            "from and one to test on, and dozens to be learnt well"
        )
