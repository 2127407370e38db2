"""Why the system refused a process, a thread or a file: which limit was reached, as far as it tells."""

from __future__ import annotations

import errno
from typing import NamedTuple

from edge_sdk.machine.system import System

_ROOT = "/sys/fs/cgroup"


class Shortage(NamedTuple):
    """What there is too little of.

    Attributes:
        what: a clause for a message, with the figures that could be read.
        fix: what to type or to do against it.
    """

    what: str
    fix: str


def shortage(error: OSError, system: System | None = None) -> Shortage | None:
    """What an error of ``fork``, ``clone``, ``open``, ``pipe`` or ``mmap`` says there is too little of.

    Args:
        error: as raised where a process was to be started.
        system: where limits are read; None: this machine.

    Returns:
        None where it is another error: nothing is known then, and nothing should be guessed.
    """
    match error.errno:
        case errno.EAGAIN:
            return _tasks(system or System())
        case errno.ENOMEM:
            return Shortage(
                "there is too little memory for another process",
                "free some memory, or raise the limit (MemoryMax= of a unit)",
            )
        case errno.EMFILE:
            import resource  # not where there is no Unix

            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return Shortage(
                f"this process has the {limit} files and connections open that it may",
                "raise the limit (LimitNOFILE= of a unit, or ulimit -n)",
            )
        case errno.ENFILE:
            return Shortage(
                "all programs together have as many files open as the machine allows",
                "end some of them, or raise fs.file-max with sysctl",
            )
    return None


def _tasks(system: System) -> Shortage:
    """clone(2), EAGAIN: a limit of tasks, the control group's or the user's."""
    for group in _groups(system):
        used, most = system.text(f"{group}/pids.current"), system.text(f"{group}/pids.max")
        if used and most and used.isdecimal() and most.isdecimal() and int(used) >= int(most):
            return Shortage(
                f"{used} of {most} tasks (processes and threads) of its control group are in use",
                "raise the limit (TasksMax= of a unit), or end what takes them",
            )
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    known = "" if limit == resource.RLIM_INFINITY else f", of which this user may have {limit}"
    return Shortage(
        f"the system allows no further task (process or thread{known})",
        "raise the limit (TasksMax= of a unit, or ulimit -u), or end what takes them",
    )


def _groups(system: System) -> list[str]:
    """Folders of the control groups that count this process's tasks, from the inmost to the root."""
    found = []
    for line in (system.text("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "pids" not in controllers.split(","):
            continue
        base = f"{_ROOT}/pids" if controllers else _ROOT
        parts = [part for part in name.split("/") if part and part != ".."]
        found += ["/".join((base, *parts[:count])) for count in range(len(parts), -1, -1)]
    return found
