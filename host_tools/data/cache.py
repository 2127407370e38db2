"""The cache of decoded pictures, memory-mapped: a picture is decoded once, not once per epoch.

A cache may lie in several folders, on as many disks: each holds the pixels of a run of pictures, the
first also the index.

A cache is a folder named by what is in it: the files (name, size, time of change), the
preprocessing and the versions that shape pixels. A change of any gives another cache, so none is ever
stale. It is built under a temporary name and renamed when complete, by one process at a time. Given
folders on several disks, each keeps a part of every cache, by the room it has.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import edge_sdk
from edge_sdk.errors import DatasetError, WriteError
from edge_sdk.files import cache_folder, size_text
from edge_sdk.types import Frame
from edge_sdk.vision.images import MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing, Preprocessor
from host_tools.arrays_file import read_arrays
from host_tools.data.pictures import Picture, PictureFolder, Unreadable, decode_all
from host_tools.extras import require
from host_tools.progress import progress


class SplitRows:
    """Rows of several arrays, one array after the other; read by row number as one array would be.

    Args:
        parts: ``(n, H, W, C)`` uint8 each, alike but for ``n``.
    """

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        self._parts = tuple(parts)
        # Where each part ends.
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: int | slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """One row as a view, or a copy of several in the requested order.

        Raises:
            IndexError: there is no such row.
        """
        if isinstance(chosen, int | np.integer):
            row = int(chosen) + (len(self) if chosen < 0 else 0)
            if not 0 <= row < len(self):
                raise IndexError(f"row {chosen} of {len(self)}")
            part = int(np.searchsorted(self._ends, row, side="right"))
            pixels: NDArray[np.uint8] = self._parts[part][row - self._start(part)]
            return pixels
        rows: NDArray[np.int64] = np.arange(len(self))[chosen]
        found: NDArray[np.uint8] = np.empty((len(rows), *self.shape[1:]), np.uint8)
        where = np.searchsorted(self._ends, rows, side="right")
        for part in np.unique(where).tolist():
            here = where == part
            found[here] = self._parts[part][rows[here] - self._start(part)]
        return found

    def __array__(self, dtype: None = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return self[:]

    def _start(self, part: int) -> int:
        return int(self._ends[part]) - len(self._parts[part])


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
    """Decodes and prepares every picture; the cache appears complete or not at all.

    Args:
        targets: the cache's folders; the first is written last and marks the cache as complete.
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
            f"{targets[0]}: the cache reads back other bytes than were written; the disk may be failing"
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
    """The cache in its folders; None where it is damaged. Every byte is read and checked."""
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
    # Not numpy.memmap: each of its slices takes longer than a small picture.
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


