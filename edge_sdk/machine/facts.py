"""``read_machine``: everything a report says about the machine it was made on."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from edge_sdk.machine import board
from edge_sdk.machine.board import System, board_name, core_count, cpu_name, operating_system
from edge_sdk.machine.load import read_load_average, read_memory, read_quota
from edge_sdk.machine.power import (
    Throttling,
    read_clocks,
    read_driver,
    read_governor,
    read_heat,
    read_throttling,
    read_undervoltage,
)
from edge_sdk.systems import usable_cores

# Interpreters, what they compute with, and what decodes and resizes pictures, by distribution.
_DISTRIBUTIONS = (
    *("edgecls", "ai-edge-litert", "tflite-runtime", "onnxruntime", "numpy"),
    *("opencv-python-headless", "opencv-python", "opencv-contrib-python", "picamera2"),
)
# libedgetpu is a system library.
_SYSTEM_PACKAGES = ("libedgetpu1-std", "libedgetpu1-max")
# Facts that make two machines different ones for a comparison of latencies.
_IDENTITY = (
    *("board", "cpu", "cores", "architecture", "clock_max_mhz", "emulated", "virtualised"),
    "quota_cores",
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine says about itself; None, or empty, where it does not say.

    Attributes:
        board: model by device tree or firmware.
        cpu: model of the processor.
        cores: switched on.
        usable_cores: that this process may use.
        architecture: of this process, such as ``aarch64``.
        governor, driver: what picks the clocks, and what sets them.
        clock_mhz, clock_max_mhz, clock_allowed_mhz: of the fastest core: now, at its best, and as
            far as a limit that somebody has set lets it go.
        temperature_c, temperature_limit_c: of the processor, and from where it is slowed down.
        throttling: by the firmware of a Raspberry Pi.
        undervoltage: by the kernel's sensor.
        memory_mb, memory_available_mb, swap_mb, swap_used_mb: in 10⁶ bytes.
        load: tasks that run or wait to, averaged over 1, 5 and 15 minutes.
        packages: name and version of the runtimes and delegates that are installed.
        emulated: by what, as ``qemu-aarch64``: its latencies say nothing about a board.
        virtualised, container: what it is a guest of, and in.
        kernel, os, python: versions.
        quota_cores: as many a container's or a slice's CPU quota allows on average.
    """

    board: str | None
    cpu: str | None
    cores: int
    usable_cores: int
    architecture: str
    governor: str | None
    driver: str | None
    clock_mhz: float | None
    clock_max_mhz: float | None
    clock_allowed_mhz: float | None
    temperature_c: float | None
    temperature_limit_c: float | None
    throttling: Throttling | None
    undervoltage: bool | None
    memory_mb: float | None
    memory_available_mb: float | None
    swap_mb: float | None
    swap_used_mb: float | None
    load: tuple[float, float, float] | None
    packages: dict[str, str]
    emulated: str | None
    virtualised: str | None
    container: str | None
    kernel: str
    os: str | None
    python: str
    quota_cores: float | None = None

    def differences(self, other: Machine) -> tuple[str, ...]:
        """What makes ``other`` another machine: ``cores 2 against 4``; empty where nothing does.

        Versions, kernel and load are no part of it: to compare them is what one measures for.
        """
        return tuple(
            f"{name.replace('_', ' ')} {_shown(mine)} against {_shown(theirs)}"
            for name in _IDENTITY
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        )


def installed_version(distribution: str) -> str | None:
    """The version of an installed Python package; None where there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def read_machine(
    system: System | None = None, *, version: Callable[[str], str | None] = installed_version
) -> Machine:
    """Reads all facts; never raises for a file that is missing or holds rubbish.

    Args:
        system: where to look; this machine by default.
        version: of an installed Python package, for tests.
    """
    system = system or System()
    clocks, heat, memory = read_clocks(system), read_heat(system), read_memory(system)
    load = read_load_average(system)
    architecture = platform.machine()
    cores = core_count(system)
    return Machine(
        board=board_name(system),
        cpu=cpu_name(system),
        cores=cores,
        usable_cores=min(cores, usable_cores()),
        architecture=architecture,
        governor=read_governor(system),
        driver=read_driver(system),
        clock_mhz=clocks.now,
        clock_max_mhz=clocks.most,
        clock_allowed_mhz=clocks.allowed,
        temperature_c=heat.now,
        temperature_limit_c=heat.limit,
        throttling=read_throttling(system),
        undervoltage=read_undervoltage(system),
        memory_mb=memory.total_mb,
        memory_available_mb=memory.available_mb,
        swap_mb=memory.swap_total_mb,
        swap_used_mb=memory.swap_used_mb,
        load=None if load is None else (load.one, load.five, load.fifteen),
        packages=dict(_packages(system, version)),
        emulated=board.emulator(system, architecture),
        virtualised=board.hypervisor(system),
        container=board.container(system),
        kernel=platform.release(),
        os=operating_system(system),
        python=platform.python_version(),
        quota_cores=read_quota(system).cores,
    )


def _packages(system: System, version: Callable[[str], str | None]) -> list[tuple[str, str]]:
    found = [(name, version(name)) for name in _DISTRIBUTIONS]
    for name in _SYSTEM_PACKAGES:
        told = system.output(("dpkg-query", "--show", "--showformat=${Version}", name))
        found.append((name, (told or "").strip()[:64] or None))
    return [(name, known) for name, known in found if known]


def _shown(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)
