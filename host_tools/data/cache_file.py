"""What a cache is on disk: raw pixels in the order of the pictures, and an index with checksums."""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import WriteError
from edge_sdk.preprocess import Preprocessing, Preprocessor
from edge_sdk.types import Frame
from host_tools.arrays_file import read_arrays
from host_tools.data.decode import Unreadable, decode_all
from host_tools.data.pictures import Picture, PictureFolder
from host_tools.progress import progress

_CHECKED_ROWS = 256  # pictures under one checksum
# A file of another size, an index that does not fit: DamagedArraysError is a ValueError.
_DAMAGE = (OSError, ValueError, KeyError, IndexError, TypeError)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How pictures are kept: as the model sees them, and larger for augmentation."""

    exact: Preprocessing
    large: Preprocessing

    @property
    def bytes_per_picture(self) -> int:
        """Of both, or of one where they are the same."""
        kinds = {self.exact, self.large}
        return sum(how.width * how.height * how.channels for how in kinds)


@dataclass(frozen=True, slots=True, eq=False)
class PictureCache:
    """The readable pictures of a data set.

    Attributes:
        exact: ``(N, H, W, C)`` uint8, the device's preprocessing.
        large: ``(N, H', W', C)`` uint8, larger or the same array.
        pictures: where each came from.
        digests: SHA-256 of each picture's decoded pixels.
        unreadable: those left out.
    """

    exact: NDArray[np.uint8]
    large: NDArray[np.uint8]
    pictures: tuple[Picture, ...]
    digests: tuple[str, ...]
    unreadable: tuple[Unreadable, ...]


def build_cache(target: Path, folder: PictureFolder, sizes: Sizes, max_pixels: int) -> PictureCache:
    """Decodes and prepares every picture; the cache appears whole or not at all.

    Raises:
        OSError: the disk is full or not writable.
    """
    unfinished = target.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished.mkdir()
    try:
        with contextlib.ExitStack() as files:
            writers = [
                _Writer(files.enter_context((unfinished / kind).open("wb")), how)
                for kind, how in _kinds(sizes)
            ]
            index = _write_pictures(writers, folder, max_pixels)
        with (unfinished / "index.npz").open("wb") as file:
            np.savez(file, allow_pickle=False, **index)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    cache = open_built(target, folder, sizes)
    if cache is None:
        raise WriteError(f"{target}: what was written is not what is read; the disk may be failing")
    return cache


class _Writer:
    """Appends prepared pictures to a file, a checksum per few hundred of them."""

    def __init__(self, file: BinaryIO, how: Preprocessing) -> None:
        self._file = file
        self._prepare = Preprocessor(how)
        self.checksums: list[int] = []
        self._count = 0

    def add(self, frame: Frame) -> None:
        data = np.ascontiguousarray(self._prepare(frame)).data
        self._file.write(data)
        before = self.checksums.pop() if self._count % _CHECKED_ROWS else 0
        self.checksums.append(zlib.crc32(data, before))
        self._count += 1


def _write_pictures(
    writers: list[_Writer], folder: PictureFolder, max_pixels: int
) -> dict[str, NDArray[Any]]:
    rows, digests, unread, reasons = [], [], [], []
    results = decode_all(folder.pictures, max_pixels)
    for row, result in enumerate(progress(results, "reading pictures", len(folder.pictures))):
        if isinstance(result, Unreadable):
            unread.append(row)
            reasons.append(result.reason)
            continue
        for writer in writers:
            writer.add(result.frame)
        rows.append(row)
        digests.append(result.digest)
    return {
        "rows": np.array(rows, np.int64),
        "digests": np.array(digests, "U64"),
        "unreadable": np.array(unread, np.int64),
        "reasons": np.array(reasons, np.str_),
        "checksums": np.array([writer.checksums for writer in writers], np.uint32),
    }


def open_built(path: Path, folder: PictureFolder, sizes: Sizes) -> PictureCache | None:
    """The cache in a folder; None where it is damaged, every byte of it is read for that."""
    try:
        index = read_arrays(path / "index.npz")
        rows = index["rows"]
        arrays = []
        for (kind, how), checksums in zip(_kinds(sizes), index["checksums"], strict=True):
            array = _mapped(path / kind, (len(rows), how.height, how.width, how.channels))
            if not _intact(array, checksums):
                return None
            arrays.append(array)
        pictures = folder.pictures
        return PictureCache(
            arrays[0],
            arrays[-1],
            tuple(pictures[row] for row in rows),
            tuple(str(digest) for digest in index["digests"]),
            tuple(
                Unreadable(pictures[row], str(reason))
                for row, reason in zip(index["unreadable"], index["reasons"], strict=True)
            ),
        )
    except _DAMAGE:
        return None


def _kinds(sizes: Sizes) -> list[tuple[str, Preprocessing]]:
    exact = [("exact", sizes.exact)]
    return exact if sizes.large == sizes.exact else [*exact, ("large", sizes.large)]


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if path.stat().st_size != np.prod(shape, dtype=np.int64):
        raise ValueError
    if shape[0] == 0:  # nothing to map
        return np.empty(shape, np.uint8)
    # Without the class memmap, whose every slice costs more than a small picture.
    return np.asarray(np.memmap(path, np.uint8, "r", shape=shape))


def _intact(array: NDArray[np.uint8], checksums: NDArray[np.uint32]) -> bool:
    starts = range(0, len(array), _CHECKED_ROWS)
    if len(starts) != len(checksums):
        return False

    def right(start: int) -> bool:
        block = np.ascontiguousarray(array[start : start + _CHECKED_ROWS])
        return zlib.crc32(block.data) == int(checksums[start // _CHECKED_ROWS])

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # crc32 releases the GIL
        return all(progress(pool.map(right, starts), "checking the cache", len(starts)))
