"""The board: power and heat, memory, the time of day, the disk on which results wait."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from edge_sdk.device.doctor.context import Context, Finding, Severity
from edge_sdk.files import size_text
from edge_sdk.machine.load import read_memory
from edge_sdk.machine.power import (
    read_driver,
    read_governor,
    read_heat,
    read_throttling,
    read_undervoltage,
)

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


# LiteRT and OpenCV take 69 MB to the first answer (MobileNetV2), a camera's process as much again.
_NEEDED_MB = 150.0
_SMALL_MB = 1100.0
_MUCH_SWAPPED_MB = 100.0


def room(context: Context) -> Iterator[Finding]:
    """Whether there is memory left."""
    memory = read_memory(context.system)
    if memory.available_mb is None or memory.total_mb is None:
        return
    if memory.available_mb < _NEEDED_MB:
        yield Finding(
            "warning",
            f"{memory.available_mb:.0f} of {memory.total_mb:.0f} MB of memory are left",
            f"a classifier with a camera takes about {_NEEDED_MB:.0f} MB; with less it swaps, or "
            "Linux ends it",
            "ps -eo rss,comm --sort=-rss | head",
        )
    else:
        yield Finding(
            "ok",
            f"{memory.available_mb:.0f} of {memory.total_mb:.0f} MB of memory are left",
            f"a classifier with a camera takes about {_NEEDED_MB:.0f}",
        )


def swap(context: Context) -> Iterator[Finding]:
    """Swap that is used, or missing on a small board."""
    memory = read_memory(context.system)
    total, swapped, used = memory.total_mb, memory.swap_total_mb, memory.swap_used_mb
    if total is None or swapped is None or used is None:
        return
    if used > _MUCH_SWAPPED_MB and (memory.available_mb or 0) < 2 * _NEEDED_MB:
        yield Finding(
            "warning",
            f"{used:.0f} MB are swapped out",
            "answers come late when memory is fetched back; on a card, it also wears the card out",
            "ps -eo rss,comm --sort=-rss | head",
        )
    elif swapped == 0 and total < _SMALL_MB:
        yield Finding(
            "note",
            f"{total:.0f} MB of memory and no swap",
            "when an update or a second program needs more, Linux ends the largest: mostly edgecls",
            "sudo fallocate -l 512M /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && "
            "sudo swapon /swapfile",
        )


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


# A spool takes 64 MB, its log 40 MB more.
_SPOOL_BYTES = 104_000_000
# A camera at 30 frames a second writes some hundred kB/s to the spool's log.
_SLOW_MB_PER_S = 1.0


def spool(context: Context) -> Iterator[Finding]:
    """Whether results can be written, how much room they have, and how fast the disk is."""
    asked = context.asked.folder
    disk = context.disk(asked)
    needed = "results wait here for their receiver (--mqtt, --webhook)"
    severity: Severity = "error" if context.asked.mqtt else "warning"
    folder, speed = disk.folder, disk.written_mb_per_s
    if disk.error == errno.EROFS:
        mount = _mount_point(context, folder)
        yield Finding(
            severity,
            f"{folder} is on a read-only file system ({mount})",
            f"{needed}; Linux also makes a disk read-only when it fails: sudo dmesg says so",
            f"sudo mount -o remount,rw {mount}",
        )
    elif disk.error == errno.ENOSPC or disk.free_bytes < _SPOOL_BYTES:
        yield Finding(
            severity if disk.error else "warning",
            f"{size_text(disk.free_bytes)} are free in {folder}",
            f"{needed}: up to {size_text(_SPOOL_BYTES)}; on a full disk they are lost",
            f"sudo du -xh {_mount_point(context, folder)} | sort -h | tail",
        )
    elif disk.error:
        yield Finding(
            severity,
            f"{context.user.name} may not write in {folder}",
            f"{needed}; name another place with --spool FILE, or take this folder",
            f"sudo install -d -o {context.user.name} {asked}",
        )
    elif speed is not None and speed < _SLOW_MB_PER_S:
        yield Finding(
            "warning",
            f"the disk of {folder} writes {speed:.1f} MB a second",
            f"{needed}, and the loop waits for the disk; a card this slow is often about to fail",
            "sudo dmesg | grep -iE 'mmc|i/o error'",
        )
    else:
        pace = "" if speed is None else f", written at {speed:.0f} MB a second"
        yield Finding("ok", f"{size_text(disk.free_bytes)} are free in {folder}{pace}", needed)


def _mount_point(context: Context, folder: Path) -> str:
    """Where the folder's file system is mounted, by ``/proc/mounts``."""
    points = [line.split()[1] for line in (context.system.text("/proc/mounts") or "").splitlines()]
    above = [str(path) for path in (folder, *folder.parents)]
    return max((point for point in points if point in above), key=len, default="/")
