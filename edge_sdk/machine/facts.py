"""``read_machine``: the facts about the machine that a report records."""

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

# Distributions of interpreters, numpy, and packages that decode and resize pictures.
_DISTRIBUTIONS = (
    *("edgecls", "ai-edge-litert", "tflite-runtime", "onnxruntime", "numpy"),
    *("opencv-python-headless", "opencv-python", "opencv-contrib-python", "picamera2"),
)
# libedgetpu is a system library.
_SYSTEM_PACKAGES = ("libedgetpu1-std", "libedgetpu1-max")
# Two machines with different values of these are not comparable in latency.
_IDENTITY = (
    *("board", "cpu", "cores", "architecture", "clock_max_mhz", "emulated", "virtualised"),
    "quota_cores",
)


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts about a machine; None, or empty, if unknown.

    Attributes:
        board: model by device tree or firmware.
        cpu: model of the processor.
        cores: online.
        usable_cores: that this process may use.
        architecture: of this process, such as ``aarch64``.
        governor, driver: the kernel's governor and driver of processor clocks.
        clock_mhz, clock_max_mhz, clock_allowed_mhz: of the fastest core: current, hardware maximum,
            and maximum allowed by the kernel's settings.
        temperature_c, temperature_limit_c: of the processor, and where throttling starts.
        throttling: by the firmware of a Raspberry Pi.
        undervoltage: by the kernel's sensor.
        memory_mb, memory_available_mb, swap_mb, swap_used_mb: in 10⁶ bytes.
        load: runnable tasks, averaged over 1, 5 and 15 minutes.
        packages: name and version of the installed runtimes and delegates.
        emulated: the emulator, as ``qemu-aarch64``: latencies are then meaningless for a board.
        virtualised, container: the hypervisor, and the container.
        kernel, os, python: versions.
        quota_cores: average number of cores allowed by the CPU quota of a container or slice.
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
        """Differences that make latencies incomparable, as ``cores 2 against 4``; empty if none.

        Versions, kernel and load are not included: comparing those is a purpose of benchmarks.
        """
        return tuple(
            f"{name.replace('_', ' ')} {_shown(mine)} against {_shown(theirs)}"
            for name in _IDENTITY
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        )


def installed_version(distribution: str) -> str | None:
    """The version of an installed Python package; None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def read_machine(
    system: System | None = None, *, version: Callable[[str], str | None] = installed_version
) -> Machine:
    """Reads all facts; never raises for a missing or invalid file.

    Args:
        system: the machine; this one by default.
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
        output = system.output(("dpkg-query", "--show", "--showformat=${Version}", name))
        found.append((name, (output or "").strip()[:64] or None))
    return [(name, known) for name, known in found if known]


def _shown(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)
