"""The time of day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from edge_sdk.device.doctor.context import Context
from edge_sdk.doctor.findings import Finding

# Of this version; the clock of a board without a battery stands years before it.
_RELEASED = datetime(2026, 1, 1, tzinfo=UTC)
_WHY = "every result carries the time; certificates of brokers are refused when it is wrong"
_SWITCH_ON = "sudo timedatectl set-ntp true"


def date(context: Context) -> Iterator[Finding]:
    """A clock that was never set."""
    now = context.now()
    if now < _RELEASED:
        yield Finding(
            "error",
            f"the clock says {now:%Y-%m-%d}, before this program was written",
            _WHY,
            f"{_SWITCH_ON} && sudo systemctl restart systemd-timesyncd",
        )
    else:
        yield Finding("ok", f"the clock says {now:%Y-%m-%d %H:%M} UTC", _WHY)


def synchronized(context: Context) -> Iterator[Finding]:
    """Whether somebody keeps the clock right; unknown where there is no systemd."""
    told = context.system.output(("timedatectl", "show", "-p", "NTP", "-p", "NTPSynchronized"))
    state = dict(line.split("=", 1) for line in (told or "").splitlines() if "=" in line)
    if state.get("NTPSynchronized") == "yes":
        yield Finding("ok", "the clock is synchronized", _WHY)
    elif state.get("NTP") == "no":
        yield Finding(
            "warning",
            "nothing sets the clock",
            f"{_WHY}; a board without a battery begins at the time when it was switched off",
            _SWITCH_ON,
        )
    elif state.get("NTPSynchronized") == "no":
        yield Finding(
            "warning",
            "the clock is not synchronized",
            f"{_WHY}; no time server has set it so far",
            "timedatectl timesync-status",
        )
