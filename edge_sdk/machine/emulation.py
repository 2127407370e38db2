"""Whether the machine is what it looks like: emulated, a guest, a container."""

from __future__ import annotations

import re

from edge_sdk.machine.board import board_name, cpu_flags, cpu_vendors, one_line
from edge_sdk.machine.system import System

_X86 = ("x86_64", "amd64", "i386", "i486", "i586", "i686")
_ARM = ("aarch64", "arm64", "armv6l", "armv7l", "armv8l")
# What firmware tables of guests say: systemd's src/basic/virt.c.
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
    """What translates the instructions of this process, such as ``qemu-aarch64``; None: nothing.

    User-mode QEMU shows its guest a made-up ``/proc/self/exe``, but not the same link of a thread
    (``linux-user/syscall.c``, ``is_proc_myself``), nor, in most versions, a ``/proc/cpuinfo`` of
    its own: a host's processor of another kind gives it away.

    Args:
        system: where to look.
        architecture: of the process, as ``platform.machine()`` says.
    """
    # Threads, not their links: a pattern finds no link to what cannot be seen from here.
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
    """What the machine is a guest of, such as ``kvm``; None: nothing that shows."""
    if kind := one_line(system.text("/sys/hypervisor/type")):
        return kind
    board = board_name(system) or ""
    told = f"{board} {one_line(system.text('/sys/class/dmi/id/bios_vendor')) or ''}"
    for sign, name in _GUESTS:
        if sign in told:
            return name
    if node := one_line(system.text("/proc/device-tree/hypervisor/compatible")):
        return node
    if system.path("/proc/device-tree/fw-cfg").exists() or "linux,dummy-virt" in board:
        return "qemu"
    return "a hypervisor that gives no name" if "hypervisor" in cpu_flags(system) else None


def container(system: System) -> str | None:
    """The container that the process is in, such as ``docker``; None: none that shows."""
    if system.path("/run/.containerenv").exists():
        return "podman"
    if system.path("/.dockerenv").exists():
        return "docker"
    return one_line(system.text("/run/systemd/container"))
