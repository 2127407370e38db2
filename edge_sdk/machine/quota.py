"""The limits that a container, a systemd slice or ``ulimit`` puts on processor and memory.

A process that has used its share of a period, a tenth of a second as a rule, stands still until the
next one: its medians look fine, its slowest runs are that long. A process that takes more memory than
its control group may have is killed, however much the machine has left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from edge_sdk.machine.load import read_memory
from edge_sdk.machine.system import System

_ROOT = "/sys/fs/cgroup"
_PARTS = {"throttled_usec": 1e6, "throttled_time": 1e9}  # of a second: version 2, version 1


class Quota(NamedTuple):
    """What the process's control groups allow and have done; None where there is no such limit.

    Attributes:
        cores: processor time per time, at most; 0.5 is half a core.
        stopped_s: that processes in them stood still so far, all cores together.
    """

    cores: float | None
    stopped_s: float | None


def read_quota(system: System) -> Quota:
    """Of the group that this process is in and all above it, of either version."""
    groups = list(_groups(system, "cpu"))
    cores = [limit for group in groups if (limit := _limit(system, group)) is not None]
    stopped = [time for group in groups if (time := _stopped_s(system, group)) is not None]
    # A group without a limit of its own stands still with the one above.
    return Quota(min(cores), sum(stopped) if stopped else None) if cores else Quota(None, None)


def usable_memory_bytes(system: System) -> int | None:
    """Bytes that this process may still take before it swaps, is refused or is killed.

    The least of what the machine has available, what every control group above the process has left
    (version 1 or 2; file cache that can be dropped counts as left), and what its resource limits on
    address space and data leave.

    Args:
        system: where to look.

    Returns:
        0 or more; None where nothing of this is known (no Linux).
    """
    rooms = [*_machine_rooms(system), *_group_rooms(system), *_process_rooms(system)]
    return max(0, min(rooms)) if rooms else None


@contextlib.contextmanager
def limited_memory(system: System, more_bytes: int) -> Iterator[None]:
    """Within, the process may take so much more; an allocation beyond fails instead.

    Args:
        system: what the process has taken is read there; without it there is no limit.
        more_bytes: private memory beyond what there is now (``RLIMIT_DATA``); a lower limit stays.
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
        if usage is None:  # the root of version 2 has none, nor has it a limit
            continue
        stat = _lines(system.text(f"{group}/memory.stat"))
        limits = [
            _bytes(system, group, "memory.max", "memory.limit_in_bytes"),
            # Above it, version 2 slows a process down to a halt while it reclaims.
            _bytes(system, group, "memory.high"),
            # Of the groups above, which a container may not see.
            stat.get("hierarchical_memory_limit"),
        ]
        droppable = stat.get("total_inactive_file", stat.get("inactive_file", 0))
        for limit in limits:
            if limit is not None:
                yield limit - usage + min(droppable, usage)


def _process_rooms(system: System) -> Iterator[int]:
    # By /proc/self/limits: "Max address space  8000000000  unlimited  bytes".
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
    """Folders of groups, from the inmost to the root; a container's own group is its root."""
    for line in (system.text("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        base = f"{_ROOT}/{controller}" if controllers else _ROOT
        path = PurePosixPath(name if name.startswith("/") and ".." not in name else "/")
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
        if name in _PARTS and _counts(value):
            return int(value) / _PARTS[name]
    return None


def _counts(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) < 20
