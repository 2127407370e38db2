"""Clocks, temperature, throttling and energy of the processor."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from edge_sdk.machine.board import System, board_name, one_line

_CPUS = "/sys/devices/system/cpu"
# A higher value is not a clock: the file has another meaning.
_MOST_MHZ = 20_000.0


class Clocks(NamedTuple):
    """Clocks in MHz, None if unknown.

    Attributes:
        now: of the fastest core, which has the highest load.
        most: hardware maximum of the fastest core.
        allowed: maximum of the fastest core allowed by the kernel's settings.
    """

    now: float | None
    most: float | None
    allowed: float | None


def read_clocks(system: System) -> Clocks:
    """The current clocks."""
    return Clocks(
        clock_now(system),
        _fastest(system, "cpuinfo_max_freq"),
        _fastest(system, "scaling_max_freq"),
    )


def clock_now(system: System) -> float | None:
    """The current clock of the fastest core, in MHz.

    A Raspberry Pi's firmware throttles the cores without notifying the kernel, whose file keeps the
    requested clock; there the firmware's measurement is used.
    """
    measured = system.output(("vcgencmd", "measure_clock", "arm"))
    if match := re.fullmatch(r"frequency\(\d+\)=(\d+)", (measured or "").strip(), re.ASCII):
        mhz = int(match[1][:15]) / 1e6
        if 0 < mhz <= _MOST_MHZ:
            return mhz
    kernel = _fastest(system, "scaling_cur_freq")
    if kernel is not None:
        return kernel
    found = re.findall(
        r"^cpu MHz\s*:\s*(\d{1,6}(?:\.\d+)?)\s*$", system.text("/proc/cpuinfo") or "", re.M | re.A
    )
    clocks = [float(mhz) for mhz in found]
    return max((mhz for mhz in clocks if 0 < mhz <= _MOST_MHZ), default=None)


def read_governor(system: System) -> str | None:
    """The kernel's governor, as ``ondemand``; several if cores differ."""
    return _names(system, "scaling_governor")


def read_driver(system: System) -> str | None:
    """The driver that sets clocks: ``cpufreq-dt``, ``intel_pstate``, ….

    With most drivers ``powersave`` means the lowest clock; with ``intel_pstate`` and
    ``amd-pstate-epp`` the clock follows the load.
    """
    return _names(system, "scaling_driver")


def _names(system: System, file: str) -> str | None:
    names = (one_line(system.text(name)) for name in _files(system, file))
    return ", ".join(dict.fromkeys(name for name in names if name)) or None


def _fastest(system: System, file: str) -> float | None:
    clocks = []
    for name in _files(system, file):
        khz = system.number(name)
        if khz is not None and 0 < khz / 1000 <= _MOST_MHZ:
            clocks.append(khz / 1000)
    return max(clocks, default=None)


def _files(system: System, file: str) -> list[str]:
    return system.names(f"{_CPUS}/cpu[0-9]*/cpufreq/{file}")


_ZONES = "/sys/class/thermal/thermal_zone[0-9]*"
# Names of processor zones; others are batteries, radios and disks.
_PROCESSOR = re.compile(r"cpu|soc|x86_pkg|package|acpitz|bcm", re.IGNORECASE)
_HWMON = {"coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal"}
# "As the device approaches 80-85 °C the firmware throttles the Arm cores": the Raspberry Pi's
# documentation, on frequency management and thermal control. Its device tree has no such trip point.
_RASPBERRY_PI_C = 80.0
_COLDEST_C, _HOTTEST_C = -60.0, 150.0  # values beyond are not temperatures


class Heat(NamedTuple):
    """Degrees Celsius, None if unknown.

    Attributes:
        now: of the warmest sensor of the processor.
        limit: where throttling starts.
    """

    now: float | None
    limit: float | None


def read_heat(system: System) -> Heat:
    """The temperature of the processor, and its limit."""
    return Heat(temperature(system), limit(system))


def temperature(system: System) -> float | None:
    """The temperature of the warmest sensor of the processor, in °C."""
    zones = [
        _degrees(system, f"{zone}/temp")
        for zone in system.names(_ZONES)
        if _PROCESSOR.search(system.text(f"{zone}/type") or "")
    ]
    sensors = [
        _degrees(system, sensor)
        for chip in system.names("/sys/class/hwmon/hwmon[0-9]*")
        if system.text(f"{chip}/name") in _HWMON
        for sensor in system.names(f"{chip}/temp[0-9]*_input")
    ]
    known = [celsius for celsius in (*zones, *sensors) if celsius is not None]
    if known:
        return max(known)
    match = re.fullmatch(
        r"temp=(\d{1,3}(?:\.\d+)?)'C", system.output(("vcgencmd", "measure_temp")) or "", re.ASCII
    )
    return float(match[1]) if match else None


def limit(system: System) -> float | None:
    """The temperature where throttling starts, in °C: the kernel's lowest passive trip point.

    Trip points at or below 0 are disabled. On a Raspberry Pi the firmware's limit counts, too.
    """
    trips = []
    for zone in system.names(_ZONES):
        if not _PROCESSOR.search(system.text(f"{zone}/type") or ""):
            continue
        for kind in system.names(f"{zone}/trip_point_[0-9]*_type"):
            if system.text(kind) in ("passive", "hot"):
                celsius = _degrees(system, kind.removesuffix("_type") + "_temp")
                trips += [celsius] if celsius is not None and celsius > 0 else []
    if "Raspberry Pi" in (board_name(system) or ""):
        trips.append(_RASPBERRY_PI_C)
    return min(trips, default=None)


