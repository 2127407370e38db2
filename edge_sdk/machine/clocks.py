"""How fast the cores run, and who decides it."""

from __future__ import annotations

import re
from typing import NamedTuple

from edge_sdk.machine.board import one_line
from edge_sdk.machine.system import System

_CPUS = "/sys/devices/system/cpu"
# Whoever runs at more is no processor, but a file that does not say what we think.
_MOST_MHZ = 20_000.0


class Clocks(NamedTuple):
    """Clocks in MHz, None where the machine does not say.

    Attributes:
        now: of the fastest core, which is where the busiest work is.
        most: of the fastest core at its best, as the hardware says.
        allowed: of the fastest core, as far as a limit that somebody has set lets it go.
    """

    now: float | None
    most: float | None
    allowed: float | None


def read_clocks(system: System) -> Clocks:
    """The clocks at this moment."""
    return Clocks(
        clock_now(system),
        _fastest(system, "cpuinfo_max_freq"),
        _fastest(system, "scaling_max_freq"),
    )


def clock_now(system: System) -> float | None:
    """Of the fastest core, in MHz.

    A Raspberry Pi's firmware slows the cores without telling the kernel, whose file goes on saying
    what was asked for; there the firmware is asked, which measures.
    """
    measured = system.output(("vcgencmd", "measure_clock", "arm"))
    if match := re.fullmatch(r"frequency\(\d+\)=(\d+)", (measured or "").strip(), re.ASCII):
        mhz = int(match[1][:15]) / 1e6
        if 0 < mhz <= _MOST_MHZ:
            return mhz
    kernel = _fastest(system, "scaling_cur_freq")
    if kernel is not None:
        return kernel
    found = re.findall(
        r"^cpu MHz\s*:\s*(\d{1,6}(?:\.\d+)?)\s*$", system.text("/proc/cpuinfo") or "", re.M | re.A
    )
    clocks = [float(mhz) for mhz in found]
    return max((mhz for mhz in clocks if 0 < mhz <= _MOST_MHZ), default=None)


def read_governor(system: System) -> str | None:
    """The rule by which the kernel picks clocks, as ``ondemand``; several where cores differ."""
    return _names(system, "scaling_governor")


def read_driver(system: System) -> str | None:
    """The driver that sets clocks: ``cpufreq-dt``, ``intel_pstate``, ….

    It matters since ``powersave`` means the lowest clock with most, and with ``intel_pstate`` and
    ``amd-pstate-epp`` a clock that follows the load.
    """
    return _names(system, "scaling_driver")


def _names(system: System, file: str) -> str | None:
    names = (one_line(system.text(name)) for name in _files(system, file))
    return ", ".join(dict.fromkeys(name for name in names if name)) or None


def _fastest(system: System, file: str) -> float | None:
    clocks = []
    for name in _files(system, file):
        khz = system.number(name)
        if khz is not None and 0 < khz / 1000 <= _MOST_MHZ:
            clocks.append(khz / 1000)
    return max(clocks, default=None)


def _files(system: System, file: str) -> list[str]:
    return system.names(f"{_CPUS}/cpu[0-9]*/cpufreq/{file}")
