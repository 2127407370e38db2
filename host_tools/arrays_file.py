"""Reading ``.npz`` files that may be damaged: every kind of damage is one kind of error."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What numpy and zipfile raise on a damaged file: a flipped bit may claim encryption or another
# compression.
_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, IndexError, TypeError, SyntaxError, AttributeError),
    *(RuntimeError, NotImplementedError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


class DamagedArraysError(ValueError):
    """The file is not what was written; says why. Never seen by a user: readers turn it into theirs."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file, every checksum compared.

    Raises:
        FileNotFoundError: no such file.
        DamagedArraysError: it cannot be read, or is not what was written.
    """
    try:
        # All of it is read and its checksums with it; numpy would stop at the end of an array.
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is not None:
                raise DamagedArraysError("a checksum is wrong")
        with np.load(io.BytesIO(content), allow_pickle=False) as saved:
            return {name: saved[name] for name in saved.files}
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise DamagedArraysError(str(error)) from error
