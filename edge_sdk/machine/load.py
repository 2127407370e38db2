"""Load of cores and memory, and limits of control groups.

A process that has used its CPU quota for a period, usually 0.1 s, is stopped until the next one: its
median latency is unaffected, its slowest runs are that long. A process that exceeds the memory limit
of its control group is killed, whatever the machine has available.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from edge_sdk.machine.board import System

# Fields of /proc/stat, by proc_stat(5); guest time is part of user time.
_IDLE = ("idle", "iowait")
_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


class CpuTimes(NamedTuple):
    """CPU time of all cores together since boot, in seconds.

    Attributes:
        busy: not idle, without stolen time.
        stolen: used by other guests of the same host.
    """

    busy: float
    stolen: float


class Memory(NamedTuple):
    """Megabytes (10⁶ bytes), None if unknown."""

    total_mb: float | None
    available_mb: float | None
    swap_total_mb: float | None
    swap_used_mb: float | None


class LoadAverage(NamedTuple):
    """Runnable tasks, averaged over 1, 5 and 15 minutes."""

    one: float
    five: float
    fifteen: float


def read_cpu_times(system: System) -> CpuTimes | None:
    """From ``/proc/stat``; None if it is missing or invalid."""
    for line in (system.text("/proc/stat") or "").splitlines():
        name, *values = line.split()
        if name == "cpu" and len(values) >= len(_FIELDS):
            if not all(value.isdecimal() and len(value) < 19 for value in values):
                return None
            ticks = os.sysconf("SC_CLK_TCK")
            spent = {f: int(v) / ticks for f, v in zip(_FIELDS, values, strict=False)}
            stolen = spent.pop("steal")
            return CpuTimes(sum(spent.values()) - sum(spent[f] for f in _IDLE), stolen)
    return None


def own_cpu_s() -> float:
    """CPU time of this process and its finished children, in seconds."""
    children = os.times()  # zero on Windows, which does not record it
    return time.process_time() + children.children_user + children.children_system


def read_load_average(system: System) -> LoadAverage | None:
    """From ``/proc/loadavg``; None if it is missing or invalid."""
    try:
        one, five, fifteen = (
            float(text) for text in (system.text("/proc/loadavg") or "").split()[:3]
        )
    except ValueError:
        return None
    values = LoadAverage(one, five, fifteen)
    return values if all(0 <= value < 1e6 for value in values) else None


def read_memory(system: System) -> Memory:
    """From ``/proc/meminfo``."""
    found = {}
    for line in (system.text("/proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        amount = rest.split()
        if len(amount) == 2 and amount[0].isdecimal() and len(amount[0]) < 16 and amount[1] == "kB":
            found[name] = int(amount[0]) * 1024 / 1e6
    swap, free = found.get("SwapTotal"), found.get("SwapFree")
    return Memory(
        found.get("MemTotal"),
        found.get("MemAvailable"),
        swap,
        None if swap is None or free is None else max(0.0, swap - free),
    )


def read_swapped_mb(system: System) -> float | None:
    """Megabytes (10⁶ bytes) swapped out and in since boot."""
    pages = [
        int(value)
        for name, value in (
            line.split()
            for line in (system.text("/proc/vmstat") or "").splitlines()
            if line.count(" ") == 1
        )
        if name in ("pswpin", "pswpout") and value.isdecimal() and len(value) < 19
    ]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6 if len(pages) == 2 else None


_ROOT = "/sys/fs/cgroup"
_PER_SECOND = {"throttled_usec": 1e6, "throttled_time": 1e9}  # version 2, version 1


class Quota(NamedTuple):
    """The CPU quota of the process's control groups; None without a quota.

    Attributes:
        cores: CPU time per time, at most; 0.5 is half a core.
        stopped_s: time for which the quota has stopped processes so far, all cores together.
    """

    cores: float | None
    stopped_s: float | None


def read_quota(system: System) -> Quota:
    """The quota of this process's group and all its parents, of either cgroup version."""
    groups = list(_groups(system, "cpu"))
    cores = [limit for group in groups if (limit := _limit(system, group)) is not None]
    stopped = [time for group in groups if (time := _stopped_s(system, group)) is not None]
    # A group without its own limit is stopped together with its parent.
    return Quota(min(cores), sum(stopped) if stopped else None) if cores else Quota(None, None)


def usable_memory_bytes(system: System) -> int | None:
    """Bytes that this process can still allocate before it swaps, fails or is killed.

    The minimum of the machine's available memory, the rest of the limit of every control group of the
    process (version 1 or 2; droppable file cache counts as free), and the rest of its resource limits
    on address space and data.

    Args:
        system: the machine.

    Returns:
        0 or more; None if none of these is known (not Linux).
    """
    rooms = [*_machine_rooms(system), *_group_rooms(system), *_process_rooms(system)]
    return max(0, min(rooms)) if rooms else None


@contextlib.contextmanager
def limited_memory(system: System, more_bytes: int) -> Iterator[None]:
    """Limits the memory of the process within the context; an allocation beyond the limit fails.

    Args:
        system: the machine, for the current use; if unknown, there is no limit.
        more_bytes: private memory beyond the current use (``RLIMIT_DATA``); a lower limit stays.
    """
    status = _lines((system.text("/proc/self/status") or "").replace(":", ""))
    if "VmData" not in status:
        yield
        return
    import resource

    usual, hard = resource.getrlimit(resource.RLIMIT_DATA)
    lowest = [status["VmData"] * 1024 + more_bytes, usual, hard]
    soft = min(limit for limit in lowest if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (usual, hard))


