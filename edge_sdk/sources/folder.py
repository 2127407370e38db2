"""Picture files as a source: whole folders, single files, in the order of their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import SourceNotFoundError
from edge_sdk.types import Frame
from edge_sdk.vision.images import EXTENSIONS, MAX_PIXELS, read_image


class FolderSource:
    """Reads every picture below the given paths once.

    Args:
        paths: folders, searched to the bottom for names that end like a picture's, and files,
            taken whatever their names.
        max_pixels: larger pictures are refused unread.

    Raises:
        SourceNotFoundError: a path does not exist, or there is no picture in any of them.
    """

    def __init__(self, *paths: str | Path, max_pixels: int = MAX_PIXELS) -> None:
        self._files = tuple(file for path in paths for file in list_images(Path(path)))
        if not self._files:
            raise SourceNotFoundError(
                f"{', '.join(map(str, paths))}: no pictures there "
                f"(looked for {' '.join(EXTENSIONS)}, in folders within it too)"
            )
        self._max_pixels = max_pixels
        self._next = 0

    def __len__(self) -> int:
        return len(self._files)

    def read(self) -> Frame | None:
        """The next picture, None after the last one or after ``close()``.

        Raises:
            UnreadableImageError: this one cannot be decoded; the next call goes on behind it.
        """
        if self._next >= len(self._files):
            return None
        index, self._next = self._next, self._next + 1
        return read_image(self._files[index], index=index, max_pixels=self._max_pixels)

    def close(self) -> None:
        """Ends the source."""
        self._next = len(self._files)


def list_images(path: Path) -> Sequence[Path]:
    """The picture files below a folder, sorted, hidden ones left out; a file is itself.

    Raises:
        SourceNotFoundError: there is nothing at ``path``.
    """
    if path.is_dir():
        return sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in EXTENSIONS
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and file.is_file()
        )
    if not path.exists():
        raise SourceNotFoundError(f"{path}: there is no such file or folder")
    return [path]
