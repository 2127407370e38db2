"""A folder per class, or ready splits with a folder per class each."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.errors import DatasetError
from host_tools.data.layouts.listing import pictures_below, subfolders
from host_tools.data.pictures import Picture, PictureFolder, Split, check_found

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def looks_like(root: Path) -> bool:
    """Any folder may be a folder per class."""
    return root.is_dir()


def read(root: Path) -> PictureFolder:
    """Reads the folder.

    Sub-folders named train, val, valid, validation or test are splits with a folder per class
    each; otherwise every sub-folder is a class. Classes are sorted by name, as Keras does.

    Raises:
        DatasetError: a folder beside the splits is not a split; see ``check_found``.
        OSError: a folder cannot be read.
    """
    folders = subfolders(root)
    # A split holds folders; a class that happens to be called "train" holds pictures.
    splits = {
        folder: SPLIT_NAMES[folder.name.lower()]
        for folder in folders
        if folder.name.lower() in SPLIT_NAMES and subfolders(folder)
    }
    found: list[tuple[Path, Split | None]]
    if "train" in splits.values() or (splits and len(splits) == len(folders)):
        beside = [
            folder.name for folder in folders if folder not in splits and pictures_below(folder)
        ]
        if beside:
            raise DatasetError(
                f"{root}: {', '.join(beside)} is beside the splits and is not a split; splits "
                f"are named {', '.join(SPLIT_NAMES)}; move it away or rename it"
            )
        found = [(inner, split) for folder, split in splits.items() for inner in subfolders(folder)]
    else:
        found = [(folder, None) for folder in folders]
    classes = sorted({folder.name for folder, _ in found})
    index = {name: i for i, name in enumerate(classes)}
    pictures = [
        Picture(path, index[folder.name], split)
        for folder, split in found
        for path in pictures_below(folder)
    ]
    check_found(root, tuple(classes), pictures)
    ordered = tuple(sorted(pictures, key=lambda picture: picture.path))
    return PictureFolder(root, tuple(classes), ordered, "folders")
