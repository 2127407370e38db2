"""The limit that a container or a systemd slice puts on the processor: CPU quotas of control groups.

A process that has used its share of a period, a tenth of a second as a rule, stands still until the
next one: its medians look fine, its slowest runs are that long.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

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
    groups = list(_groups(system))
    cores = [limit for group in groups if (limit := _limit(system, group)) is not None]
    stopped = [time for group in groups if (time := _stopped_s(system, group)) is not None]
    # A group without a limit of its own stands still with the one above.
    return Quota(min(cores), sum(stopped) if stopped else None) if cores else Quota(None, None)


def _groups(system: System) -> Iterator[str]:
    """Folders of groups, from the inmost to the root; a container's own group is its root."""
    for line in (system.text("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = f"{_ROOT}/cpu" if controllers else _ROOT
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
