"""The machine and its Python: whether there are wheels for them."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.device.doctor.context import Context
from edge_sdk.doctor.findings import Finding
from edge_sdk.machine.board import board_name, core_count, operating_system
from edge_sdk.machine.emulation import container, emulator

# As python_requires in setup.cfg; on older ones this program does not start.
_NEWEST = (3, 13)
# What numpy's and OpenCV's wheels ask for (manylinux_2_28), LiteRT's for 2.27.
_GLIBC = (2, 28)
_ARM_64 = ("aarch64", "arm64")
_64_BIT_SYSTEM = "sudo apt install -y rpi-imager && rpi-imager"
_CONTAINER = "docker run --rm -it python:3.13-slim bash"


def board(context: Context) -> Iterator[Finding]:
    """What the machine is called."""
    system = context.system
    names = (
        board_name(system) or f"a board without a name ({context.python.machine})",
        f"{core_count(system)} {'core' if core_count(system) == 1 else 'cores'}",
        operating_system(system) or "an unnamed system",
    )
    inside = container(system)
    where = f", in a container ({inside})" if inside else ""
    yield Finding("ok", f"{', '.join(names)}{where}", "the machine that is looked at")


def version(context: Context) -> Iterator[Finding]:
    """Python's version."""
    python = context.python
    text = ".".join(str(number) for number in python.version)
    if python.version[:2] > _NEWEST:
        yield Finding(
            "warning",
            f"Python {text}, newer than {_dotted(_NEWEST)}",
            "nobody has tried edgecls with it, and LiteRT or OpenCV may have no wheel for it",
            f"python{_dotted(_NEWEST)} -m venv ~/edgecls",
        )
    else:
        libc = " ".join(python.libc).strip() or "an unknown C library"
        yield Finding(
            "ok",
            f"Python {text}, {python.bits}-bit, on {python.machine} with {libc}",
            "there are wheels for 3.11, 3.12 and 3.13",
        )


def wheels(context: Context) -> Iterator[Finding]:
    """32-bit systems, musl, an old C library: systems that few or no wheels are built for."""
    python = context.python
    name, number = python.libc
    if python.bits == 32:
        yield from _narrow(context)
    elif name == "musl":
        yield Finding(
            "error",
            "the system's C library is musl, as in Alpine Linux",
            "LiteRT has no wheels for it; use a system, or a container, of Debian or Ubuntu",
            _CONTAINER,
        )
    elif name == "glibc" and _numbers(number) < _GLIBC:
        yield Finding(
            "warning",
            f"glibc {number}, older than {_dotted(_GLIBC)}",
            "the wheels of numpy, OpenCV and LiteRT are built for Debian 10, Ubuntu 18.10 and later",
            _CONTAINER,
        )


def _narrow(context: Context) -> Iterator[Finding]:
    python = context.python
    kind = "a 32-bit Python on a 64-bit kernel" if python.machine in _ARM_64 else "a 32-bit system"
    if python.machine in (*_ARM_64, "armv7l", "armv8l") and python.version[:2] == (3, 11):
        pip_sees = (
            " pip takes it for 64-bit and looks for LiteRT in vain."
            if python.machine in _ARM_64
            else ""
        )
        yield Finding(
            "warning",
            f"{kind} ({python.machine})",
            "LiteRT has no 32-bit wheels: tflite-runtime 2.14 with numpy 1 runs here, much slower "
            f"in int8, and is the last one.{pip_sees} Best is the 64-bit system, which runs on "
            "Raspberry Pi 3, 4, 5 and Zero 2",
            context.pip(
                "install 'tflite-runtime>=2.14,<3' 'numpy<2' 'opencv-python-headless<4.12'"
            ),
        )
    else:
        yield Finding(
            "error",
            f"{kind} ({python.machine}), Python {_dotted(python.version[:2])}",
            "no interpreter of TensorFlow Lite has a wheel for it; write the 64-bit Raspberry Pi OS to "
            "the card (Raspberry Pi 3, 4, 5 and Zero 2 run it; older ones cannot)",
            _64_BIT_SYSTEM,
        )


def environment(context: Context) -> Iterator[Finding]:
    """A Python that belongs to the distribution, which forbids pip."""
    python = context.python
    marker = python.standard_library / "EXTERNALLY-MANAGED"
    if not python.is_environment and context.system.text(str(marker)) is not None:
        yield Finding(
            "note",
            "edgecls runs in the system's own Python, not in a virtual environment",
            "pip refuses to install there (externally-managed-environment), and what is forced in can "
            "break the system's programs",
            "python3 -m venv --system-site-packages ~/edgecls",
        )
    elif python.is_environment:
        yield Finding("ok", f"virtual environment {python.prefix}", "packages are kept in it")


def emulation(context: Context) -> Iterator[Finding]:
    """Instructions that are translated."""
    name = emulator(context.system, context.python.machine)
    if name:
        yield Finding(
            "note",
            f"this machine is emulated ({name})",
            "answers are as on the real one; times mean nothing",
        )


def _dotted(version_: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version_)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())
