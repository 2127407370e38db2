"""Finding the picture that a table means by a name."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from edge_sdk.errors import DatasetError
from host_tools.data.layouts.listing import first_few, pictures_below, subfolders


class PictureIndex:
    """The pictures below a folder by their paths in it, and by shorter names.

    Args:
        folder: searched to the bottom, links to folders directly in it included.

    Raises:
        OSError: a folder cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._by_path: dict[str, Path] = {}
        self._by_short_name: dict[str, list[Path]] = {}
        linked = [inner for inner in subfolders(folder) if inner.is_symlink()]
        for path in [p for start in (folder, *linked) for p in pictures_below(start)]:
            within = "/".join(path.parts[len(folder.parts) :])
            self._by_path[within] = path
            for name in {path.name, path.stem, within.removesuffix(path.suffix)}:
                self._by_short_name.setdefault(name, []).append(path)

    def find(self, name: str) -> Path | None:
        """The picture at that path, else the only one of that name, its extension left out or not.

        Raises:
            DatasetError: several pictures are called so, or the name leads out of the folder.
        """
        within = PurePosixPath(name.replace("\\", "/"))
        if within.is_absolute() or ".." in within.parts or PureWindowsPath(name).drive:
            raise DatasetError(
                f"the picture {name!r} would lie outside of the table's folder; expected a name or a "
                "path within it; move the picture there"
            )
        if within.as_posix() in self._by_path:
            return self._by_path[within.as_posix()]
        candidates = self._by_short_name.get(within.as_posix(), [])
        if len(candidates) > 1:
            raise DatasetError(
                f"the picture {name!r} may be any of {first_few([str(path) for path in candidates])}; "
                "expected one; write the path into the table, or move the others away"
            )
        return candidates[0] if candidates else None
