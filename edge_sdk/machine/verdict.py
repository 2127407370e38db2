"""Whether the machine let itself be measured: thresholds, each with its reason."""

from __future__ import annotations

from dataclasses import replace

from edge_sdk.machine.conditions import Conditions

# The clocks of x86 processors wander by a few percent with temperature and with what other cores
# do. A Raspberry Pi that is held back falls further: 1800 to 1500, 1000 or 600 MHz.
CLOCK_FELL = 0.10
# One reading may catch a core between two clocks; this share of them is no accident.
CLOCK_FELL_SHARE = 0.10
# Of all cores. A desktop at rest uses 1 to 3 %; one busy core of four is 25 %, and slows a model
# that runs beside it through caches and memory even where it finds a core of its own.
OTHERS_SHARE = 0.20
# Of all cores: what a host gives to other guests is time in which ours stood still.
STOLEN_SHARE = 0.05
# A page of an idle program now and then does not matter; a model that is being read back does.
SWAPPED_MB = 1.0
# Of one core's time. Each stop is up to a period long, as a rule a tenth of a second: many runs' time.
STOPPED_SHARE = 0.01
# These drivers follow the load under `powersave` too (Linux, admin-guide/pm/intel_pstate).
_CLEVER_DRIVERS = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")


def judge(conditions: Conditions) -> Conditions:
    """The same conditions with ``invalid_reasons`` and ``notes``, each a sentence with its figure."""
    reasons = (
        *_emulated(conditions),
        *_held_back(conditions),
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
    return (f"emulated by {conditions.emulated}: its latencies say nothing about a board",)


def _held_back(conditions: Conditions) -> tuple[str, ...]:
    """What the firmware said at any reading, or what happened between two of them."""
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
        reasons.append(f"throttled: the processor was slowed down for heat {count} times; cool it")
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
        "cool the machine, or hold the clock with the governor performance"
    )
    return (reason,)


def _governor(conditions: Conditions) -> tuple[str, ...]:
    governors = (conditions.governor or "").split(", ")
    if "powersave" not in governors or conditions.driver in _CLEVER_DRIVERS:
        return ()
    reason = (
        "governor powersave: it holds the lowest clock; "
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
        f"too hot: {warmest:.0f} °C, and from {limit:.0f} °C the processor is slowed down; cool it",
    )


def _load(conditions: Conditions) -> tuple[str, ...]:
    reasons = []
    cores = conditions.cores
    if conditions.others is not None and conditions.others > OTHERS_SHARE * cores:
        reasons.append(
            f"overloaded: other processes kept {conditions.others:.1f} of {cores} cores busy; "
            "stop them (top shows which)"
        )
    if conditions.stolen is not None and conditions.stolen > STOLEN_SHARE * cores:
        reasons.append(
            f"overloaded: the host took {conditions.stolen:.1f} of {cores} cores for other guests"
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
    return (f"swapping: {swapped:.0f} MB went to the swap or came back; free some memory",)


def _notes(conditions: Conditions) -> tuple[str, ...]:
    notes = []
    first = conditions.before.throttling
    if first and (old := [flag for flag in first.since_boot if flag not in first.now]):
        notes.append(f"before this measurement, since the board was switched on: {', '.join(old)}")
    governors = [g for g in (conditions.governor or "").split(", ") if g]
    if set(governors) & {"ondemand", "conservative", "schedutil"}:
        notes.append(
            f"governor {', '.join(governors)}: the clock follows the load, so the first runs are slower"
        )
    if all(reading.clock_mhz is None for reading in conditions.readings):
        notes.append("this machine does not tell its clock")
    if all(reading.temperature_c is None for reading in conditions.readings):
        notes.append("this machine does not tell its temperature")
    if conditions.others is None:
        notes.append("this machine does not tell, or not yet, what other processes are doing")
    return tuple(notes)
