"""The layouts of data sets, recognised by their files: one module per layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge_sdk.errors import DatasetError
from edge_sdk.plain import nearest
from host_tools.data.layouts import cifar10, folders, imagenet100, table, tiny_imagenet
from host_tools.data.pictures import PictureFolder


class Layout(NamedTuple):
    """A layout: its test of a path, its reader, and a short description."""

    looks_like: Callable[[Path], bool]
    read: Callable[[Path], PictureFolder]
    about: str


# Tried in this order: any folder may be a folder per class.
LAYOUTS: dict[str, Layout] = {
    "cifar10": Layout(
        cifar10.looks_like,
        cifar10.read,
        "data_batch_1 to data_batch_5 and test_batch (.bin), or their archive (.tar.gz)",
    ),
    "imagenet100": Layout(
        imagenet100.looks_like,
        imagenet100.read,
        "train.X1, train.X2, ... and val.X with a folder per class each",
    ),
    "tiny-imagenet": Layout(
        tiny_imagenet.looks_like,
        tiny_imagenet.read,
        "train/CLASS/images, val/images and val/val_annotations.txt",
    ),
    "csv": Layout(
        table.looks_like,
        table.read,
        "a table (.csv or .tsv) with columns for the picture and its label, beside the pictures",
    ),
    "folders": Layout(
        folders.looks_like,
        folders.read,
        "a folder per class, or train, val and test with a folder per class each",
    ),
}


def find_pictures(root: str | Path, layout: str = "auto") -> PictureFolder:
    """Reads a data set in the layout it is in.

    Args:
        root: a folder, an archive or a table, see ``docs/datasets.md``; the word ``cifar10``, where
            no such path exists, has Keras download it.
        layout: a name from ``LAYOUTS``; ``auto`` recognises it.

    Raises:
        DatasetError: nothing there, or not a data set in that layout; see ``check_found``.
        MissingExtraError: ``cifar10`` is to be downloaded, and Keras is not installed.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise DatasetError(
            f"there is no layout called {layout!r}{nearest(layout, list(LAYOUTS))}; known: auto, "
            f"{', '.join(LAYOUTS)}"
        )
    root = Path(root)
    try:
        if not root.exists():
            if root == Path("cifar10") and layout in ("auto", "cifar10"):
                return cifar10.download()
            raise DatasetError(f"{root}: there is no such folder")
        return LAYOUTS[_layout_of(root, layout)].read(root)
    except OSError as error:
        raise DatasetError(
            f"{error.filename or root}: cannot be read ({error.strerror or error}); expected a data "
            "set with every file readable; correct the link or the permissions, as with chmod -R u+rX"
        ) from error


def _layout_of(root: Path, layout: str) -> str:
    if layout != "auto":
        if not LAYOUTS[layout].looks_like(root):
            raise DatasetError(
                f"{root}: is not in the layout {layout}; expected {LAYOUTS[layout].about}; leave "
                "--layout out to have the layout recognised"
            )
        return layout
    for name, known in LAYOUTS.items():
        if known.looks_like(root):
            return name
    raise DatasetError(
        f"{root}: a file, not a data set; expected a folder, the archive of CIFAR-10 (.tar.gz) or a "
        "table of pictures and labels (.csv, .tsv); unpack any other archive and give the folder"
    )
