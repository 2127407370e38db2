"""The machine: its files and commands, its name, processor and cores, emulation and containers."""

from __future__ import annotations

import math
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 5.0
_LONGEST_BYTES = 1_000_000  # files of /proc and /sys report no size


def _output(command: Sequence[str]) -> str | None:
    """The output of a command; None if it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            list(command),
            capture_output=True,
            timeout=_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class System:
    """Where facts about a machine are read.

    Attributes:
        root: prefix of every absolute path: ``/``, or a folder with the files of a machine.
        output: runs a command and returns its output, or None if it is missing, fails or takes longer
            than five seconds.
    """

    root: Path = Path("/")
    output: Callable[[Sequence[str]], str | None] = _output

    def path(self, absolute: str) -> Path:
        """``/proc/stat`` within the root."""
        return self.root / absolute.lstrip("/")

    def text(self, absolute: str) -> str | None:
        """The stripped text of a small file; None if it cannot be read.

        Device trees end their strings with NUL, which is removed.
        """
        try:
            with self.path(absolute).open("rb") as file:
                data = file.read(_LONGEST_BYTES)
        except OSError:
            return None
        return data.decode(errors="replace").replace("\0", "").strip()

    def number(self, absolute: str) -> float | None:
        """The number in a file; None if there is none, or it is not finite."""
        try:
            number = float(self.text(absolute) or "")
        except ValueError:
            return None
        return number if math.isfinite(number) else None

    def paths(self, pattern: str) -> list[Path]:
        """All paths that match an absolute glob pattern, sorted."""
        return sorted(self.root.glob(pattern.lstrip("/")))

    def names(self, pattern: str) -> list[str]:
        """The same as absolute names within the machine, for ``text`` and ``number``."""
        return [f"/{path.relative_to(self.root).as_posix()}" for path in self.paths(pattern)]


_DEVICE_TREE = ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model")
_DMI = "/sys/class/dmi/id"
# Placeholders that vendors leave in firmware tables.
_FILLERS = re.compile(
    r"to be filled|default string|system (product|manufacturer)|o\.e\.m|not (specified|applicable)"
    r"|^none$|^unknown$",
    re.IGNORECASE,
)
_LONGEST = 120
# A 64-bit Arm kernel reports numbers instead of names. The names are those of lscpu (util-linux,
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
    """The name of the board in its device tree or firmware; None if neither has one."""
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
    """The name of the processor in ``/proc/cpuinfo``; None if there is none.

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
    """Number of online cores, at least 1."""
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
    """Features of the first core, by the names of ``/proc/cpuinfo``."""
    flags = _values(system, "flags") or _values(system, "Features")
    return frozenset(flags[0].split()) if flags else frozenset()


def cpu_vendors(system: System) -> frozenset[str]:
    """``vendor_id`` of x86 cores, ``CPU implementer`` of Arm cores."""
    return frozenset((*_values(system, "vendor_id"), *_values(system, "CPU implementer")))


def one_line(text: str | None) -> str | None:
    """``text`` for a report: printable, one line, of limited length; None if empty."""
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
    """The values of one key of ``/proc/cpuinfo``, core by core."""
    found = []
    for line in (system.text("/proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            found.append(value.strip())
    return found


_X86 = ("x86_64", "amd64", "i386", "i486", "i586", "i686")
_ARM = ("aarch64", "arm64", "armv6l", "armv7l", "armv8l")
# Vendor names in firmware tables of guests: systemd's src/basic/virt.c.
_GUESTS = (
    ("KVM", "kvm"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("innotek GmbH", "virtualbox"),
    ("VirtualBox", "virtualbox"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Hyper-V", "hyper-v"),
    ("Microsoft Corporation Virtual Machine", "hyper-v"),
    ("Amazon EC2", "amazon ec2"),
    ("Google Compute Engine", "google compute engine"),
    ("Apple Virtualization", "apple"),
)


def emulator(system: System, architecture: str) -> str | None:
    """The emulator that runs this process, such as ``qemu-aarch64``; None: none.

    User-mode QEMU replaces ``/proc/self/exe`` for its guest, but not the same link of a thread
    (``linux-user/syscall.c``, ``is_proc_myself``), nor, in most versions, ``/proc/cpuinfo``: a host
    processor of another architecture reveals it.

    Args:
        system: the machine.
        architecture: of the process, from ``platform.machine()``.
    """
    # Matches threads, not their exe links: a glob omits links with an invisible target.
    for task in system.paths("/proc/self/task/[0-9]*"):
        try:
            name = (task / "exe").readlink().name
        except OSError:
            continue
        if match := re.match(r"(qemu-[a-z0-9_]+|box(?:32|64|86)|FEXInterpreter|rosetta)", name):
            return match[1]
    vendors = cpu_vendors(system)
    if "VirtualApple" in vendors:
        return "rosetta"
    arm = any(vendor.startswith("0x") for vendor in vendors)
    if vendors and architecture in _ARM and not arm:
        return "an emulator on an x86 processor"
    if vendors and architecture in _X86 and arm:
        return "an emulator on an Arm processor"
    return None


def hypervisor(system: System) -> str | None:
    """The hypervisor of the machine, such as ``kvm``; None: none detected."""
    if kind := one_line(system.text("/sys/hypervisor/type")):
        return kind
    board = board_name(system) or ""
    names = f"{board} {one_line(system.text('/sys/class/dmi/id/bios_vendor')) or ''}"
    for sign, name in _GUESTS:
        if sign in names:
            return name
    if node := one_line(system.text("/proc/device-tree/hypervisor/compatible")):
        return node
    if system.path("/proc/device-tree/fw-cfg").exists() or "linux,dummy-virt" in board:
        return "qemu"
    return "a hypervisor that gives no name" if "hypervisor" in cpu_flags(system) else None


def container(system: System) -> str | None:
    """The container of the process, such as ``docker``; None: none detected."""
    if system.path("/run/.containerenv").exists():
        return "podman"
    if system.path("/.dockerenv").exists():
        return "docker"
    return one_line(system.text("/run/systemd/container"))
