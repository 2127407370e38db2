"""macOS and Windows simulated on Linux, as far as Python differs there.

``pretend("win32")`` takes away from the project's own modules what CPython does not have there; the
standard library and other packages keep theirs, since on such a system they would take other ways. It
is started by a ``sitecustomize`` in front of everything, so in every child process, too.

What this cannot show: drivers, wheels, terminals, and what each system's file systems do else.
The names are from the "Availability" lines of Python's documentation and from typeshed.
"""

from __future__ import annotations

import builtins
import errno
import os
import stat
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

SYSTEMS = ("darwin", "win32")
MODULES = {
    "darwin": frozenset({"spwd", "ossaudiodev"}),
    "win32": frozenset(
        "fcntl resource termios pwd grp tty pty syslog posix crypt spwd nis readline curses".split()
    ),
}
_NOT_DARWIN = {
    "os": """pipe2 memfd_create eventfd eventfd_read eventfd_write EFD_NONBLOCK EFD_CLOEXEC
        EFD_SEMAPHORE sched_getaffinity sched_setaffinity sched_getscheduler sched_setscheduler fdatasync
        posix_fadvise posix_fallocate copy_file_range splice getrandom pidfd_open getxattr setxattr
        listxattr removexattr getresuid getresgid setresuid setresgid O_PATH O_TMPFILE O_DIRECT O_RSYNC
        O_LARGEFILE O_NOATIME""",
    "signal": "SIGPWR SIGSTKFLT SIGPOLL SIGCLD SIGRTMIN SIGRTMAX sigtimedwait sigwaitinfo "
    "pidfd_send_signal",
    "socket": "SOCK_CLOEXEC SOCK_NONBLOCK AF_NETLINK AF_PACKET AF_VSOCK SO_BINDTODEVICE SO_PEERCRED",
    "select": "epoll",
    "time": "CLOCK_BOOTTIME CLOCK_TAI CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE",
    "mmap": "MAP_POPULATE MAP_STACK MADV_REMOVE MADV_DONTFORK MADV_DOFORK MADV_HUGEPAGE",
    "sys": "",
}
_NOT_WINDOWS = {
    "os": _NOT_DARWIN["os"]
    + """ pread pwrite preadv pwritev readv writev fork forkpty getuid geteuid getgid getegid getgroups
        setuid setgid seteuid setegid setgroups initgroups setsid getsid setpgid getpgid getpgrp killpg
        nice getpriority setpriority getloadavg sysconf confstr pathconf fpathconf statvfs fstatvfs uname
        mkfifo mknod makedev major minor chown fchown lchown fchmod lockf sendfile wait wait3 wait4 waitid
        WNOHANG WIFEXITED WIFSIGNALED WTERMSIG WEXITSTATUS openpty ttyname tcgetpgrp tcsetpgrp ctermid
        O_CLOEXEC O_NONBLOCK O_DIRECTORY O_NOFOLLOW O_SYNC O_DSYNC O_NOCTTY O_ASYNC O_NDELAY get_blocking
        set_blocking posix_spawn posix_spawnp chroot sync fchdir register_at_fork sched_yield
        process_cpu_count RTLD_NOW RTLD_LAZY""",
    "signal": _NOT_DARWIN["signal"]
    + """ SIGHUP SIGQUIT SIGTRAP SIGBUS SIGKILL SIGUSR1 SIGUSR2 SIGPIPE SIGALRM SIGCHLD SIGCONT SIGSTOP
        SIGTSTP SIGTTIN SIGTTOU SIGIO SIGWINCH SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGURG SIGSYS alarm
        setitimer getitimer pause pthread_kill pthread_sigmask sigpending sigwait siginterrupt SIG_BLOCK
        SIG_UNBLOCK SIG_SETMASK""",
    "socket": _NOT_DARWIN["socket"] + " AF_UNIX SO_REUSEPORT CMSG_LEN CMSG_SPACE",
    "select": "epoll poll",
    "time": _NOT_DARWIN["time"]
    + """ clock_gettime clock_gettime_ns clock_settime clock_getres pthread_getcpuclockid tzset
        CLOCK_MONOTONIC CLOCK_REALTIME CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID""",
    "mmap": _NOT_DARWIN["mmap"]
    + " PROT_READ PROT_WRITE PROT_EXEC MAP_SHARED MAP_PRIVATE MAP_ANONYMOUS",
    "sys": "abiflags",
}
NAMES = {
    "darwin": {module: frozenset(names.split()) for module, names in _NOT_DARWIN.items()},
    "win32": {module: frozenset(names.split()) for module, names in _NOT_WINDOWS.items()},
}
_OURS = ("edge_sdk", "host_tools")
# Between us and the call: what they do to a file, we do.
_BETWEEN = ("pathlib", "shutil", "tempfile", "contextlib", "weakref")
_KERNEL = ("/proc/", "/sys/")


