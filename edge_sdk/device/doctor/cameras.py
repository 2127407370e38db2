"""Camera devices: may they be opened, who has them, which webcams are there."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_sdk.device.doctor.context import Context
from edge_sdk.doctor.findings import Finding
from edge_sdk.doctor.picamera import is_pi
from edge_sdk.machine.emulation import container

_DEVICES = ("/dev/video[0-9]*", "/dev/media[0-9]*")
# libcamera takes its buffers from here.
_PI_DEVICES = ("/dev/dma_heap/*",)
# The parts of a Pi's camera, image processor and codecs that look like webcams.
_NOT_WEBCAMS = ("unicam", "rp1-cfe", "bcm2835-", "pispbe", "pisp", "rpi-hevc", "rpivid")


class Holder(NamedTuple):
    """A process that has a device open."""

    pid: int
    name: str
    command: str
    device: str


def permission(context: Context) -> Iterator[Finding]:
    """Whether this user may open the camera devices there are."""
    patterns = (*_DEVICES, *(_PI_DEVICES if is_pi(context) else ()))
    devices = [path for pattern in patterns for path in context.system.paths(pattern)]
    forbidden = [
        path for path in devices if context.open_device(path) in (errno.EACCES, errno.EPERM)
    ]
    if forbidden:
        names = ", ".join(_name(context, path) for path in forbidden[:3])
        more = f" and {len(forbidden) - 3} more" if len(forbidden) > 3 else ""
        why, fix = group_remedy(context, "video", _name(context, forbidden[0]))
        yield Finding(
            "error",
            f"{context.user.name} may not open {names}{more}",
            f"the camera cannot be read; {why}",
            fix,
        )
    elif devices:
        yield Finding(
            "ok",
            f"all {len(devices)} camera devices may be opened"
            + (", by root, who may everything" if context.user.is_root else ""),
            "cameras are read from them",
        )


def group_remedy(context: Context, group: str, device: str) -> tuple[str, str]:
    """Why a device of a group is closed to this user, and the command that opens it."""
    user = context.user.name
    for line in (context.system.text("/etc/group") or "").splitlines():
        name, _, rest = line.partition(":")
        if name == group and user in rest.rpartition(":")[2].split(","):
            if group not in context.user.groups:
                late = f"{user} was added to the group {group} after this login began"
                return (
                    f"{late}; it counts from the next one, or in a shell that newgrp starts",
                    f"newgrp {group}",
                )
            why = f"{user} is in the group {group}, but the device is not that group's"
            return (
                f"{why}; until the next start of the machine this makes it so",
                f"sudo chgrp {group} {device} && sudo chmod g+rw {device}",
            )
    if container(context.system):
        return f"a container needs the group {group} from whoever starts it", (
            f"{_starter(context)} run --group-add {group} "
            f"--device {'/dev/video0' if group == 'video' else '/dev/bus/usb'} ..."
        )
    return f"{user} is not in the group {group}; log in again afterwards", (
        f"sudo usermod -aG {group} {user}"
    )


def busy(context: Context) -> Iterator[Finding]:
    """Whether another program has a camera; root sees all programs, others their own."""
    found = [holder for holder in _holders(context) if holder.pid != os.getpid()]
    ours = [holder for holder in found if "edgecls" in holder.command]
    others = [holder for holder in found if "edgecls" not in holder.command]
    if others:
        first = others[0]
        yield Finding(
            "warning",
            f"{first.device} is in use by {first.name} (process {first.pid})",
            "a camera serves one program at a time: edgecls will find it busy",
            f"kill {first.pid}",
        )
    elif ours:
        yield Finding(
            "ok",
            f"{ours[0].device} is in use by edgecls (process {ours[0].pid})",
            "that is its camera; a second program will find it busy",
        )


def _holders(context: Context) -> Iterator[Holder]:
    seen = set()
    for link in context.system.paths("/proc/[0-9]*/fd/[0-9]*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        pid = int(link.parts[-3])
        # PipeWire keeps /dev/media* open to see cameras come and go; that disturbs nobody.
        if re.fullmatch(r"/dev/video\d+", target) and pid not in seen:
            seen.add(pid)
            command = (_raw(context, f"/proc/{pid}/cmdline") or "").strip()
            name = context.system.text(f"/proc/{pid}/comm") or "a program"
            yield Holder(pid, name, command, target)


def _raw(context: Context, path: str) -> str | None:
    try:
        return context.system.path(path).read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None


def webcams(context: Context) -> Iterator[Finding]:
    """Which webcams there are."""
    found, there = [], context.system.paths("/dev/video[0-9]*")
    for path in there:
        card = context.system.text(f"/sys/class/video4linux/{path.name}/name") or ""
        if not card.startswith(_NOT_WEBCAMS):
            found.append(f"{card or 'a camera'} ({_name(context, path)})")
    if found:
        yield Finding("ok", f"webcams: {', '.join(found)}", "--camera webcam opens the first")
    elif not there and container(context.system):
        yield Finding(
            "note",
            "there is no camera in this container",
            "a container sees the devices that it is given, and no others",
            f"{_starter(context)} run --device /dev/video0 --group-add video ...",
        )
    elif not is_pi(context):
        yield Finding(
            "note",
            "there is no camera (no /dev/video0)",
            "edgecls run MODEL --camera needs one; pictures, videos and network cameras do not",
            "lsusb",
        )


def _starter(context: Context) -> str:
    return "podman" if container(context.system) == "podman" else "docker"


def _name(context: Context, path: Path) -> str:
    return f"/{path.relative_to(context.system.root)}"
