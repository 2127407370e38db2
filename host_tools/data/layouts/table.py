"""A table of names and labels beside the pictures, as ISIC and SIIM publish their melanomas."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from edge_sdk.errors import DatasetError
from edge_sdk.files import read_file
from host_tools.data.layouts.folders import SPLIT_NAMES
from host_tools.data.layouts.listing import first_few, pictures_below, subfolders
from host_tools.data.pictures import Picture, PictureFolder, Split, check_found


class PictureIndex:
    """The pictures below a folder by their paths in it, and by shorter names.

    Args:
        folder: searched recursively, links to folders directly in it included.

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
            DatasetError: several pictures have that name, or the name leads out of the folder.
        """
        within = PurePosixPath(name.replace("\\", "/"))
        if within.is_absolute() or ".." in within.parts or PureWindowsPath(name).drive:
            raise DatasetError(
                f"the picture {name!r} is outside of the table's folder; expected a name or a "
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


_ENDINGS = (".csv", ".tsv")
# Each in order of preference: SIIM's table has benign_malignant, target (the same as a number) and
# diagnosis (mostly "unknown").
_PICTURE = tuple("image image_name image_id file filename file_name path img isic_id".split())
_LABEL = tuple("label class class_name category benign_malignant target dx diagnosis".split())
_GROUP = tuple("patient_id patient lesion_id group group_id".split())
_SPLIT = tuple("split subset fold".split())
_YES, _NO = ("1", "1.0"), ("0", "0.0")
_HEAD_BYTES = 65_536
_TABLE_BYTES = 500_000_000  # some million lines


@dataclass(frozen=True, slots=True)
class _Columns:
    """The meaning of a table's columns.

    Attributes:
        names: of all columns, as written.
        picture: the column of the pictures' names.
        labels: the column of labels, or one column of 0 and 1 for every class.
        group: the column of groups, if there is one.
        split: the column of splits, if there is one.
    """

    names: tuple[str, ...]
    picture: int
    labels: tuple[int, ...]
    group: int | None
    split: int | None


@dataclass(frozen=True, slots=True)
class _Row:
    """The label, group and split that a row gives its picture."""

    label: str
    split: Split | None
    group: str | None

    def __str__(self) -> str:
        return " / ".join(filter(None, (self.label, self.split, self.group)))


def looks_like(root: Path) -> bool:
    """A table by its name, or a folder with a table of pictures and labels directly in it."""
    if root.is_file():
        return root.name.lower().endswith(_ENDINGS)
    return root.is_dir() and bool(_tables(root))


def read(root: Path) -> PictureFolder:
    """Reads the rows and finds their pictures below the table's folder.

    A label is that of the label column, or the name of the column with the 1. Classes are sorted
    by name. Pictures that the table does not name are ignored.

    Raises:
        DatasetError: not one table, or not of the expected columns; a row without a picture, with
            an empty label, an unknown split, or in conflict with another row; see ``check_found``.
        OSError: the table or a folder cannot be read.
    """
    table = root if root.is_file() else _chosen(root)
    header, *rows = _lines(table, _text(table)) or [(0, [])]
    if not rows:
        raise DatasetError(
            f"{table}: no rows; expected names of columns, then a row for every picture"
        )
    columns = _columns(header[1], rows[0][1])
    if columns is None:
        raise DatasetError(
            f"{table}: no columns of a data set among {', '.join(header[1])}; expected one for the "
            f"picture ({', '.join(_PICTURE)}) and one for the label ({', '.join(_LABEL)}) or for every "
            "class one of 0 and 1; rename them in the first line"
        )
    rows_by_path: dict[Path, _Row] = {}
    missing: list[str] = []
    index = PictureIndex(table.parent)
    for number, cells in rows:
        name = cells[columns.picture]
        try:
            row = _row(columns, cells)
            path = index.find(name)
        except DatasetError as error:
            raise DatasetError(f"{table}: line {number}: {error}") from error
        if path is None:
            missing.append(f"{name!r} (line {number})")
        elif rows_by_path.setdefault(path, row) != row:
            raise DatasetError(
                f"{table}: line {number}: {name!r} is {row} here and {rows_by_path[path]} before; "
                "expected one answer for a picture; delete a row"
            )
    if missing:
        raise DatasetError(
            f"{table}: {len(missing)} pictures are not below {table.parent}: {first_few(missing)}; "
            "expected a file for every row; put the pictures there, or delete the rows"
        )
    return _picture_folder(table, rows_by_path)


def _picture_folder(table: Path, rows_by_path: dict[Path, _Row]) -> PictureFolder:
    classes = tuple(sorted({row.label for row in rows_by_path.values()}))
    index = {name: i for i, name in enumerate(classes)}
    pictures = tuple(
        Picture(path, index[row.label], row.split, row.group)
        for path, row in sorted(rows_by_path.items())
    )
    check_found(table, classes, pictures)
    return PictureFolder(table.parent, classes, pictures, "csv")


def _tables(folder: Path) -> list[Path]:
    """The tables directly in a folder whose first lines are of pictures and labels."""
    files = sorted(p for p in folder.iterdir() if p.name.lower().endswith(_ENDINGS) and p.is_file())
    return [file for file in files if not file.name.startswith(".") and _is_usable(file)]


def _is_usable(table: Path) -> bool:
    with table.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")
    try:
        header, first = _lines(table, head)[:2]
    except ValueError:  # fewer than two lines, or none of a table
        return False
    return _columns(header[1], first[1]) is not None


def _chosen(folder: Path) -> Path:
    tables = _tables(folder)
    training = [table for table in tables if table.stem.lower() == "train"]
    for found in (tables, training):
        if len(found) == 1:
            return found[0]
    raise DatasetError(
        f"{folder}: {len(tables)} tables of pictures and labels: "
        f"{', '.join(table.name for table in tables) or '(none)'}; expected one, or one called "
        "train.csv; give the path of the table, or add --layout folders if folders are the classes"
    )


def _text(table: Path) -> str:
    try:
        data = read_file(table, _TABLE_BYTES)
    except OSError as error:
        raise DatasetError(f"{table}: cannot be read ({error.strerror or error})") from error
    try:
        if b"\0" in data:
            raise ValueError("it has zero bytes")
        return data.decode("utf-8-sig")
    except ValueError as error:
        raise DatasetError(
            f"{table}: is not UTF-8 text ({error}); save it as a CSV file in UTF-8"
        ) from error


def _lines(table: Path, text: str) -> list[tuple[int, list[str]]]:
    """Line numbers and cells, stripped, as many as the first line has; blank lines left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    lines: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            width = len(lines[0][1]) if lines else len(cells)
            if any(cells[width:]):
                raise csv.Error(f"{len(cells)} cells where the first line has {width}")
            if any(cells):
                lines.append((reader.line_num, (cells + [""] * width)[:width]))
    except csv.Error as error:
        raise DatasetError(
            f"{table}: line {reader.line_num} is not a line of a table ({error}); expected a CSV file, "
            "text with a delimiter in double quotes; save it again from the program it comes from"
        ) from error
    return lines


