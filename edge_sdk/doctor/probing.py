"""Trying devices, disks and brokers, with answers instead of exceptions."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_PIECE_BYTES = 1 << 16
_MOST_BYTES = 4 << 20
_MOST_S = 2.0


@dataclass(frozen=True, slots=True)
class Disk:
    """What a folder's disk is like.

    Attributes:
        folder: the one asked for, or the nearest above that exists.
        free_bytes: for this user.
        written_mb_per_s: 10⁶ bytes a second, each piece flushed to the disk; None where nothing
            could be written.
        error: ``errno`` of the attempt to write, 0 where it went well.
    """

    folder: Path
    free_bytes: int
    written_mb_per_s: float | None
    error: int


def open_device(path: Path) -> int:
    """``errno`` of opening a device to read and write, 0 where it may be opened."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or 0
    return 0


def look_at_disk(folder: Path) -> Disk:
    """Writes up to 4 MB for up to 2 s into a file that is gone afterwards."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize
    except OSError as error:
        return Disk(folder, 0, None, error.errno or 0)
    written, piece = 0, os.urandom(_PIECE_BYTES)
    try:
        with tempfile.NamedTemporaryFile(prefix=".edgecls-doctor-", dir=folder) as file:
            started = time.perf_counter()
            while written < min(_MOST_BYTES, free // 2):
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
                written += len(piece)
                if time.perf_counter() - started > _MOST_S:
                    break
            seconds = time.perf_counter() - started
    except OSError as error:
        return Disk(folder, free, None, error.errno or 0)
    return Disk(folder, free, written / 1e6 / seconds if written else None, 0)
