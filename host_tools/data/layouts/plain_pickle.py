"""Pickles of lists, dicts, numbers, text and uint8 arrays, read without running what they ask for.

A pickle is a program: it may call whatever it can name. Here the few names that a numpy array needs
stand for inert records of what the file said, and every other name is refused; not even numpy's own
functions are called with arguments from the file.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray


class PicklingRefusedError(Exception):
    """A pickle that is damaged, or asks for more than plain data."""


class _Stated:
    """What a pickle says of an array, a dtype or a type of them."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _encode(text: str, encoding: str) -> bytes:
    # Python 3 writes bytes so where the protocol is one of Python 2's.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _Stated,
    ("numpy._core.multiarray", "_reconstruct"): _Stated,
    ("numpy", "ndarray"): _Stated,
    ("numpy", "dtype"): _Stated,
    ("_codecs", "encode"): _encode,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no plain data needs")
        return _KNOWN[module, name]


def load(data: bytes) -> Any:
    """What a pickle holds; text of Python 2 comes as bytes, and arrays for ``uint8_array``.

    Raises:
        PicklingRefusedError: damaged, or asking for anything but plain data.
    """
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # pickle documents that it raises whatever it likes
        raise PicklingRefusedError(str(error) or type(error).__name__) from error


def uint8_array(stated: Any) -> NDArray[np.uint8]:
    """The array that a pickle stated.

    Raises:
        PicklingRefusedError: it is none, or of another type.
    """
    try:
        _, shape, dtype, fortran, content = stated.state
        if dtype.arguments[0] not in ("u1", b"u1"):
            raise PicklingRefusedError(f"an array of {dtype.arguments[0]!r} instead of uint8")
        flat: NDArray[np.uint8] = np.frombuffer(content, np.uint8)
        return flat.reshape(shape, order="F" if fortran else "C")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise PicklingRefusedError(f"no uint8 array ({error})") from error
