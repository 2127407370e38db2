"""Running without a pause: does the machine keep its speed, and what does it draw."""

from __future__ import annotations

import time

import numpy as np

from edge_sdk.bench.parts import Energy, Sustained, Window
from edge_sdk.bench.timing import Lane
from edge_sdk.machine.clocks import clock_now
from edge_sdk.machine.energy import EnergyCounter
from edge_sdk.machine.heat import temperature
from edge_sdk.machine.system import System

_WINDOWS = 30
_WINDOW_LEAST_S = 0.5
_QUARTER = 4
_IDLE_S = 1.0


def run_sustained(lane: Lane, seconds: float, system: System) -> Sustained:
    """Classifies without a pause, and looks at clock and temperature between windows.

    Args:
        lane: what classifies; its samples stay as they are.
        seconds: how long; a cooler takes minutes to warm through.
        system: where clock and temperature are read.
    """
    window_s = max(seconds / _WINDOWS, _WINDOW_LEAST_S)
    windows: list[Window] = []
    began_s = time.perf_counter()
    while (at_s := time.perf_counter() - began_s) < seconds or not windows:
        taken = lane.busy(window_s)
        spent_s = time.perf_counter() - began_s - at_s
        windows.append(
            Window(
                at_s=at_s,
                runs=len(taken),
                p50_ms=float(np.median(taken)),
                fps=len(taken) / spent_s,
                cpu_mhz=clock_now(system),
                temperature_c=temperature(system),
            )
        )
    return Sustained(time.perf_counter() - began_s, tuple(windows), slowdown_percent(windows))


def slowdown_percent(windows: list[Window]) -> float:
    """Median latency of the last quarter of the windows against the first."""
    quarter = max(1, len(windows) // _QUARTER)
    first = float(np.median([window.p50_ms for window in windows[:quarter]]))
    last = float(np.median([window.p50_ms for window in windows[-quarter:]]))
    return 100 * (last / first - 1)


def measure_energy(lane: Lane, seconds: float, counter: EnergyCounter) -> Energy:
    """Watches an energy counter for a second of rest and some of work.

    Args:
        lane: what classifies; its samples stay as they are.
        seconds: of work.
        counter: the machine's.
    """
    before_j, before_s = counter.joules(), time.perf_counter()
    time.sleep(_IDLE_S)
    idle_j, idle_s = counter.joules(), time.perf_counter()
    runs = len(lane.busy(seconds))
    busy_j, busy_s = counter.joules(), time.perf_counter()
    idle_watts = (idle_j - before_j) / (idle_s - before_s)
    return Energy(
        source=counter.name,
        seconds=busy_s - idle_s,
        runs=runs,
        joules_per_run=(busy_j - idle_j - idle_watts * (busy_s - idle_s)) / runs,
        busy_watts=(busy_j - idle_j) / (busy_s - idle_s),
        idle_watts=idle_watts,
    )
