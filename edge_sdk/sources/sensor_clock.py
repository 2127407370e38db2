"""Times that a driver gives a frame, on the clock that everything else here uses."""

from __future__ import annotations

import time

# A frame that is older than this has not just come from a sensor: its time is on some other clock.
_MAX_AGE_NS = 10_000_000_000
# The end of a frame's exposure and our clock are read at different places.
_AHEAD_NS = 5_000_000


def on_monotonic_clock(stamp_ns: int | None) -> int | None:
    """A driver's timestamp on the monotonic clock, in ns; None where it is on neither of two clocks.

    libcamera promises ``CLOCK_BOOTTIME``, most drivers give ``CLOCK_MONOTONIC``; the two differ by
    the time that the machine has slept.
    """
    if not stamp_ns:
        return None
    now = time.monotonic_ns()
    asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - now if _BOOTTIME else 0
    for candidate in (stamp_ns, stamp_ns - asleep_ns):
        if -_AHEAD_NS <= now - candidate <= _MAX_AGE_NS:
            return min(candidate, now)
    return None


_BOOTTIME = hasattr(time, "CLOCK_BOOTTIME")
