"""``Watch``: what a machine does before, during and after a measurement.

watch = Watch()
watch.start()
for turn in turns:
    measure(turn)
    watch.sample()  # at most once a second, so call it as often as you like
conditions = watch.finish()
conditions.invalid_reasons
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_sdk.machine.board import core_count
from edge_sdk.machine.clocks import clock_now, read_driver, read_governor
from edge_sdk.machine.conditions import Conditions, Reading
from edge_sdk.machine.facts import Machine, read_machine
from edge_sdk.machine.heat import limit, temperature
from edge_sdk.machine.load import CpuTimes, own_cpu_s, read_cpu_times, read_swapped_mb
from edge_sdk.machine.power import read_throttle_count, read_throttling, read_undervoltage
from edge_sdk.machine.quota import read_quota
from edge_sdk.machine.system import System
from edge_sdk.machine.verdict import judge

# A reading starts two programs on a Raspberry Pi: some milliseconds of one core.
_EVERY_S = 1.0
_SHORTEST_S = 0.2  # the kernel counts in hundredths of a second; shares of less are noise


class Watch:
    """Reads clocks, temperature, throttling, the load of others and swapping, and judges them.

    Args:
        system: where to look; this machine by default.
        machine: its facts where they are known already; read by ``start`` otherwise.
        every_s: ``sample`` reads no more often than this.
        clock: monotonic seconds, for tests.
        own_s: seconds of processor that the measurement itself has used so far, finished children
            included; for tests.
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
        """Begins, and forgets what was watched before; gives the reading before the measurement."""
        if self._machine is None:
            self._machine = read_machine(self._system)
        self._began = self._before = self._count()
        self._readings = []
        return self._read()

    def sample(self) -> Reading | None:
        """Reads the machine if the last reading is long enough ago, else returns None at once.

        Raises:
            RuntimeError: the watch was not started.
        """
        if not self._readings:
            raise RuntimeError("Watch.sample before Watch.start")
        if self._clock() - self._before.at_s < self._every_s:
            return None
        return self._read()

    def finish(self) -> Conditions:
        """Takes the last reading and judges; what was watched stays, so it may be called again.

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
        """Takes the last reading; why what was measured cannot be trusted, empty where it can."""
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
        """Cores that others kept busy, and that were stolen, between two moments."""
        span_s = b.at_s - a.at_s
        if a.cpu is None or b.cpu is None or span_s < _SHORTEST_S:
            return None, None
        others_s = b.cpu.busy - a.cpu.busy - (b.own_s - a.own_s)
        return max(0.0, others_s / span_s), max(0.0, (b.cpu.stolen - a.cpu.stolen) / span_s)


@dataclass(frozen=True, slots=True)
class _Counters:
    """What only ever grows."""

    at_s: float
    cpu: CpuTimes | None
    own_s: float
    swapped_mb: float | None
    throttle_count: int | None
    stopped_s: float | None


def _since(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None else max(0.0, now - before)