class _Module(types.ModuleType):
    """A module without some of its names, and with others in their place."""

    def __init__(
        self, real: types.ModuleType, missing: frozenset[str], instead: dict[str, Any]
    ) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(_real=real, _missing=missing, _instead=instead)

    def __getattr__(self, name: str) -> Any:
        if name in self._instead:
            return self._instead[name]
        if name in self._missing:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)


def pretend(system: str) -> None:
    """From now on, what the project imports is as on ``darwin`` or ``win32``."""
    instead = _windows() if system == "win32" else {}
    instead.setdefault("sys", {})["platform"] = system
    proxies = {
        module: _Module(__import__(module), names, instead.get(module, {}))
        for module, names in NAMES[system].items()
    }
    if system == "win32":
        proxies["msvcrt"] = _msvcrt()
        _keep_open_files()
    real_import = builtins.__import__

    def import_(
        name: str,
        globals_: dict[str, Any] | None = None,
        locals_: dict[str, Any] | None = None,
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        top = name.partition(".")[0]
        if level == 0 and globals_ is not None and _is_ours(globals_.get("__name__")):
            if top in MODULES[system]:
                raise ModuleNotFoundError(f"No module named {top!r}", name=top)
            if name in proxies or (top in proxies and not fromlist):
                return proxies[top]
        return real_import(name, globals_, locals_, fromlist, level)

    builtins.__import__ = import_  # type: ignore[assignment]
    sys.addaudithook(_hide_kernel)


def _is_ours(name: object) -> bool:
    return isinstance(name, str) and name.partition(".")[0] in _OURS


_looking = False  # at /proc, for ourselves


def _hide_kernel(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or _looking or not isinstance(arguments[0], str):
        return
    if arguments[0].startswith(_KERNEL):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])


def _windows() -> dict[str, dict[str, Any]]:
    def open_(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return os.open(path, flags, mode, **more)

    def select_(*lists: Any) -> Any:
        import select

        for item in [item for some in lists[:3] for item in some]:
            number = item if isinstance(item, int) else item.fileno()
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                raise OSError(10038, "an operation was attempted on something that is not a socket")
        return select.select(*lists)

    return {
        "os": {"name": "nt", "open": open_, "O_BINARY": 0},
        "select": {"select": select_},
    }


def _msvcrt() -> types.ModuleType:
    import fcntl

    def locking(descriptor: int, mode: int, size_bytes: int) -> None:
        assert (mode, size_bytes) == (2, 1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from error

    module = types.ModuleType("msvcrt")
    module.__dict__.update(locking=locking, LK_NBLCK=2)
    return module


def _keep_open_files() -> None:
    """Neither replaces, renames nor deletes what this process has open or mapped."""

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*paths: Any, **more: Any) -> Any:
            if _for_us():
                _check_closed([p for p in paths if isinstance(p, (str, os.PathLike))], more)
            return real(*paths, **more)

        return wrapped

    for name in ("replace", "rename", "unlink", "remove"):
        setattr(os, name, wrap(getattr(os, name)))


def _for_us() -> bool:
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    return _is_ours(frame.f_globals.get("__name__"))


def _check_closed(paths: list[Any], more: dict[str, Any]) -> None:
    global _looking
    used = set()
    _looking = True
    try:
        for number in os.listdir("/proc/self/fd"):
            try:
                used.add(os.readlink(f"/proc/self/fd/{number}"))
            except OSError:  # of this very listing
                continue
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            used |= {line.split(maxsplit=5)[5].strip() for line in maps if line.count("/")}
    finally:
        _looking = False
    for path in paths:
        folder = more.get("dir_fd")
        base = "" if folder is None else os.readlink(f"/proc/self/fd/{folder}")
        real = os.path.realpath(os.path.join(base, os.fspath(path)))
        if real in used or any(one.startswith(f"{real}/") for one in used):
            raise PermissionError(errno.EACCES, "the file is in use by this process", real)


def site(folder: Path, system: str) -> dict[str, str]:
    """What the environment of a process needs to believe that it is elsewhere.

    Args:
        folder: where a ``sitecustomize.py`` may be written.
        system: ``darwin`` or ``win32``.
    """
    root = Path(__file__).parents[1]
    (folder / "sitecustomize.py").write_text(
        f"import sys\nsys.path.append({str(root)!r})\n"
        f"from tests.other_systems import pretend\npretend({system!r})\n",
        "utf-8",
    )
    paths = [str(folder), str(root), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