def _delimiter(text: str) -> str:
    """The one of comma, semicolon and tab that the first line has most of."""
    header = text.lstrip().partition("\n")[0]
    return max(",;\t", key=header.count)


def _columns(header: Sequence[str], first: Sequence[str]) -> _Columns | None:
    """The columns of a table by its first two lines, or None where they make no data set."""
    names = [name.lower() for name in header]

    def one_of(known: Sequence[str]) -> int | None:
        return next((names.index(name) for name in known if name in names), None)

    picture, label = one_of(_PICTURE), one_of(_LABEL)
    used = {*_PICTURE, *_LABEL, *_GROUP, *_SPLIT, ""}
    answers = [i for i, name in enumerate(names) if name not in used]
    one_hot = [i for i in answers if i < len(first) and first[i] in _YES + _NO]
    labels = (label,) if label is not None else tuple(one_hot) if len(one_hot) > 1 else ()
    if picture is None or not labels:
        return None
    return _Columns(tuple(header), picture, labels, one_of(_GROUP), one_of(_SPLIT))


def _row(columns: _Columns, cells: Sequence[str]) -> _Row:
    one_hot = len(columns.labels) > 1
    label = _one_hot(columns, cells) if one_hot else cells[columns.labels[0]]
    if not label:
        raise DatasetError(
            f"the label of {cells[columns.picture]!r} is empty; write it there, or delete the row"
        )
    split = None
    if columns.split is not None:
        name = cells[columns.split]
        if name.lower() not in SPLIT_NAMES:
            raise DatasetError(
                f"the {columns.names[columns.split]} {name!r} is none of {', '.join(SPLIT_NAMES)}; "
                "rename the column if it means something else, and edgecls splits the pictures"
            )
        split = SPLIT_NAMES[name.lower()]
    group = cells[columns.group] if columns.group is not None else ""
    return _Row(label, split, group or None)


def _one_hot(columns: _Columns, cells: Sequence[str]) -> str:
    named = [columns.names[i] for i in columns.labels if cells[i] in _YES]
    odd = [cells[i] for i in columns.labels if cells[i] not in _YES + _NO]
    if odd or len(named) != 1:
        raise DatasetError(
            f"{cells[columns.picture]!r} is of {len(named)} classes ({first_few(named + odd)}); expected "
            f"a single 1 in the columns {', '.join(columns.names[i] for i in columns.labels)}, else 0"
        )
    return named[0]
