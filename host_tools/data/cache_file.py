"""What a cache is on disk: raw pixels in the order of the pictures, and an index with checksums.

A cache may lie in several folders, on as many disks: each holds the pixels of a run of pictures, the
first also the index.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import WriteError
from edge_sdk.types import Frame
from edge_sdk.vision.preprocess import Preprocessing, Preprocessor
from host_tools.arrays_file import read_arrays
from host_tools.data.decode import Unreadable, decode_all
from host_tools.data.pictures import Picture, PictureFolder
from host_tools.data.split_rows import SplitRows
from host_tools.progress import progress

Rows = NDArray[np.uint8] | SplitRows

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

    exact: Rows
    large: Rows
    pictures: tuple[Picture, ...]
    digests: tuple[str, ...]
    unreadable: tuple[Unreadable, ...]


def build_cache(
    targets: Sequence[Path],
    shares: Sequence[float],
    folder: PictureFolder,
    sizes: Sizes,
    max_pixels: int,
) -> PictureCache:
    """Decodes and prepares every picture; the cache appears whole or not at all.

    Args:
        targets: the cache's folders; the first is written last, and counts.
        shares: of the pictures for each of them, which sum to 1.
        folder, sizes, max_pixels: what to keep, and how.

    Raises:
        OSError: a disk is full or not writable.
    """
    unfinished = [target.with_suffix(".unfinished") for target in targets]
    for path in (*unfinished, *targets):  # of a process that was killed
        shutil.rmtree(path, ignore_errors=True)
    try:
        for path in unfinished:
            path.mkdir(parents=True)
        index = _write_pictures(unfinished, shares, folder, sizes, max_pixels)
        with (unfinished[0] / "index.npz").open("wb") as file:
            np.savez(file, allow_pickle=False, **index)
            file.flush()
            os.fsync(file.fileno())
        for path, target in reversed(list(zip(unfinished, targets, strict=True))):
            path.rename(target)
    finally:
        for path in unfinished:
            shutil.rmtree(path, ignore_errors=True)
    cache = open_built(targets, folder, sizes)
    if cache is None:
        raise WriteError(
            f"{targets[0]}: what was written is not what is read; the disk may be failing"
        )
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
    paths: Sequence[Path],
    shares: Sequence[float],
    folder: PictureFolder,
    sizes: Sizes,
    max_pixels: int,
) -> dict[str, NDArray[Any]]:
    rows: list[int] = []
    digests, unread, reasons, counts = [], [], [], []
    kinds = _kinds(sizes)
    checksums: list[list[int]] = [[] for _ in kinds]
    ends = np.round(np.cumsum(shares) * len(folder.pictures)).astype(int).tolist()
    decoded = decode_all(folder.pictures, max_pixels)
    with contextlib.closing(
        progress(enumerate(decoded), "reading pictures", len(folder.pictures))
    ) as results:
        for path, (start, end) in zip(paths, itertools.pairwise((0, *ends)), strict=True):
            before = len(rows)
            with contextlib.ExitStack() as files:
                writers = [
                    _Writer(files.enter_context((path / kind).open("wb")), how)
                    for kind, how in kinds
                ]
                for row, result in itertools.islice(results, end - start):
                    if isinstance(result, Unreadable):
                        unread.append(row)
                        reasons.append(result.reason)
                        continue
                    for writer in writers:
                        writer.add(result.frame)
                    rows.append(row)
                    digests.append(result.digest)
            counts.append(len(rows) - before)
            for kept, writer in zip(checksums, writers, strict=True):
                kept += writer.checksums
    return {
        "rows": np.array(rows, np.int64),
        "counts": np.array(counts, np.int64),
        "digests": np.array(digests, "U64"),
        "unreadable": np.array(unread, np.int64),
        "reasons": np.array(reasons, np.str_),
        "checksums": np.array(checksums, np.uint32),
    }


def open_built(paths: Sequence[Path], folder: PictureFolder, sizes: Sizes) -> PictureCache | None:
    """The cache in its folders; None where it is damaged, every byte of it is read for that."""
    try:
        index = read_arrays(paths[0] / "index.npz")
        counts = [int(count) for count in index["counts"]]
        kept: list[Rows] = []
        for (kind, how), checksums in zip(_kinds(sizes), index["checksums"], strict=True):
            shape = (how.height, how.width, how.channels)
            parts = [
                _mapped(path / kind, (count, *shape))
                for path, count in zip(paths, counts, strict=True)
            ]
            if sum(counts) != len(index["rows"]) or not _intact(parts, checksums):
                return None
            kept.append(parts[0] if len(parts) == 1 else SplitRows(parts))
        pictures = folder.pictures
        return PictureCache(
            kept[0],
            kept[-1],
            tuple(pictures[row] for row in index["rows"]),
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


def _intact(parts: Sequence[NDArray[np.uint8]], checksums: NDArray[np.uint32]) -> bool:
    blocks = [
        part[start : start + _CHECKED_ROWS]
        for part in parts
        for start in range(0, len(part), _CHECKED_ROWS)
    ]
    if len(blocks) != len(checksums):
        return False

    def right(pair: tuple[NDArray[np.uint8], np.uint32]) -> bool:
        block, checksum = pair
        return zlib.crc32(np.ascontiguousarray(block).data) == int(checksum)

    pairs = zip(blocks, checksums, strict=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # crc32 releases the GIL
        return all(progress(pool.map(right, pairs), "checking the cache", len(blocks)))
