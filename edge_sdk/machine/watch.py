"""``Watch``: samples the machine before, during and after a measurement, and judges its validity.

watch = Watch()
watch.start()
for turn in turns:
    measure(turn)
    watch.sample()  # reads at most once a second, so it may be called at any rate
conditions = watch.finish()
conditions.invalid_reasons
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_sdk.machine.board import System, core_count
from edge_sdk.machine.facts import Machine, read_machine
from edge_sdk.machine.load import CpuTimes, own_cpu_s, read_cpu_times, read_quota, read_swapped_mb
from edge_sdk.machine.power import (
    Throttling,
    clock_now,
    limit,
    read_driver,
    read_governor,
    read_throttle_count,
    read_throttling,
    read_undervoltage,
    temperature,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine at one moment; None if unknown.

    Attributes:
        at_s: since the watch started.
        clock_mhz: of the fastest core.
        temperature_c: of the processor.
        throttling: by the firmware of a Raspberry Pi.
        undervoltage: by the kernel's sensor.
        throttle_count: how often an x86 processor was throttled by heat since the watch started.
        others: cores used by other processes since the previous reading, 0 to all.
        stolen: cores that the host gave to other guests since then.
        swapped_mb: 10⁶ bytes swapped out and in since the watch started.
        stopped_s: time for which a CPU quota has stopped the process's control group since the watch
            started, all cores together; None without a quota.
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
    """The state of the machine during a measurement.

    Attributes:
        cores: of the machine.
        governor, driver: the kernel's governor and driver of processor clocks.
        temperature_limit_c: where throttling starts.
        readings: the first before, the last after, the others during the measurement.
        others: cores used by other processes, on average over the whole time.
        stolen: cores that the host gave to other guests, likewise.
        emulated: the emulator.
        invalid_reasons: why the latencies are invalid; see ``judge``.
        notes: for the reader; the figures are valid.
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
        """All but the first: the last one is taken before the cores are idle."""
        return self.readings[1:]

    @property
    def after(self) -> Reading:
        """The last reading."""
        return self.readings[-1]


# Clocks of x86 processors vary by a few percent with temperature and with the load of other cores. On
# a throttled Raspberry Pi they fall further: from 1800 to 1500, 1000 or 600 MHz.
CLOCK_FELL = 0.10
# A single reading may fall between two clocks; this share of readings is significant.
CLOCK_FELL_SHARE = 0.10
# Of all cores. An idle desktop uses 1 to 3 %; one busy core of four is 25 %, and slows a model on
# another core through shared caches and memory.
OTHERS_SHARE = 0.20
# Of all cores: while a host runs other guests, this one is stopped.
STOLEN_SHARE = 0.05
# Single pages of idle programs do not matter; a model that is swapped in does.
SWAPPED_MB = 1.0
# Of one core's time. Each stop lasts up to a period, usually 0.1 s, the time of many runs.
STOPPED_SHARE = 0.01
# With these drivers the clock follows the load under `powersave` too (Linux,
# admin-guide/pm/intel_pstate).
_LOAD_FOLLOWING_DRIVERS = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")


def judge(conditions: Conditions) -> Conditions:
    """Returns the conditions with ``invalid_reasons`` and ``notes``, each with its figure."""
    reasons = (
        *_emulated(conditions),
        *_throttled(conditions),
        *_clock(conditions),
        *_governor(conditions),
        *_heat(conditions),
        *_load(conditions),
        *_quota(conditions),
        *_swap(conditions),
    )
    return replace(conditions, invalid_reasons=reasons, notes=_notes(conditions))


def _emulated(conditions: Conditions) -> tuple[str, ...]:
    if conditions.emulated is None:
        return ()
    return (f"emulated by {conditions.emulated}: its latencies are not those of a board",)


def _throttled(conditions: Conditions) -> tuple[str, ...]:
    """Throttling that the firmware reported at any reading, or that occurred between two of them."""
    first = conditions.before.throttling
    old = set(first.since_boot if first else ())
    flags: dict[str, None] = {}
    for reading in conditions.readings:
        if reading.throttling:
            flags |= dict.fromkeys(reading.throttling.now)
            flags |= dict.fromkeys(f for f in reading.throttling.since_boot if f not in old)
    if any(reading.undervoltage for reading in conditions.readings):
        flags.setdefault("under-voltage")
    reasons = [_FLAGS[flag] for flag in flags]
    if count := conditions.after.throttle_count:
        reasons.append(f"throttled: the processor was throttled by heat {count} times; cool it")
    return tuple(reasons)


