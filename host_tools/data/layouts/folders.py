"""A folder per class, or ready splits with a folder per class each."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.errors import DatasetError
from edge_sdk.sources.folder import list_images
from host_tools.data.pictures import Picture, PictureFolder, Split, check_found

_SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def looks_like(root: Path) -> bool:  # noqa: ARG001  # every layout is asked alike
    """Any folder may be a folder per class."""
    return True


def read(root: Path) -> PictureFolder:
    """Reads the folder.

    Sub-folders named train, val, valid, validation or test are splits with a folder per class
    each; otherwise every sub-folder is a class. Classes are sorted by name, as Keras does.

    Raises:
        DatasetError: not a folder, something that is no split beside splits; see ``check_found``.
    """
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
    check_found(root, tuple(classes), pictures)
    return PictureFolder(root, tuple(classes), tuple(sorted(pictures, key=lambda p: p.path)))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
