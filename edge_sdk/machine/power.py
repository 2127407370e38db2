"""Whether a machine is held back: throttled, capped, short of voltage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from edge_sdk.machine.system import System

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
