"""How warm the processor is, and at what temperature it is slowed down."""

from __future__ import annotations

import re
from typing import NamedTuple

from edge_sdk.machine.board import board_name
from edge_sdk.machine.system import System

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