_FLAGS = {
    "under-voltage": "under-voltage: the supply is too weak; use the board's own supply, a short cable",
    "arm frequency capped": "throttled: the firmware capped the clock; cool the board, check its supply",
    "throttled": "throttled: the firmware slowed the board down; cool it, check its supply",
    "soft temperature limit": "too hot: the firmware's soft temperature limit is reached; cool the board",
}


def _clock(conditions: Conditions) -> tuple[str, ...]:
    clocks = [r.clock_mhz for r in conditions.during if r.clock_mhz is not None]
    if len(clocks) < 2:
        return ()
    top = max(clocks)
    low = [mhz for mhz in clocks if mhz < top * (1 - CLOCK_FELL)]
    if len(low) < max(2 if len(clocks) > 2 else 1, CLOCK_FELL_SHARE * len(clocks)):
        return ()
    reason = (
        f"clock fell: from {top:.0f} to {min(low):.0f} MHz in {len(low)} of {len(clocks)} readings; "
        "cool the machine, or fix the clock with the governor performance"
    )
    return (reason,)


def _governor(conditions: Conditions) -> tuple[str, ...]:
    governors = (conditions.governor or "").split(", ")
    if "powersave" not in governors or conditions.driver in _LOAD_FOLLOWING_DRIVERS:
        return ()
    reason = (
        "governor powersave: it keeps the lowest clock; "
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    )
    return (reason,)


def _heat(conditions: Conditions) -> tuple[str, ...]:
    limit = conditions.temperature_limit_c
    warmest = max(
        (r.temperature_c for r in conditions.readings if r.temperature_c is not None), default=None
    )
    if limit is None or warmest is None or warmest < limit:
        return ()
    return (
        f"too hot: {warmest:.0f} °C, and the processor is throttled from {limit:.0f} °C; cool it",
    )


def _load(conditions: Conditions) -> tuple[str, ...]:
    reasons = []
    cores = conditions.cores
    if conditions.others is not None and conditions.others > OTHERS_SHARE * cores:
        reasons.append(
            f"overloaded: other processes used {conditions.others:.1f} of {cores} cores; "
            "stop them (top shows which)"
        )
    if conditions.stolen is not None and conditions.stolen > STOLEN_SHARE * cores:
        reasons.append(
            f"overloaded: the host used {conditions.stolen:.1f} of {cores} cores for other guests"
        )
    return tuple(reasons)


def _quota(conditions: Conditions) -> tuple[str, ...]:
    stopped_s, span_s = conditions.after.stopped_s, conditions.after.at_s
    if stopped_s is None or stopped_s <= STOPPED_SHARE * span_s:
        return ()
    reason = (
        f"throttled: a CPU quota stopped the process for {stopped_s:.1f} s of {span_s:.0f}; raise it "
        "(docker run --cpus, a pod's limit, CPUQuota of a unit), or measure with fewer threads"
    )
    return (reason,)


def _swap(conditions: Conditions) -> tuple[str, ...]:
    swapped = conditions.after.swapped_mb
    if swapped is None or swapped <= SWAPPED_MB:
        return ()
    return (f"swapping: {swapped:.0f} MB were swapped out or in; free some memory",)


def _notes(conditions: Conditions) -> tuple[str, ...]:
    notes = []
    first = conditions.before.throttling
    if first and (old := [flag for flag in first.since_boot if flag not in first.now]):
        notes.append(f"before this measurement, since boot: {', '.join(old)}")
    governors = [g for g in (conditions.governor or "").split(", ") if g]
    if set(governors) & {"ondemand", "conservative", "schedutil"}:
        notes.append(
            f"governor {', '.join(governors)}: the clock follows the load, so the first runs are slower"
        )
    if all(reading.clock_mhz is None for reading in conditions.readings):
        notes.append("this machine does not report its clock")
    if all(reading.temperature_c is None for reading in conditions.readings):
        notes.append("this machine does not report its temperature")
    if conditions.others is None:
        notes.append("the load of other processes is unknown")
    return tuple(notes)


