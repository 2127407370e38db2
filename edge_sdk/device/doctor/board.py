"""What slows a board down: weak power supplies, heat, a governor."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.device.doctor.context import Context
from edge_sdk.doctor.findings import Finding
from edge_sdk.machine.clocks import read_driver, read_governor
from edge_sdk.machine.heat import read_heat
from edge_sdk.machine.power import read_throttling, read_undervoltage

_SUPPLY = (
    "the board slows down, USB devices drop out, and the card can be damaged: use the board's own "
    "supply and a short cable, or a powered hub"
)
# Below this distance from its limit a processor will reach it when the room gets warmer.
_NEAR_C = 5.0
# There the clock follows the load under this name.
_FOLLOWING = ("intel_pstate", "amd-pstate-epp", "amd-pstate")


def throttling(context: Context) -> Iterator[Finding]:
    """What a Raspberry Pi's firmware says of its voltage."""
    told = read_throttling(context.system)
    low = read_undervoltage(context.system)
    now, before = (told.now, told.since_boot) if told else ((), ())
    look = "sudo dmesg | grep -i voltage"
    if low or "under-voltage" in now:
        yield Finding("warning", "the voltage is too low at this moment", _SUPPLY, look)
    elif "under-voltage" in before:
        yield Finding("warning", "the voltage was too low since the last start", _SUPPLY, look)
    elif told is not None or low is not None:
        yield Finding("ok", "the voltage is what it should be", "the firmware watches it")


def heat(context: Context) -> Iterator[Finding]:
    """Whether the processor is, or was, slowed down by heat."""
    told, degrees = read_throttling(context.system), read_heat(context.system)
    celsius = "" if degrees.now is None else f" ({degrees.now:.0f} °C)"
    hot = {"throttled", "soft temperature limit"}
    why = "answers come later than measured; give the board a heat sink, a fan, or air"
    look = "watch -n 2 vcgencmd measure_temp" if told else "watch -n 2 sensors"
    # Low voltage throttles as well, and has its own finding.
    if told and hot & set(told.now) and "under-voltage" not in told.now:
        yield Finding("warning", f"the processor is slowed down by heat{celsius}", why, look)
    elif (
        degrees.now is not None
        and degrees.limit is not None
        and (degrees.now > degrees.limit - _NEAR_C)
    ):
        what = (
            f"the processor has {degrees.now:.0f} °C, and is slowed down at {degrees.limit:.0f} °C"
        )
        yield Finding("warning", what, why, look)
    elif told and hot & set(told.since_boot) and "under-voltage" not in told.since_boot:
        what = f"the processor was slowed down by heat since the last start{celsius}"
        yield Finding("warning", what, why, look)
    elif degrees.now is not None:
        yield Finding("ok", f"the processor has {degrees.now:.0f} °C", "heat slows it down")


def governor(context: Context) -> Iterator[Finding]:
    """The rule by which clocks are picked."""
    name, driver = read_governor(context.system), read_driver(context.system)
    if name is None:
        return
    if "powersave" in name and driver not in _FOLLOWING:
        yield Finding(
            "warning",
            f"the governor is {name}: the processor stays at its lowest clock",
            "a Raspberry Pi then runs at 600 MHz to 1.5 GHz, whatever there is to do",
            "echo ondemand | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        )
    else:
        yield Finding("ok", f"the governor is {name}", "it lets the clock rise with the work")