def _degrees(system: System, file: str) -> float | None:
    thousandths = system.number(file)
    if thousandths is None or not _COLDEST_C <= thousandths / 1000 <= _HOTTEST_C:
        return None
    return thousandths / 1000


# Bits of `vcgencmd get_throttled`, by the Raspberry Pi's documentation: the current state, and 16 bits
# higher whether it occurred since boot.
THROTTLE_BITS = (
    (0, "under-voltage"),
    (1, "arm frequency capped"),
    (2, "throttled"),
    (3, "soft temperature limit"),
)
_SINCE_BOOT = 16
_FIRMWARE_FILES = (
    "/sys/devices/platform/soc/soc:firmware/get_throttled",
    "/sys/class/hwmon/hwmon0/device/get_throttled",
)


@dataclass(frozen=True, slots=True)
class Throttling:
    """Throttling reported by the firmware of a Raspberry Pi.

    Attributes:
        bits: the firmware's value.
        now: current states, by the names of ``THROTTLE_BITS``.
        since_boot: states that occurred since boot.
    """

    bits: int
    now: tuple[str, ...]
    since_boot: tuple[str, ...]

    @classmethod
    def decode(cls, bits: int) -> Throttling:
        """Decodes the output of ``vcgencmd get_throttled``; ignores unknown bits."""
        return cls(
            bits,
            tuple(name for bit, name in THROTTLE_BITS if bits >> bit & 1),
            tuple(name for bit, name in THROTTLE_BITS if bits >> (bit + _SINCE_BOOT) & 1),
        )

    def to_plain(self) -> dict[str, Any]:
        """The bits in hexadecimal, as ``vcgencmd`` prints them."""
        return {
            "bits": f"{self.bits:#x}",
            "now": list(self.now),
            "since_boot": list(self.since_boot),
        }

    @classmethod
    def from_plain(cls, content: object) -> Throttling:
        """The inverse of ``to_plain``.

        Raises:
            KeyError: it has no bits.
            TypeError: it is not an object.
            ValueError: they are not a hexadecimal number.
        """
        if not isinstance(content, dict):
            raise TypeError(f"got {content!r:.60}, expected an object with bits")
        return cls.decode(int(str(content["bits"]), 16))


def read_throttling(system: System) -> Throttling | None:
    """Throttling from the firmware; None on a machine other than a Raspberry Pi."""
    output = system.output(("vcgencmd", "get_throttled"))
    match = re.fullmatch(r"throttled=(?:0x)?([0-9a-fA-F]{1,8})", (output or "").strip())
    if match:
        return Throttling.decode(int(match[1], 16))
    for file in _FIRMWARE_FILES:
        if re.fullmatch(r"(?:0x)?[0-9a-fA-F]{1,8}", text := system.text(file) or ""):
            return Throttling.decode(int(text, 16))
    return None


def read_undervoltage(system: System) -> bool | None:
    """Whether the kernel's sensor reports under-voltage; None without that sensor.

    ``rpi_volt`` (Linux, drivers/hwmon/raspberrypi-hwmon.c) polls the firmware every two seconds.
    """
    alarms = []
    for chip in system.names("/sys/class/hwmon/hwmon[0-9]*"):
        if system.text(f"{chip}/name") == "rpi_volt":
            alarm = system.number(f"{chip}/in0_lcrit_alarm")
            alarms += [] if alarm is None else [alarm != 0]
    return any(alarms) if alarms else None


def read_throttle_count(system: System) -> int | None:
    """How often the cores of an x86 machine were throttled by heat since boot."""
    counts = [
        system.number(file)
        for file in system.names(
            "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count"
        )
    ]
    known = [int(count) for count in counts if count is not None and count >= 0]
    return sum(known) if known else None


# Linux, power/powercap: RAPL of Intel and AMD; most kernels let only root read it (CVE-2020-8694).
_ENERGY_ZONES = "/sys/class/powercap/intel-rapl:*"
_MICRO = 1e-6


class EnergyCounter:
    """Accumulates one energy counter, which wraps around.

    Args:
        system: the machine.
        zone: the counter's folder.

    Attributes:
        name: of the folder and of the counted part, as ``intel-rapl:0 package-0``.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, system: System, zone: str) -> None:
        self._system, self._zone = system, zone
        self.name = f"{zone.rsplit('/', 1)[-1]} {system.text(f'{zone}/name') or ''}".rstrip()
        self._range = system.number(f"{zone}/max_energy_range_uj") or 0.0
        self._joules = 0.0
        self._last = self._read()

    def joules(self) -> float:
        """Energy in J since the counter was opened; read it at least once a minute, as it wraps around.

        Raises:
            OSError: it can no longer be read.
        """
        now = self._read()
        since = now - self._last
        self._joules += (since if since >= 0 else since + self._range) * _MICRO
        self._last = now
        return self._joules

    def _read(self) -> float:
        value = self._system.number(f"{self._zone}/energy_uj")
        if value is None:
            raise OSError(f"{self._zone}/energy_uj cannot be read")
        return value


def open_energy(system: System) -> tuple[EnergyCounter | None, str]:
    """The counter of the first processor package, or None and the reason."""
    zones = [f"/{path.relative_to(system.root)}" for path in system.paths(_ENERGY_ZONES)]
    packages = [z for z in zones if (system.text(f"{z}/name") or "").startswith("package")]
    if not packages:
        return None, "this machine has no energy counter (no /sys/class/powercap)"
    try:
        return EnergyCounter(system, packages[0]), ""
    except OSError:
        return None, (
            f"this user may not read the energy counter {packages[0]}/energy_uj; run as root, or type: "
            "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
        )
