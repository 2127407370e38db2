"""Checks of cameras: the Raspberry Pi's own, webcams, permissions, and programs that use them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_sdk.device.doctor.context import Context, Finding
from edge_sdk.machine.board import board_name, container

_DEVICES = ("/dev/video[0-9]*", "/dev/media[0-9]*")
# libcamera allocates its buffers here.
_PI_DEVICES = ("/dev/dma_heap/*",)
# Drivers of the Pi's camera, image processor and codecs, whose devices look like webcams.
_NOT_WEBCAMS = ("unicam", "rp1-cfe", "bcm2835-", "pispbe", "pisp", "rpi-hevc", "rpivid")


class Holder(NamedTuple):
    """A process that has a device open."""

    pid: int
    name: str
    command: str
    device: str


def permission(context: Context) -> Iterator[Finding]:
    """Whether this user may open the camera devices."""
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
            + (", by root, who has all permissions" if context.user.is_root else ""),
            "cameras are read from them",
        )


def group_remedy(context: Context, group: str, device: str) -> tuple[str, str]:
    """Why this user may not open a device of a group, and the command that fixes it."""
    user = context.user.name
    for line in (context.system.text("/etc/group") or "").splitlines():
        name, _, rest = line.partition(":")
        if name == group and user in rest.rpartition(":")[2].split(","):
            if group not in context.user.groups:
                late = f"{user} was added to the group {group} after this login"
                return (
                    f"{late}; it takes effect at the next login, or in a shell that newgrp starts",
                    f"newgrp {group}",
                )
            why = f"{user} is in the group {group}, but the device does not belong to that group"
            return (
                f"{why}; the command changes that until the next boot",
                f"sudo chgrp {group} {device} && sudo chmod g+rw {device}",
            )
    if container(context.system):
        return f"the container was started without the group {group}", (
            f"{_runtime(context)} run --group-add {group} "
            f"--device {'/dev/video0' if group == 'video' else '/dev/bus/usb'} ..."
        )
    return f"{user} is not in the group {group}; log in again afterwards", (
        f"sudo usermod -aG {group} {user}"
    )


def busy(context: Context) -> Iterator[Finding]:
    """Whether another program uses a camera; root sees all programs, others their own."""
    found = [holder for holder in _holders(context) if holder.pid != os.getpid()]
    ours = [holder for holder in found if "edgecls" in holder.command]
    others = [holder for holder in found if "edgecls" not in holder.command]
    if others:
        first = others[0]
        yield Finding(
            "warning",
            f"{first.device} is in use by {first.name} (process {first.pid})",
            "a camera serves one program at a time: edgecls cannot open it",
            f"kill {first.pid}",
        )
    elif ours:
        yield Finding(
            "ok",
            f"{ours[0].device} is in use by edgecls (process {ours[0].pid})",
            "a second program cannot open it",
        )


def _holders(context: Context) -> Iterator[Holder]:
    seen = set()
    for link in context.system.paths("/proc/[0-9]*/fd/[0-9]*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        pid = int(link.parts[-3])
        # PipeWire keeps /dev/media* open to detect cameras; other programs can still open them.
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
    """The webcams of this machine."""
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
            "a container sees only the devices it is started with",
            f"{_runtime(context)} run --device /dev/video0 --group-add video ...",
        )
    elif not is_pi(context):
        yield Finding(
            "note",
            "there is no camera (no /dev/video0)",
            "edgecls run MODEL --camera needs one; pictures, videos and network cameras do not",
            "lsusb",
        )


def _runtime(context: Context) -> str:
    return "podman" if container(context.system) == "podman" else "docker"


def _name(context: Context, path: Path) -> str:
    return f"/{path.relative_to(context.system.root)}"


_APT_PACKAGES = "/usr/lib/python3/dist-packages"
_INSTALL = "sudo apt install -y python3-picamera2 --no-install-recommends"
_WHY = "it reads the camera on the Pi's own connector"


def is_pi(context: Context) -> bool:
    """Whether the board's name is that of a Raspberry Pi."""
    return (board_name(context.system) or "").startswith("Raspberry Pi")


