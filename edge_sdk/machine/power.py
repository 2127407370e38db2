"""Clocks, heat, energy and power: how fast the processor runs, and what holds it back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from edge_sdk.machine.board import System, board_name, one_line

_CPUS = "/sys/devices/system/cpu"
# Whoever runs at more is no processor, but a file that does not say what we think.
_MOST_MHZ = 20_000.0


class Clocks(NamedTuple):
    """Clocks in MHz, None where the machine does not say.

    Attributes:
        now: of the fastest core, which is where the busiest work is.
        most: of the fastest core at its best, as the hardware says.
        allowed: of the fastest core, as far as a limit that somebody has set lets it go.
    """

    now: float | None
    most: float | None
    allowed: float | None


def read_clocks(system: System) -> Clocks:
    """The clocks at this moment."""
    return Clocks(
        clock_now(system),
        _fastest(system, "cpuinfo_max_freq"),
        _fastest(system, "scaling_max_freq"),
    )


def clock_now(system: System) -> float | None:
    """Of the fastest core, in MHz.

    A Raspberry Pi's firmware slows the cores without telling the kernel, whose file goes on saying
    what was asked for; there the firmware is asked, which measures.
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
    """The rule by which the kernel picks clocks, as ``ondemand``; several where cores differ."""
    return _names(system, "scaling_governor")


def read_driver(system: System) -> str | None:
    """The driver that sets clocks: ``cpufreq-dt``, ``intel_pstate``, ….

    It matters since ``powersave`` means the lowest clock with most, and with ``intel_pstate`` and
    ``amd-pstate-epp`` a clock that follows the load.
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
# Zones of processors as drivers call them; others are batteries, radios and disks.
_PROCESSOR = re.compile(r"cpu|soc|x86_pkg|package|acpitz|bcm", re.IGNORECASE)
_HWMON = {"coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal"}
# "As the device approaches 80-85 °C the firmware throttles the Arm cores": the Raspberry Pi's
# documentation, on frequency management and thermal control. Its device tree does not say so.
_RASPBERRY_PI_C = 80.0
_COLDEST_C, _HOTTEST_C = -60.0, 150.0  # beyond: no thermometer


class Heat(NamedTuple):
    """Degrees Celsius, None where the machine does not say.

    Attributes:
        now: of the warmest sensor of the processor.
        limit: from where the processor is slowed down.
    """

    now: float | None
    limit: float | None


def read_heat(system: System) -> Heat:
    """The temperature of the processor, and what it must stay below."""
    return Heat(temperature(system), limit(system))


def temperature(system: System) -> float | None:
    """Of the warmest sensor of the processor, in °C."""
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
    told = re.fullmatch(
        r"temp=(\d{1,3}(?:\.\d+)?)'C", system.output(("vcgencmd", "measure_temp")) or "", re.ASCII
    )
    return float(told[1]) if told else None


def limit(system: System) -> float | None:
    """From where the processor is slowed down, in °C: the kernel's lowest passive trip point.

    Trip points at or below 0 are switched off. The Raspberry Pi's firmware slows down on its own.
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


# Bits of `vcgencmd get_throttled`, by the Raspberry Pi's documentation: as it is now, and 16 bits
# further up whether it happened since the board was switched on.
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
    """What the firmware of a Raspberry Pi says about itself.

    Attributes:
        bits: as it says it.
        now: what holds at this moment, by the names of ``THROTTLE_BITS``.
        since_boot: what happened since the board was switched on.
    """

    bits: int
    now: tuple[str, ...]
    since_boot: tuple[str, ...]

    @classmethod
    def decode(cls, bits: int) -> Throttling:
        """The meaning of what ``vcgencmd get_throttled`` prints; unknown bits are left out."""
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
        """What ``to_plain`` gave.

        Raises:
            KeyError: it has no bits.
            TypeError: it is no object.
            ValueError: they are no hexadecimal number.
        """
        if not isinstance(content, dict):
            raise TypeError(f"got {content!r:.60}, expected an object with bits")
        return cls.decode(int(str(content["bits"]), 16))


def read_throttling(system: System) -> Throttling | None:
    """What the firmware says; None on any other machine than a Raspberry Pi."""
    told = system.output(("vcgencmd", "get_throttled"))
    match = re.fullmatch(r"throttled=(?:0x)?([0-9a-fA-F]{1,8})", (told or "").strip())
    if match:
        return Throttling.decode(int(match[1], 16))
    for file in _FIRMWARE_FILES:
        if re.fullmatch(r"(?:0x)?[0-9a-fA-F]{1,8}", text := system.text(file) or ""):
            return Throttling.decode(int(text, 16))
    return None


def read_undervoltage(system: System) -> bool | None:
    """Whether the voltage is too low by the kernel's own sensor; None where there is none.

    ``rpi_volt`` (Linux, drivers/hwmon/raspberrypi-hwmon.c) asks the firmware every two seconds.
    """
    alarms = []
    for chip in system.names("/sys/class/hwmon/hwmon[0-9]*"):
        if system.text(f"{chip}/name") == "rpi_volt":
            alarm = system.number(f"{chip}/in0_lcrit_alarm")
            alarms += [] if alarm is None else [alarm != 0]
    return any(alarms) if alarms else None


def read_throttle_count(system: System) -> int | None:
    """How often the cores of an x86 machine were throttled for heat since it was switched on."""
    counts = [
        system.number(file)
        for file in system.names(
            "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count"
        )
    ]
    known = [int(count) for count in counts if count is not None and count >= 0]
    return sum(known) if known else None


# Linux, power/powercap: RAPL of Intel and AMD; most kernels let root alone read it (CVE-2020-8694).
_ENERGY_ZONES = "/sys/class/powercap/intel-rapl:*"
_MICRO = 1e-6


class EnergyCounter:
    """Adds up one counter, which starts over at its end.

    Args:
        system: where it is.
        zone: its folder.

    Attributes:
        name: of the folder and of what it counts, as ``intel-rapl:0 package-0``.

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
        """Used since the counter was opened; ask at least once a minute, it may start over.

        Raises:
            OSError: it cannot be read any more.
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
    """The counter of the first processor package, or why there is none, in words."""
    zones = [f"/{path.relative_to(system.root)}" for path in system.paths(_ENERGY_ZONES)]
    packages = [z for z in zones if (system.text(f"{z}/name") or "").startswith("package")]
    if not packages:
        return None, "this machine counts no energy (no /sys/class/powercap)"
    try:
        return EnergyCounter(system, packages[0]), ""
    except OSError:
        return None, (
            f"this machine counts energy, but {packages[0]}/energy_uj may not be read; run once as "
            "root, or allow it with: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
        )
