"""What Linux, macOS and Windows do each in their own way: locks, wake-ups, cores.

The only module that asks which system this is. What takes Linux is refused by name here, before any
of its modules reaches for a call that is missing.
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

# Windows opens a descriptor for text unless it is told not to, and so would rewrite line ends.
O_BINARY: int = getattr(os, "O_BINARY", 0)
# Windows neither renames nor deletes a file that a process has open.
MOVES_OPEN_FILES = sys.platform != "win32"
# Files and folders have an owner and a mode that can be asked for.
HAS_OWNERS = sys.platform != "win32"
O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
O_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
# Of a character class: what the name of a file or folder cannot hold.
NOT_IN_NAMES = r"/\x00-\x1f\x7f" if sys.platform != "win32" else r"/\x00-\x1f\x7f<>:\"|?*\\"
# Windows locks bytes, and denies every other process to read them: this one is far past any end.
_LOCKED_BYTE = 0x7FFF_FFFE
_NAMES = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}


def require_linux(what: str, instead: str) -> None:
    """Refuses, on any other system, what takes Linux.

    Args:
        what: takes Linux, as the start of a sentence: ``a camera's supervision``.
        instead: what to type or to do here.

    Raises:
        UnsupportedSystemError: this is another system.
    """
    if sys.platform != "linux":
        here = _NAMES.get(sys.platform, sys.platform)
        raise UnsupportedSystemError(f"this is {here}; {what} takes Linux. {instead}")


def lock(descriptor: int) -> None:
    """Takes an open file for this process, until the descriptor is closed or the process ends.

    Raises:
        BlockingIOError: another descriptor has it.
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
    """Reads from a place in a file; afterwards the descriptor stands where it stood.

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
    """The user that this process acts for; 0 where users have no number."""
    return os.geteuid() if sys.platform != "win32" else 0


def open_folder(path: Path) -> int:
    """A descriptor of a folder, which is no link to one; only where ``HAS_OWNERS``.

    Raises:
        OSError: there is none.
    """
    return os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | O_NOFOLLOW)


def machine_names() -> list[bytes]:
    """What the system calls this machine and its kind of processor."""
    if sys.platform == "win32":
        return [os.fsencode(os.environ.get("COMPUTERNAME", ""))]
    system = os.uname()
    return [os.fsencode(system.nodename), os.fsencode(system.machine)]


def lower_priority(nice: int) -> None:
    """Leaves the processor to others, by so many steps of Unix's; does nothing elsewhere."""
    if sys.platform != "win32":
        os.nice(nice)


def end_with(parent: int, most_s: int) -> None:
    """The end of this process: with its parent (Linux), and after so many seconds at the latest."""
    if sys.platform == "win32":
        return
    signal.alarm(most_s)
    if sys.platform == "linux":
        import ctypes

        # PR_SET_PDEATHSIG: when the thread that started us ends, and it waits for us.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
        with contextlib.suppress(OSError):  # the first to go where memory runs out
            Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    if os.getppid() != parent:
        os._exit(1)


def usable_cores() -> int:
    """The processor cores that this process may use; all, where the system does not say."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class WakeUp:
    """Ends a wait in one thread from another, or from a signal handler: no lock is taken.

    A pair of sockets and not a pipe: on Windows ``select`` knows sockets alone.
    """

    def __init__(self) -> None:
        self._listen, self._speak = socket.socketpair()
        self._listen.setblocking(False)
        self._speak.setblocking(False)

    def wake(self) -> None:
        """Ends the wait that is under way, or else the next one."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: nothing waits
            self._speak.send(b".")

    def wait(self, seconds: float) -> None:
        """Returns after ``wake()``, or when the time is over."""
        ready, _, _ = select.select([self._listen], [], [], seconds)
        if ready:
            with contextlib.suppress(BlockingIOError):
                self._listen.recv(4096)

    def close(self) -> None:
        """Gives both sockets back."""
        self._listen.close()
        self._speak.close()
