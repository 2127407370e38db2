"""What the cores and the memory are busy with."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from edge_sdk.machine.system import System

# Of /proc/stat, by proc_stat(5); guest time is part of user time.
_IDLE = ("idle", "iowait")
_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


class CpuTimes(NamedTuple):
    """Seconds of all cores together since the machine was switched on.

    Attributes:
        busy: with anything at all, stolen time left out.
        stolen: by other guests of the same host.
    """

    busy: float
    stolen: float


class Memory(NamedTuple):
    """Megabytes (10⁶ bytes), None where the machine does not say."""

    total_mb: float | None
    available_mb: float | None
    swap_total_mb: float | None
    swap_used_mb: float | None


class LoadAverage(NamedTuple):
    """Tasks that run or wait to run, averaged over 1, 5 and 15 minutes."""

    one: float
    five: float
    fifteen: float


def read_cpu_times(system: System) -> CpuTimes | None:
    """From ``/proc/stat``; None where it does not say."""
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
    """Seconds of processor that this process and its finished children have used."""
    children = os.times()  # zero on Windows, which keeps no account of them
    return time.process_time() + children.children_user + children.children_system


def read_load_average(system: System) -> LoadAverage | None:
    """From ``/proc/loadavg``; None where it does not say."""
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
    """Megabytes that went to the swap and came back since the machine was switched on."""
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
