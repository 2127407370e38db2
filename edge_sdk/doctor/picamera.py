"""The Raspberry Pi's own camera: picamera2 and libcamera, which come from apt."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge_sdk.device.doctor.context import Context
from edge_sdk.doctor.findings import Finding
from edge_sdk.machine.board import board_name

_APT_PACKAGES = "/usr/lib/python3/dist-packages"
_INSTALL = "sudo apt install -y python3-picamera2 --no-install-recommends"
_WHY = "the camera on the Pi's own connector is read with it"


def is_pi(context: Context) -> bool:
    """Whether the board calls itself a Raspberry Pi."""
    return (board_name(context.system) or "").startswith("Raspberry Pi")


def picamera2(context: Context) -> Iterator[Finding]:
    """Whether picamera2 loads in this environment."""
    loaded = context.load("picamera2")
    if loaded.problem is None:
        version = context.distribution("picamera2") or loaded.version
        yield Finding("ok", f"picamera2{f' {version}' if version else ''} loads", _WHY)
        return
    seen = _seen_from_here(context)
    builds = [
        path.name for path in context.system.paths(f"{_APT_PACKAGES}/libcamera/_libcamera.*.so")
    ]
    nothing_there = loaded.missing == "picamera2" and not builds
    if nothing_there and not is_pi(context):
        return
    if loaded.missing in ("picamera2", "libcamera") and builds and not seen:
        yield _not_seen(context)
    elif loaded.missing is not None and not builds:
        yield Finding(
            "warning",
            "picamera2 and libcamera are not installed"
            if nothing_there
            else f"picamera2 is installed, {loaded.missing} is not",
            f"{_WHY}; they come from apt, libcamera from nowhere else. A webcam needs neither",
            _INSTALL,
        )
    elif builds and not _built_for(context, builds):
        ours = ".".join(str(number) for number in context.python.version[:2])
        built = ", ".join(sorted(_pythons(builds)))
        yield Finding(
            "warning",
            f"apt's libcamera is built for Python {built}, this environment has Python {ours}",
            f"{_WHY}; make the environment with the system's own Python",
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


def _not_seen(context: Context) -> Finding:
    file = context.python.prefix / "pyvenv.cfg"
    return Finding(
        "warning",
        "apt's libcamera is installed, and this virtual environment does not see it",
        f"{_WHY}; an environment sees the system's packages only where its pyvenv.cfg says so",
        f"sed -i 's/^include-system-site-packages.*/include-system-site-packages = true/' {file}",
    )


def _seen_from_here(context: Context) -> bool:
    """Whether this Python looks into the system's packages."""
    if not context.python.is_environment:
        return True
    config = context.system.text(str(context.python.prefix / "pyvenv.cfg")) or ""
    return bool(re.search(r"(?im)^include-system-site-packages\s*=\s*true\s*$", config))


def _built_for(context: Context, builds: list[str]) -> bool:
    major, minor, _ = context.python.version
    return f"{major}.{minor}" in _pythons(builds)


def _pythons(builds: list[str]) -> set[str]:
    """``_libcamera.cpython-313-aarch64-linux-gnu.so`` is of Python 3.13."""
    tags = (re.search(r"cpython-(\d)(\d+)", name) for name in builds)
    return {f"{tag[1]}.{tag[2]}" for tag in tags if tag}


def connected(context: Context) -> Iterator[Finding]:
    """Whether libcamera finds a camera, on a Pi where it has the program to ask."""
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
            "a camera on the Pi's connector would be listed: switch the Pi off and seat both ends of its "
            "cable. A webcam is not listed here",
            "rpicam-hello --list-cameras",
        )
