"""What a machine did while something was measured: readings, averages, and a verdict on them."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.machine.power import Throttling


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine at one moment; None where it does not say.

    Attributes:
        at_s: since the watch began.
        clock_mhz: of the fastest core.
        temperature_c: of the processor.
        throttling: by the firmware of a Raspberry Pi.
        undervoltage: by the kernel's sensor.
        throttle_count: how often an x86 processor was throttled for heat, since the watch began.
        others: cores that other processes kept busy since the reading before, 0 to all.
        stolen: cores that the host gave to other guests since then.
        swapped_mb: went to the swap and came back since the watch began.
        stopped_s: that a CPU quota let the process's control group stand still since the watch
            began, all cores together; None without a quota.
    """

    at_s: float
    clock_mhz: float | None
    temperature_c: float | None
    throttling: Throttling | None
    undervoltage: bool | None
    throttle_count: int | None
    others: float | None
    stolen: float | None
    swapped_mb: float | None
    stopped_s: float | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the machine did while something was measured.

    Attributes:
        cores: of the machine.
        governor, driver: what picks the clocks, and what sets them.
        temperature_limit_c: from where the processor is slowed down.
        readings: the first before, the last after, the others during the measurement.
        others: cores that other processes kept busy, on average over the whole time.
        stolen: cores that the host gave to other guests, likewise.
        emulated: by what.
        invalid_reasons: why its latencies cannot be trusted; see ``edge_sdk.machine.verdict``.
        notes: what a reader should know, though the figures stand.
    """

    cores: int
    governor: str | None
    driver: str | None
    temperature_limit_c: float | None
    readings: tuple[Reading, ...]
    others: float | None
    stolen: float | None
    emulated: str | None
    invalid_reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.readings:
            raise ValueError("conditions without a reading")

    @property
    def before(self) -> Reading:
        """The first reading."""
        return self.readings[0]

    @property
    def during(self) -> tuple[Reading, ...]:
        """All but the first: the last one is taken before the cores come to rest."""
        return self.readings[1:]

    @property
    def after(self) -> Reading:
        """The last reading."""
        return self.readings[-1]