# A reading starts two programs on a Raspberry Pi, a few milliseconds of one core.
_EVERY_S = 1.0
_SHORTEST_S = 0.2  # the kernel counts in 0.01 s; a share of a shorter time is noise


class Watch:
    """Reads clocks, temperature, throttling, the load of others and swapping, and judges them.

    Args:
        system: the machine; this one by default.
        machine: its facts if already known; else read by ``start``.
        every_s: least time between two readings of ``sample``.
        clock: monotonic seconds, for tests.
        own_s: CPU time of the measurement itself so far, with finished children; for tests.
    """

    def __init__(
        self,
        system: System | None = None,
        *,
        machine: Machine | None = None,
        every_s: float = _EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        own_s: Callable[[], float] = own_cpu_s,
    ) -> None:
        self._system = system or System()
        self._machine = machine
        self._every_s = every_s
        self._clock = clock
        self._own_s = own_s
        self._readings: list[Reading] = []
        self._began = self._before = _Counters(0.0, None, 0.0, None, None, None)

    def start(self) -> Reading:
        """Starts, and discards earlier readings; returns the reading before the measurement."""
        if self._machine is None:
            self._machine = read_machine(self._system)
        self._began = self._before = self._count()
        self._readings = []
        return self._read()

    def sample(self) -> Reading | None:
        """Reads the machine if the last reading is older than ``every_s``, else returns None.

        Raises:
            RuntimeError: the watch was not started.
        """
        if not self._readings:
            raise RuntimeError("Watch.sample before Watch.start")
        if self._clock() - self._before.at_s < self._every_s:
            return None
        return self._read()

    def finish(self) -> Conditions:
        """Takes the last reading and judges; keeps the readings, so it may be called again.

        Raises:
            RuntimeError: the watch was not started.
        """
        if not self._readings or self._machine is None:
            raise RuntimeError("Watch.finish before Watch.start")
        self._read()
        others, stolen = self._shares(self._began, self._before)
        return judge(
            Conditions(
                cores=core_count(self._system),
                governor=read_governor(self._system),
                driver=read_driver(self._system),
                temperature_limit_c=limit(self._system),
                readings=tuple(self._readings),
                others=others,
                stolen=stolen,
                emulated=self._machine.emulated,
            )
        )

    def invalid_reasons(self) -> tuple[str, ...]:
        """Takes the last reading; returns why the measurement is invalid, empty if it is valid."""
        return self.finish().invalid_reasons

    def _read(self) -> Reading:
        now = self._count()
        others, stolen = self._shares(self._before, now)
        throttled = _since(self._began.throttle_count, now.throttle_count)
        reading = Reading(
            at_s=now.at_s - self._began.at_s,
            clock_mhz=clock_now(self._system),
            temperature_c=temperature(self._system),
            throttling=read_throttling(self._system),
            undervoltage=read_undervoltage(self._system),
            throttle_count=None if throttled is None else int(throttled),
            others=others,
            stolen=stolen,
            swapped_mb=_since(self._began.swapped_mb, now.swapped_mb),
            stopped_s=_since(self._began.stopped_s, now.stopped_s),
        )
        self._readings.append(reading)
        self._before = now
        return reading

    def _count(self) -> _Counters:
        return _Counters(
            self._clock(),
            read_cpu_times(self._system),
            self._own_s(),
            read_swapped_mb(self._system),
            read_throttle_count(self._system),
            read_quota(self._system).stopped_s,
        )

    def _shares(self, a: _Counters, b: _Counters) -> tuple[float | None, float | None]:
        """Cores used by others, and stolen cores, between two moments."""
        span_s = b.at_s - a.at_s
        if a.cpu is None or b.cpu is None or span_s < _SHORTEST_S:
            return None, None
        others_s = b.cpu.busy - a.cpu.busy - (b.own_s - a.own_s)
        return max(0.0, others_s / span_s), max(0.0, (b.cpu.stolen - a.cpu.stolen) / span_s)


@dataclass(frozen=True, slots=True)
class _Counters:
    """Monotonic counters of the machine."""

    at_s: float
    cpu: CpuTimes | None
    own_s: float
    swapped_mb: float | None
    throttle_count: int | None
    stopped_s: float | None


def _since(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None else max(0.0, now - before)
