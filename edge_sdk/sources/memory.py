"""What a fake camera remembers between its openings: how far it came, and until when it is away.

The memory is 16 bytes in a file in the folder for temporary files, mapped by whoever has the camera
open: what a process wrote outlives its being killed. The process that made it removes it at its end;
what one that was killed left behind, the next one removes.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import struct
import tempfile
import uuid
from pathlib import Path

_LAYOUT = struct.Struct("=qq")
_PREFIX = "edgecls-fake-"


def new_memory() -> str:
    """The path of a memory that is empty until somebody opens it."""
    folder = Path(tempfile.gettempdir())
    processes = Path("/proc")
    # Without a list of processes nothing says whose memory is left behind.
    for left in folder.glob(f"{_PREFIX}*-*") if processes.is_dir() else ():
        maker = left.name.removeprefix(_PREFIX).partition("-")[0]
        if maker.isdecimal() and not (processes / maker).exists():
            _remove(str(left))
    path = str(folder / f"{_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:12]}")
    atexit.register(_remove, path)
    return path


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


class Memory:
    """Frames so far, and the time at which the camera is there again.

    Args:
        path: of the file; empty: nothing is kept beyond this object.
    """

    def __init__(self, path: str = "") -> None:
        if path:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.ftruncate(descriptor, _LAYOUT.size)  # zeros where the file is new
                self._map = mmap.mmap(descriptor, _LAYOUT.size)
            finally:
                os.close(descriptor)
        else:
            self._map = mmap.mmap(-1, _LAYOUT.size)

    @property
    def number(self) -> int:
        """The number of the frame that comes next."""
        return int(_LAYOUT.unpack_from(self._map)[0])

    @property
    def back_at_ns(self) -> int:
        """Monotonic time before which the camera is unplugged."""
        return int(_LAYOUT.unpack_from(self._map)[1])

    def put(self, number: int, back_at_ns: int) -> None:
        """Remembers both."""
        _LAYOUT.pack_into(self._map, 0, number, back_at_ns)

    def close(self) -> None:
        """Lets go of the file."""
        self._map.close()
