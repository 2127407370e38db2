"""ImageNet-100 as Kaggle distributes it: the training pictures in parts, ``train.X1`` and so on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import DatasetError
from edge_sdk.files import TEXT_BYTES, read_file
from host_tools.data.layouts.listing import class_names, first_few, pictures_below, subfolders
from host_tools.data.pictures import Picture, PictureFolder, Split, check_found

_TRAIN, _VAL = "train.X", "val.X"


def looks_like(root: Path) -> bool:
    """A folder with ``train.X1`` in it, or another part."""
    return root.is_dir() and bool(_parts(root, _TRAIN))


def read(root: Path) -> PictureFolder:
    """Reads all parts as one training split, and ``val.X`` as the test split.

    Classes are in the order of their WordNet identifiers and are named by ``Labels.json``.

    Raises:
        DatasetError: ``val.X`` has a class that no part has, or ``Labels.json`` is damaged; see
            ``check_found``.
        OSError: a folder cannot be read.
    """
    train, val = _class_folders(root, _TRAIN), _class_folders(root, _VAL)
    wnids = sorted({folder.name for folder in train})
    unknown = sorted({folder.name for folder in val}.difference(wnids))
    if unknown:
        raise DatasetError(
            f"{root}: {len(unknown)} classes of val.X are in none of the train.X folders: "
            f"{first_few(unknown)}; unpack every part, train.X1 to train.X4, into this folder"
        )
    index = {wnid: i for i, wnid in enumerate(wnids)}
    found: list[tuple[Sequence[Path], Split]] = [(train, "train"), (val, "test")]
    pictures = tuple(
        Picture(path, index[folder.name], split)
        for folders, split in found
        for folder in folders
        for path in pictures_below(folder)
    )
    classes = class_names(wnids, _labels(root / "Labels.json"))
    check_found(root, classes, pictures)
    return PictureFolder(root, classes, pictures, "imagenet100")


def _parts(root: Path, prefix: str) -> list[Path]:
    return [folder for folder in subfolders(root) if folder.name.startswith(prefix)]


def _class_folders(root: Path, prefix: str) -> list[Path]:
    return [folder for part in _parts(root, prefix) for folder in subfolders(part)]


def _labels(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        labels = json.loads(read_file(path, TEXT_BYTES))
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path}: is damaged ({error}); unpack it again, or delete it to have the WordNet "
            "identifiers as labels"
        ) from error
    if not isinstance(labels, dict) or not all(isinstance(name, str) for name in labels.values()):
        raise DatasetError(
            f'{path}: is not a table of names; expected {{"n01440764": "tench, Tinca tinca", ...}}; '
            "unpack it again, or delete it to have the WordNet identifiers as labels"
        )
    return labels
