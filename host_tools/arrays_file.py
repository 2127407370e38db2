"""Reads ``.npz`` files that may be damaged or hostile; every fault raises one error."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.files import read_file, size_text
from edge_sdk.machine.board import System
from edge_sdk.machine.load import usable_memory_bytes

# Exceptions of numpy and zipfile on a damaged file: a flipped bit may claim encryption or another
# compression.
_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, IndexError, TypeError, SyntaxError, AttributeError),
    *(RuntimeError, NotImplementedError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


# Arrays that are saved compressed: scores near 0 and 1 shrink to a hundredth, deflate's best is 1/1032.
_MOST_TIMES = 200
_LEAST_BYTES = 64_000_000
_MOST_BYTES = 16_000_000_000


class DamagedArraysError(ValueError):
    """The file is damaged; the message says how. Readers turn it into an error of their own."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file, every checksum compared.

    Sizes are checked before unpacking: at most 200 times the file's (64 MB are always allowed),
    and half of the memory that the process may still take.

    Raises:
        FileNotFoundError: no such file.
        DamagedArraysError: the file cannot be read, is damaged, or is too large.
    """
    try:
        # Reads every member to its end, which compares its checksum; numpy stops at the end of an array.
        content = read_file(path, _room_bytes())
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_sizes(archive, len(content))
            if archive.testzip() is not None:
                raise DamagedArraysError("a checksum is wrong")
        with np.load(io.BytesIO(content), allow_pickle=False) as saved:
            return {name: saved[name] for name in saved.files}
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise DamagedArraysError(str(error)) from error


def _check_sizes(archive: zipfile.ZipFile, file_bytes: int) -> None:
    # zipfile unpacks no more of a member than its entry says.
    unpacked = sum(member.file_size for member in archive.infolist())
    most = min(max(_LEAST_BYTES, _MOST_TIMES * file_bytes), _room_bytes())
    if unpacked > most:
        raise DamagedArraysError(
            f"{size_text(file_bytes)} that become {size_text(unpacked)}, expected "
            f"{size_text(most)} at most"
        )


def _room_bytes() -> int:
    usable = usable_memory_bytes(System())
    return _MOST_BYTES if usable is None else min(_MOST_BYTES, usable // 2)