_SCHEMA = 2
# A digest; an unfinished cache has another ending.
_CACHE_NAME = re.compile(r"[0-9a-f]{32}(\.unfinished)?")
_SPARE_BYTES = 64 * 2**20  # left free on the disk for other programs

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CachePlace:
    """Where caches lie, and how much they may take together.

    Attributes:
        folder: of all caches.
        limit_bytes: of all caches; the least recently used go first.
        more: folders on other disks, which share them.
    """

    folder: Path
    limit_bytes: int = 20 * 10**9
    more: tuple[Path, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders; the first one's state is the cache's."""
        return (self.folder, *self.more)

    @classmethod
    def default(cls) -> CachePlace:
        """In the user's cache folder, ``$XDG_CACHE_HOME`` or ``~/.cache``."""
        return cls(cache_folder("pictures"))


def open_cache(
    folder: PictureFolder,
    sizes: Sizes,
    place: CachePlace,
    max_pixels: int = MAX_PIXELS,
    note: Note = lambda _: None,
) -> PictureCache:
    """Opens the cache of a data set, building it where there is none or it is damaged.

    Raises:
        DatasetError: it would be larger than the limit.
        WriteError: the disk is full or not writable; nothing half-built remains.
    """
    filelock = require("filelock")
    name = _key(folder, sizes, max_pixels, place.more)
    targets = [each / name for each in place.folders]
    try:
        for each in place.folders:
            each.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(place.folder / f"{name}.lock")
        try:
            held = lock.acquire(timeout=0)
        except filelock.Timeout:
            note("another training is preparing these pictures; waiting for it")
            held = lock.acquire()
        with held:
            if targets[0].exists():
                cache = open_built(targets, folder, sizes)
                if cache is not None:
                    os.utime(targets[0])  # used now
                    return cache
                note(f"{targets[0]}: the cache of these pictures is damaged; building it again")
                shutil.rmtree(targets[0])
            room = _make_room(place, name, sizes.bytes_per_picture * len(folder.pictures))
            return build_cache(targets, room, folder, sizes, max_pixels)
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        raise WriteError(
            f"{targets[0]}: the pictures could not be cached ({error.strerror or error}); free some "
            "space, or name a folder on another disk with --cache DIR"
        ) from error


def _key(folder: PictureFolder, sizes: Sizes, max_pixels: int, more: Sequence[Path]) -> str:
    digest = hashlib.sha256(
        f"{_SCHEMA} {edge_sdk.__version__} {cv2.__version__} {sizes} {max_pixels}".encode()
    )
    for path in more:  # parts lie there
        digest.update(f"{path.absolute()}\n".encode("utf-8", "surrogateescape"))
    for picture in folder.pictures:
        if picture.pixels is not None:
            digest.update(f"{picture.pixels.shape}".encode() + picture.pixels.tobytes())
            continue
        try:
            found = picture.path.stat()
            state = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            state = "missing"
        digest.update(f"{picture.path.absolute()} {state}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


class _Old(NamedTuple):
    used: float
    size: int
    name: str


def _make_room(place: CachePlace, name: str, needed: int) -> list[float]:
    """Evicts old caches; returns the share of a new cache that each folder has room for."""
    if needed > place.limit_bytes:
        raise DatasetError(
            f"{place.folder}: these pictures take {size_text(needed)} decoded, the limit is "
            f"{size_text(place.limit_bytes)}; raise it with --cache-limit, or choose a smaller "
            "data.width and data.height"
        )
    caches = sorted(_caches(place, name))
    taken = sum(old.size for old in caches)
    while caches and (taken + needed > place.limit_bytes or sum(_room(place)) < needed):
        oldest = caches.pop(0)
        taken -= oldest.size
        _remove(place, oldest.name)
    room = _room(place)
    if sum(room) < needed:
        raise WriteError(
            f"{place.folder}: these pictures take {size_text(needed)} decoded, "
            f"{size_text(sum(room))} are free; free some space, or name a folder on another disk "
            "with --cache DIR, or several"
        )
    return (
        [free / max(1, sum(room)) for free in room] if needed else [1.0, *(0.0 for _ in room[1:])]
    )


def _room(place: CachePlace) -> list[int]:
    """Bytes that each folder may still take; folders on one disk share them."""
    disks: set[int] = set()
    room = []
    for folder in place.folders:
        disk = folder.stat().st_dev
        free = shutil.disk_usage(folder).free - _SPARE_BYTES
        room.append(0 if disk in disks else max(0, free))
        disks.add(disk)
    return room


def _caches(place: CachePlace, but: str) -> list[_Old]:
    used: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for folder in place.folders:
        for path in folder.iterdir():
            name = path.name
            if not _CACHE_NAME.fullmatch(name) or path.stem == but:
                continue
            with contextlib.suppress(OSError):  # gone meanwhile
                size = sum(file.stat().st_size for file in path.iterdir())
                used[name] = max(used.get(name, 0.0), path.stat().st_mtime)
                sizes[name] = sizes.get(name, 0) + size
    return [_Old(used[name], sizes[name], name) for name in used]


def _remove(place: CachePlace, name: str) -> None:
    """Removes a cache, unless a process is building or opening it."""
    filelock = require("filelock")
    busy = contextlib.suppress(filelock.Timeout)
    with busy, filelock.FileLock((place.folder / name).with_suffix(".lock"), timeout=0):
        # A process that has it mapped keeps it until it ends.
        for folder in place.folders:
            shutil.rmtree(folder / name, ignore_errors=True)


def sizes_for(folder: PictureFolder, how: Preprocessing, margin: float, max_pixels: int) -> Sizes:
    """How to keep the pictures of a data set: larger where they are large enough.

    Small pictures are not blown up to be cut down again: at least half of a sample must have the
    larger size.

    Args:
        folder: the data set.
        how: the model's preprocessing.
        margin: share of width and height to keep beyond the input; 0: none.
        max_pixels: larger pictures are not decoded.
    """
    large = replace(
        how, width=round(how.width * (1 + margin)), height=round(how.height * (1 + margin))
    )
    if large == how:
        return Sizes(how, how)
    sample = folder.pictures[:: max(1, len(folder.pictures) // 32)]
    frames = [r.frame for r in decode_all(sample, max_pixels) if not isinstance(r, Unreadable)]
    enough = [
        frame.pixels.shape[0] >= large.height and frame.pixels.shape[1] >= large.width
        for frame in frames
    ]
    return Sizes(how, large if 2 * sum(enough) >= len(enough) > 0 else how)