def _machine_rooms(system: System) -> Iterator[int]:
    available_mb = read_memory(system).available_mb
    if available_mb is not None:
        yield int(available_mb * 1e6)


def _group_rooms(system: System) -> Iterator[int]:
    for group in _groups(system, "memory"):
        usage = _bytes(system, group, "memory.current", "memory.usage_in_bytes")
        if usage is None:  # the root group of version 2 has neither usage nor limit
            continue
        stat = _lines(system.text(f"{group}/memory.stat"))
        limits = [
            _bytes(system, group, "memory.max", "memory.limit_in_bytes"),
            # Above it, version 2 throttles a process heavily while it reclaims memory.
            _bytes(system, group, "memory.high"),
            # The limit of parent groups, which may be invisible in a container.
            stat.get("hierarchical_memory_limit"),
        ]
        droppable = stat.get("total_inactive_file", stat.get("inactive_file", 0))
        for limit in limits:
            if limit is not None:
                yield limit - usage + min(droppable, usage)


def _process_rooms(system: System) -> Iterator[int]:
    # A line of /proc/self/limits: "Max address space  8000000000  unlimited  bytes".
    limits = system.text("/proc/self/limits") or ""
    status = _lines((system.text("/proc/self/status") or "").replace(":", ""))
    for name, used in (("Max address space", "VmSize"), ("Max data size", "VmData")):
        for line in limits.splitlines():
            soft = line.removeprefix(name).split()[:1]
            if line.startswith(name) and soft and _counts(soft[0]):
                yield int(soft[0]) - status.get(used, 0) * 1024


def _bytes(system: System, group: str, *names: str) -> int | None:
    for name in names:
        text = system.text(f"{group}/{name}")
        if text is not None:
            return int(text) if _counts(text) else None  # "max": no limit
    return None


def _lines(text: str | None) -> dict[str, int]:
    """The numbers of ``name number`` lines."""
    words = [line.split() for line in (text or "").splitlines()]
    return {w[0]: int(w[1]) for w in words if len(w) >= 2 and _counts(w[1])}


def _groups(system: System, controller: str) -> Iterator[str]:
    """Folders of groups, from the innermost to the root; a container's own group is its root."""
    for line in (system.text("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        base = f"{_ROOT}/{controller}" if controllers else _ROOT
        # Seen from a namespace, a group outside of it begins with "..".
        path = PurePosixPath("/", *(part for part in name.split("/") if part and part != ".."))
        for group in (path, *path.parents):
            yield f"{base}{group}".rstrip("/")


def _limit(system: System, group: str) -> float | None:
    text = system.text(f"{group}/cpu.max")  # version 2: "50000 100000", or "max 100000"
    if text is not None:
        quota, _, period = text.partition(" ")
    else:
        quota = system.text(f"{group}/cpu.cfs_quota_us") or ""
        period = system.text(f"{group}/cpu.cfs_period_us") or ""
    if not (_counts(quota) and _counts(period)):  # "max", -1: no limit
        return None
    return int(quota) / int(period) if int(period) and int(quota) else None


def _stopped_s(system: System, group: str) -> float | None:
    for line in (system.text(f"{group}/cpu.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in _PER_SECOND and _counts(value):
            return int(value) / _PER_SECOND[name]
    return None


def _counts(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) < 20


class Shortage(NamedTuple):
    """An exhausted resource.

    Attributes:
        what: a clause for a message, with the known figures.
        fix: what to type or to do.
    """

    what: str
    fix: str


def shortage(error: OSError, system: System | None = None) -> Shortage | None:
    """The exhausted resource behind an error of ``fork``, ``clone``, ``open``, ``pipe`` or ``mmap``.

    Args:
        error: as raised on starting a process.
        system: the machine, for limits; None: this machine.

    Returns:
        None for any other error.
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
                f"this process has reached its limit of {limit} open files and connections",
                "raise the limit (LimitNOFILE= of a unit, or ulimit -n)",
            )
        case errno.ENFILE:
            return Shortage(
                "the machine's limit of open files is reached",
                "stop some programs, or raise fs.file-max with sysctl",
            )
    return None


def _tasks(system: System) -> Shortage:
    """clone(2), EAGAIN: a limit of tasks, the control group's or the user's."""
    for group in _groups(system, "pids"):
        used, most = system.text(f"{group}/pids.current"), system.text(f"{group}/pids.max")
        if used and most and used.isdecimal() and most.isdecimal() and int(used) >= int(most):
            return Shortage(
                f"{used} of {most} tasks (processes and threads) of its control group are in use",
                "raise the limit (TasksMax= of a unit), or stop processes of that group",
            )
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    known = "" if limit == resource.RLIM_INFINITY else f", at most {limit} for this user"
    return Shortage(
        f"the system allows no further task (process or thread{known})",
        "raise the limit (TasksMax= of a unit, or ulimit -u), or stop some processes",
    )
