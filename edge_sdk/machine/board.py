"""What a machine is called: board, processor, cores, operating system."""

from __future__ import annotations

import os
import re
from collections import Counter

from edge_sdk.machine.system import System

_DEVICE_TREE = ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model")
_DMI = "/sys/class/dmi/id"
# What vendors leave in their tables where a name should be.
_FILLERS = re.compile(
    r"to be filled|default string|system (product|manufacturer)|o\.e\.m|not (specified|applicable)"
    r"|^none$|^unknown$",
    re.IGNORECASE,
)
_LONGEST = 120
# A 64-bit Arm kernel says numbers instead of names. The names are those of lscpu (util-linux,
# sys-utils/lscpu-arm.c), for the implementer 0x41 (Arm) and the parts found on boards.
_ARM_PARTS = {
    0xB76: "ARM1176",
    0xC07: "Cortex-A7",
    0xC09: "Cortex-A9",
    0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2",
}


def board_name(system: System) -> str | None:
    """The board as its device tree or its firmware calls it; None where neither does."""
    for file in _DEVICE_TREE:
        if name := one_line(system.text(file)):
            return name
    parts = [one_line(system.text(f"{_DMI}/{file}")) for file in ("sys_vendor", "product_name")]
    named = [part for part in parts if part and not _FILLERS.search(part)]
    if named:
        return " ".join(dict.fromkeys(named))
    # Older kernels for the Raspberry Pi.
    return one_line(next(iter(_values(system, "Model")), None))


def cpu_name(system: System) -> str | None:
    """The processor as ``/proc/cpuinfo`` calls it; None where it does not say.

    Cores of several kinds are counted: ``4 × Cortex-A55, 2 × Cortex-A76``.
    """
    kinds = Counter(_arm_cores(system))
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds:
        return ", ".join(f"{n} \N{MULTIPLICATION SIGN} {kind}" for kind, n in kinds.items())
    for key in ("model name", "Hardware", "Processor", "cpu model"):
        if name := one_line(next(iter(_values(system, key)), None)):
            return name
    return None


def core_count(system: System) -> int:
    """Cores that are switched on, at least 1."""
    listed = one_line(system.text("/sys/devices/system/cpu/online")) or ""
    counted = 0
    for part in listed.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal() and len(part) < _LONGEST:
            counted += max(0, int(last or first) - int(first) + 1)
    return counted or len(_values(system, "processor")) or os.cpu_count() or 1


def operating_system(system: System) -> str | None:
    """The name and version that ``/etc/os-release`` gives."""
    for line in (system.text("/etc/os-release") or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return one_line(value.strip("\"'"))
    return None


def cpu_flags(system: System) -> frozenset[str]:
    """What the first core can do, by the names of ``/proc/cpuinfo``."""
    flags = _values(system, "flags") or _values(system, "Features")
    return frozenset(flags[0].split()) if flags else frozenset()


def cpu_vendors(system: System) -> frozenset[str]:
    """``vendor_id`` of x86 cores, ``CPU implementer`` of Arm cores."""
    return frozenset((*_values(system, "vendor_id"), *_values(system, "CPU implementer")))


def one_line(text: str | None) -> str | None:
    """``text`` fit to stand in a report: printable, one line, not endless; None where empty."""
    if text is None:
        return None
    shown = "".join(
        c if c.isprintable() and c != "\N{REPLACEMENT CHARACTER}" else " " for c in text
    )
    return " ".join(shown.split())[:_LONGEST] or None


def _arm_cores(system: System) -> list[str]:
    makers, parts = _values(system, "CPU implementer"), _values(system, "CPU part")
    if len(makers) != len(parts):
        return []
    names = []
    for maker, part in zip(makers, parts, strict=True):
        try:
            known = _ARM_PARTS.get(int(part, 16)) if int(maker, 16) == 0x41 else None
        except ValueError:
            return []
        names.append(known or f"Arm implementer {maker} part {part}")
    return names


def _values(system: System, key: str) -> list[str]:
    """Of one key of ``/proc/cpuinfo``, core by core."""
    found = []
    for line in (system.text("/proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            found.append(value.strip())
    return found