def picamera2(context: Context) -> Iterator[Finding]:
    """Whether picamera2 loads in this environment."""
    loaded = context.load("picamera2")
    if loaded.problem is None:
        version = context.distribution("picamera2") or loaded.version
        yield Finding("ok", f"picamera2{f' {version}' if version else ''} loads", _WHY)
        return
    visible = _system_packages_visible(context)
    builds = [
        path.name for path in context.system.paths(f"{_APT_PACKAGES}/libcamera/_libcamera.*.so")
    ]
    nothing_there = loaded.missing == "picamera2" and not builds
    if nothing_there and not is_pi(context):
        return
    if loaded.missing in ("picamera2", "libcamera") and builds and not visible:
        yield _not_visible(context)
    elif loaded.missing is not None and not builds:
        yield Finding(
            "warning",
            "picamera2 and libcamera are not installed"
            if nothing_there
            else f"picamera2 is installed, {loaded.missing} is not",
            f"{_WHY}; install both with apt, the only source of libcamera. A webcam needs neither",
            _INSTALL,
        )
    elif builds and not _built_for(context, builds):
        ours = ".".join(str(number) for number in context.python.version[:2])
        built = ", ".join(sorted(_pythons(builds)))
        yield Finding(
            "warning",
            f"apt's libcamera is built for Python {built}, this environment has Python {ours}",
            f"{_WHY}; create the environment with the system's own Python",
            "/usr/bin/python3 -m venv --system-site-packages ~/edgecls",
        )
    elif re.search(r"numpy\.dtype size changed|multiarray|_ARRAY_API", loaded.problem):
        yield Finding(
            "warning",
            f"picamera2 does not load: {loaded.problem}",
            f"{_WHY}; apt's simplejpeg is built for numpy 1, and this environment has numpy "
            f"{context.distribution('numpy') or '2'}",
            context.pip("install 'edgecls[pi]'"),
        )
    else:
        yield Finding(
            "warning",
            f"picamera2 does not load: {loaded.problem}",
            f"{_WHY}; a package that it needs is missing or damaged",
            "sudo apt install -y --reinstall python3-picamera2 python3-libcamera "
            "--no-install-recommends",
        )


def _not_visible(context: Context) -> Finding:
    file = context.python.prefix / "pyvenv.cfg"
    return Finding(
        "warning",
        "apt's libcamera is installed, but not visible in this virtual environment",
        f"{_WHY}; an environment uses the system's packages only if its pyvenv.cfg allows it",
        f"sed -i 's/^include-system-site-packages.*/include-system-site-packages = true/' {file}",
    )


def _system_packages_visible(context: Context) -> bool:
    """Whether this Python imports the system's packages."""
    if not context.python.is_environment:
        return True
    config = context.system.text(str(context.python.prefix / "pyvenv.cfg")) or ""
    return bool(re.search(r"(?im)^include-system-site-packages\s*=\s*true\s*$", config))


def _built_for(context: Context, builds: list[str]) -> bool:
    major, minor, _ = context.python.version
    return f"{major}.{minor}" in _pythons(builds)


def _pythons(builds: list[str]) -> set[str]:
    """Python versions of the builds: ``_libcamera.cpython-313-aarch64-linux-gnu.so`` is for 3.13."""
    tags = (re.search(r"cpython-(\d)(\d+)", name) for name in builds)
    return {f"{tag[1]}.{tag[2]}" for tag in tags if tag}


def connected(context: Context) -> Iterator[Finding]:
    """Whether libcamera finds a camera, on a Pi with rpicam-hello."""
    if not is_pi(context):
        return
    listed = context.system.output(("rpicam-hello", "--list-cameras"))
    if listed is None:
        return
    cameras = re.findall(r"(?m)^\s*\d+ : (\S+)", listed)
    if cameras:
        yield Finding("ok", f"Pi cameras: {', '.join(cameras)}", "libcamera finds them")
    else:
        yield Finding(
            "note",
            "libcamera finds no camera",
            "a camera on the Pi's connector would be listed: power the Pi off and reseat both ends of "
            "the cable. A webcam is not listed here",
            "rpicam-hello --list-cameras",
        )
