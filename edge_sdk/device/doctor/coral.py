"""Checks of the Coral Edge TPU: on USB or PCI Express, its library, and permissions."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_sdk.device.doctor.cameras import group_remedy
from edge_sdk.device.doctor.context import Context, Finding, remedy

# As edge_sdk.engines.edgetpu.LIBRARY, which cannot be imported where numpy is broken.
LIBRARY = "EDGECLS_EDGETPU_LIBRARY"
# The Accelerator has Global Unichip's USB ID until it is first used, then Google's.
_USB = (("1a6e", "089a"), ("18d1", "9302"))
_PCI = ("0x1ac1", "0x089a")
_FOLDERS = (
    "/usr/lib/*-linux-gnu*",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib/*-linux-gnu*",
)
_USB_3_MBPS = 5000.0
_BUILDS = "https://github.com/feranick/libedgetpu/releases"
# Prints the URLs of its packages, one for each system and processor.
_LIST_BUILDS = (
    "curl -s https://api.github.com/repos/feranick/libedgetpu/releases/latest | "
    "grep browser_download_url"
)
_ADD_SOURCE = (
    "curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo gpg --dearmor -o "
    "/usr/share/keyrings/coral-edgetpu.gpg && echo 'deb "
    "[signed-by=/usr/share/keyrings/coral-edgetpu.gpg] https://packages.cloud.google.com/apt "
    "coral-edgetpu-stable main' | sudo tee /etc/apt/sources.list.d/coral-edgetpu.list && sudo apt-get "
    "update && sudo apt-get install -y libedgetpu1-std"
)
_RULE = (
    r"""printf 'SUBSYSTEM=="usb", ATTRS{idVendor}=="%s", GROUP="plugdev", MODE="0660"\n' 1a6e 18d1 | """
    "sudo tee /etc/udev/rules.d/99-edgetpu.rules && sudo udevadm control --reload-rules && sudo udevadm "
    "trigger"
)
_APEX_RULE = (
    """echo 'SUBSYSTEM=="apex", MODE="0660", GROUP="apex"' | sudo tee /etc/udev/rules.d/65-apex.rules """
    "&& sudo groupadd -f apex && sudo usermod -aG apex {user} && sudo udevadm control --reload-rules && "
    "sudo udevadm trigger"
)
_BIG_PAGE_BYTES = 16384


class Accelerator(NamedTuple):
    """A Coral on USB: its folder in sysfs, its device file, its speed in Mbit/s."""

    sysfs: str
    device: Path
    speed_mbps: float | None


def has_coral(context: Context) -> bool:
    """Whether there is an Edge TPU, ready or not."""
    return bool(_accelerators(context) or _cards(context) or context.system.paths("/dev/apex_*"))


def library(context: Context) -> Iterator[Finding]:
    """Whether libedgetpu is installed and loads; checked only with an Edge TPU."""
    if not has_coral(context):
        return
    named = context.environment.get(LIBRARY)
    installed = (
        str(found)
        for folder in _FOLDERS
        for found in context.system.paths(f"{folder}/libedgetpu.so.1")
    )
    path, why = named or next(installed, None), "--backend edgetpu loads it"
    if path is None:
        yield Finding(
            "error",
            "there is an Edge TPU, but its library libedgetpu.so.1 is not installed",
            f"{why}; Google's build is from 2021, newer ones are at {_BUILDS}",
            _ADD_SOURCE,
        )
        return
    loaded, package = context.load_library(path), _package(context)
    if loaded.problem is not None and named:
        yield Finding(
            "error",
            f"${LIBRARY} names a library that does not load: {loaded.problem}",
            f"{why}; without the variable the system's libedgetpu.so.1 is loaded",
            f"unset {LIBRARY}",
        )
    elif loaded.problem is not None:
        cause, fix = remedy(loaded.problem, _LIST_BUILDS)
        yield Finding(
            "error",
            f"libedgetpu does not load: {loaded.problem}",
            f"{why}; {cause}",
            fix,
        )
    elif package == "16.0":
        yield Finding(
            "note",
            "libedgetpu 16.0 is Google's build from 2021",
            "it was built with an older TensorFlow; if a model crashes when it is opened, install one "
            "of these",
            _LIST_BUILDS,
        )
    else:
        runtime = re.search(r"RuntimeVersion\((\d+)\)", loaded.version or "")
        detail = f", runtime {runtime[1]}" if runtime else ""
        yield Finding("ok", f"libedgetpu {package or 'of no package'}{detail} loads", why)


def usb(context: Context) -> Iterator[Finding]:
    """A Coral on USB: permissions, and the speed of its port."""
    for coral in _accelerators(context):
        if context.open_device(coral.device) in (errno.EACCES, errno.EPERM):
            yield _closed(context, coral)
        elif coral.speed_mbps is not None and coral.speed_mbps < _USB_3_MBPS:
            yield Finding(
                "warning",
                f"the Coral is on USB 2 ({coral.speed_mbps:.0f} Mbit/s)",
                "pictures, and weights beyond 8 MB, are transferred more slowly: use a USB 3 port, "
                "usually blue (a Pi 3 or Zero has none), and the cable supplied with it",
                "lsusb -t",
            )
        else:
            yield Finding(
                "ok", "a Coral on USB 3, which may be opened", "--backend edgetpu uses it"
            )


def _closed(context: Context, coral: Accelerator) -> Finding:
    rules = [
        context.system.text(f"/{path.relative_to(context.system.root)}") or ""
        for folder in ("/etc/udev/rules.d", "/lib/udev/rules.d", "/usr/lib/udev/rules.d")
        for path in context.system.paths(f"{folder}/*.rules")
        if "tpu" in path.name or "coral" in path.name
    ]
    device = f"/{coral.device.relative_to(context.system.root)}"
    if any("1a6e" in rule or "18d1" in rule for rule in rules):
        why, fix = group_remedy(context, "plugdev", device)
    else:
        why, fix = (
            "no udev rule assigns it to the group plugdev; unplug it and plug it in again afterwards",
            _RULE,
        )
    what = f"{context.user.name} may not open the Coral on USB ({device})"
    return Finding("error", what, f"the Edge TPU cannot be used; {why}", fix)


def pci(context: Context) -> Iterator[Finding]:
    """A Coral on PCI Express or M.2: driver, page size of the kernel, permissions."""
    devices = context.system.paths("/dev/apex_[0-9]*")
    if _cards(context) and not devices:
        yield _no_driver(context)
        return
    for device in devices:
        name = f"/{device.relative_to(context.system.root)}"
        if context.open_device(device) in (errno.EACCES, errno.EPERM):
            user = context.user.name
            yield Finding(
                "error",
                f"{user} may not open {name}",
                "the Edge TPU cannot be used; a udev rule assigns it to a group, log in again afterwards",
                _APEX_RULE.format(user=user),
            )
        elif _page_bytes(context) == _BIG_PAGE_BYTES:
            yield Finding(
                "error",
                f"{name} on a kernel with pages of 16 kB",
                "the Coral's driver and library need pages of 4 kB; the Pi 5 also has such a kernel",
                "echo kernel=kernel8.img | sudo tee -a /boot/firmware/config.txt && sudo reboot",
            )
        else:
            yield Finding("ok", f"{name} may be opened", "--backend edgetpu uses it")


def _no_driver(context: Context) -> Finding:
    modules = context.system.paths("/lib/modules/*/**/apex.ko*")
    what = "there is a Coral card on PCI Express, but no /dev/apex_0"
    if modules:
        return Finding(
            "error",
            what,
            "its driver is installed, but not loaded",
            "sudo modprobe apex && ls /dev/apex_0",
        )
    return Finding(
        "error",
        what,
        "its driver is not part of Linux; the packaged gasket-dkms is older than current kernels, so it "
        "is built from source",
        "sudo apt-get install -y git dkms devscripts dh-dkms && git clone "
        "https://github.com/google/gasket-driver && cd gasket-driver && debuild -us -uc -tc -b && "
        "sudo dpkg -i ../gasket-dkms_*.deb",
    )


def _accelerators(context: Context) -> list[Accelerator]:
    found = []
    for path in context.system.paths("/sys/bus/usb/devices/*/idVendor"):
        folder = f"/{path.parent.relative_to(context.system.root)}"
        ids = tuple(context.system.text(f"{folder}/{file}") for file in ("idVendor", "idProduct"))
        if ids in _USB:
            numbers = [
                int(context.system.number(f"{folder}/{f}") or 0) for f in ("busnum", "devnum")
            ]
            device = context.system.path("/dev/bus/usb/{:03}/{:03}".format(*numbers))
            found.append(Accelerator(folder, device, context.system.number(f"{folder}/speed")))
    return found


def _cards(context: Context) -> list[str]:
    folders = [
        f"/{path.parent.relative_to(context.system.root)}"
        for path in context.system.paths("/sys/bus/pci/devices/*/vendor")
    ]
    return [
        folder
        for folder in folders
        if tuple(context.system.text(f"{folder}/{file}") for file in ("vendor", "device")) == _PCI
    ]


def _package(context: Context) -> str | None:
    """The version of Debian's package, such as ``16.0tf2.19.1-1.bookworm``."""
    query = ("dpkg-query", "-W", "-f", "${Version}\n", "libedgetpu1*")
    lines = (context.system.output(query) or "").split()
    return lines[0] if lines else None


def _page_bytes(context: Context) -> float | None:
    size = context.system.output(("getconf", "PAGESIZE"))
    return float(size) if size and size.isdecimal() else None
