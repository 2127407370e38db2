"""Decoded pictures on disk, mapped into memory: a picture is decoded once, not once per epoch.

A cache is a folder named by what is in it: the files (name, size, time of change), the
preprocessing and the versions that shape pixels. Anything else is another cache, so none is ever
stale. It is built under another name and renamed when it is whole, by one process at a time. Given
folders on several disks, each keeps a part of every cache, by the room it has.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2

import edge_sdk
from edge_sdk.errors import DatasetError, WriteError
from edge_sdk.files import cache_folder, size_text
from edge_sdk.vision.images import MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.data.cache_file import PictureCache, Sizes, build_cache, open_built
from host_tools.data.decode import Unreadable, decode_all
from host_tools.data.pictures import PictureFolder
from host_tools.extras import require

_SCHEMA = 2
# A digest; what is being built has an ending of its own.
_CACHE_NAME = re.compile(r"[0-9a-f]{32}(\.unfinished)?")
_SPARE_BYTES = 64 * 2**20  # left free on the disk for everybody else

Say = Callable[[str], None]


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
        """All of them; the first decides."""
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
    say: Say = lambda _: None,
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
            say("another training is preparing these pictures; waiting for it")
            held = lock.acquire()
        with held:
            if targets[0].exists():
                cache = open_built(targets, folder, sizes)
                if cache is not None:
                    os.utime(targets[0])  # used now
                    return cache
                say(f"{targets[0]}: the cache of these pictures is damaged and is made again")
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
    """Evicts what must go; the share of a new cache that each folder has room for."""
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
    """Bytes that each folder may still take; folders on one disk take them but once."""
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
    """Removes a cache, unless somebody is building or opening it just now."""
    filelock = require("filelock")
    busy = contextlib.suppress(filelock.Timeout)
    with busy, filelock.FileLock((place.folder / name).with_suffix(".lock"), timeout=0):
        # Whoever has it mapped keeps it until they end.
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
