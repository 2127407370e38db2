"""Differences between Linux, macOS and Windows: locks, wake-ups, cores.

The only module that checks which system this is. Features that need Linux are refused here by name,
before any of their modules uses a missing call.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from pathlib import Path

from edge_sdk.errors import UnsupportedSystemError

# Windows opens descriptors in text mode by default, which rewrites line ends.
O_BINARY: int = getattr(os, "O_BINARY", 0)
# Windows can neither rename nor delete a file that a process has open.
MOVES_OPEN_FILES = sys.platform != "win32"
# Files and folders have an owner and a mode.
HAS_OWNERS = sys.platform != "win32"
O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
O_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
# The inside of a character class: characters not allowed in the name of a file or folder.
NOT_IN_NAMES = r"/\x00-\x1f\x7f" if sys.platform != "win32" else r"/\x00-\x1f\x7f<>:\"|?*\\"
# Windows locks bytes, which other processes then cannot read: this byte is past the end of any file.
_LOCKED_BYTE = 0x7FFF_FFFE
_NAMES = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}


def require_linux(what: str, instead: str) -> None:
    """Raises on any system but Linux.

    Args:
        what: the feature, as the start of a sentence: ``a camera's supervision``.
        instead: what to type or to do on this system.

    Raises:
        UnsupportedSystemError: this is another system.
    """
    if sys.platform != "linux":
        here = _NAMES.get(sys.platform, sys.platform)
        raise UnsupportedSystemError(f"this is {here}; {what} needs Linux. {instead}")


def lock(descriptor: int) -> None:
    """Locks an open file until the descriptor is closed or the process ends.

    Raises:
        BlockingIOError: another descriptor holds the lock.
        OSError: the file system has no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
        finally:
            os.lseek(descriptor, at, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def read_at(descriptor: int, size_bytes: int, offset_bytes: int) -> bytes:
    """Reads from an offset in a file and keeps the position of the descriptor.

    Not for a descriptor that two threads read or write at once.

    Raises:
        OSError: as ``os.read``.
    """
    at = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        os.lseek(descriptor, offset_bytes, os.SEEK_SET)
        return os.read(descriptor, size_bytes)
    finally:
        os.lseek(descriptor, at, os.SEEK_SET)


def user_number() -> int:
    """The effective user number of this process; 0 where users have no number."""
    return os.geteuid() if sys.platform != "win32" else 0


def open_folder(path: Path) -> int:
    """A descriptor of a folder; a link is refused. Only where ``HAS_OWNERS``.

    Raises:
        OSError: there is no such folder.
    """
    return os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | O_NOFOLLOW)


def machine_names() -> list[bytes]:
    """The system's names for this machine and its kind of processor."""
    if sys.platform == "win32":
        return [os.fsencode(os.environ.get("COMPUTERNAME", ""))]
    system = os.uname()
    return [os.fsencode(system.nodename), os.fsencode(system.machine)]


def lower_priority(nice: int) -> None:
    """Raises the Unix nice value by so many steps; does nothing on other systems."""
    if sys.platform != "win32":
        os.nice(nice)


def end_with(parent: int, most_s: int) -> None:
    """Ends this process with its parent (Linux), and after so many seconds at the latest."""
    if sys.platform == "win32":
        return
    signal.alarm(most_s)
    if sys.platform == "linux":
        import ctypes

        # PR_SET_PDEATHSIG: when the thread that started this process ends; it waits for us.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
        with contextlib.suppress(OSError):  # the first process to be killed when memory runs out
            Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    if os.getppid() != parent:
        os._exit(1)


def usable_cores() -> int:
    """The processor cores that this process may use; all cores if the system does not report it."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class WakeUp:
    """Ends a wait in one thread from another one or from a signal handler, without a lock.

    A pair of sockets instead of a pipe: on Windows ``select`` accepts only sockets.
    """

    def __init__(self) -> None:
        self._listen, self._speak = socket.socketpair()
        self._listen.setblocking(False)
        self._speak.setblocking(False)

    def wake(self) -> None:
        """Ends the current wait, or else the next one."""
        with contextlib.suppress(OSError):  # full: already awake; closed: nothing waits
            self._speak.send(b".")

    def wait(self, seconds: float) -> None:
        """Returns after ``wake()``, or when the time is over."""
        ready, _, _ = select.select([self._listen], [], [], seconds)
        if ready:
            with contextlib.suppress(BlockingIOError):
                self._listen.recv(4096)

    def close(self) -> None:
        """Closes both sockets."""
        self._listen.close()
        self._speak.close()
