"""Checks of the board: power and heat, memory, clock, and the disk of the spool."""

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
# This close to its limit, a processor reaches it when the ambient temperature rises.
_NEAR_C = 5.0
# With these drivers the clock follows the load under the governor powersave, too.
_FOLLOWING = ("intel_pstate", "amd-pstate-epp", "amd-pstate")


def throttling(context: Context) -> Iterator[Finding]:
    """The supply voltage, as a Raspberry Pi's firmware reports it."""
    throttled = read_throttling(context.system)
    low = read_undervoltage(context.system)
    now, before = (throttled.now, throttled.since_boot) if throttled else ((), ())
    look = "sudo dmesg | grep -i voltage"
    if low or "under-voltage" in now:
        yield Finding("warning", "the supply voltage is too low", _SUPPLY, look)
    elif "under-voltage" in before:
        yield Finding("warning", "the supply voltage was too low since boot", _SUPPLY, look)
    elif throttled is not None or low is not None:
        yield Finding("ok", "the supply voltage is sufficient", "the firmware monitors it")


def heat(context: Context) -> Iterator[Finding]:
    """Whether the processor is, or was, throttled by heat."""
    throttled, degrees = read_throttling(context.system), read_heat(context.system)
    celsius = "" if degrees.now is None else f" ({degrees.now:.0f} °C)"
    hot = {"throttled", "soft temperature limit"}
    why = "inference is slower than measured; add a heat sink, a fan, or ventilation"
    look = "watch -n 2 vcgencmd measure_temp" if throttled else "watch -n 2 sensors"
    # Low voltage throttles as well, and has its own finding.
    if throttled and hot & set(throttled.now) and "under-voltage" not in throttled.now:
        yield Finding("warning", f"the processor is throttled by heat{celsius}", why, look)
    elif (
        degrees.now is not None
        and degrees.limit is not None
        and (degrees.now > degrees.limit - _NEAR_C)
    ):
        what = (
            f"the processor is at {degrees.now:.0f} °C, and is throttled at {degrees.limit:.0f} °C"
        )
        yield Finding("warning", what, why, look)
    elif (
        throttled
        and hot & set(throttled.since_boot)
        and "under-voltage" not in throttled.since_boot
    ):
        what = f"the processor was throttled by heat since boot{celsius}"
        yield Finding("warning", what, why, look)
    elif degrees.now is not None:
        yield Finding("ok", f"the processor is at {degrees.now:.0f} °C", "heat throttles it")


def governor(context: Context) -> Iterator[Finding]:
    """The kernel's governor of processor clocks."""
    name, driver = read_governor(context.system), read_driver(context.system)
    if name is None:
        return
    if "powersave" in name and driver not in _FOLLOWING:
        yield Finding(
            "warning",
            f"the governor is {name}: the processor stays at its lowest clock",
            "a Raspberry Pi then runs at 600 MHz to 1.5 GHz under any load",
            "echo ondemand | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        )
    else:
        yield Finding("ok", f"the governor is {name}", "it raises the clock under load")


# LiteRT and OpenCV use 69 MB up to the first answer (MobileNetV2), a camera's process about the same.
_NEEDED_MB = 150.0
_SMALL_MB = 1100.0
_MUCH_SWAPPED_MB = 100.0


def room(context: Context) -> Iterator[Finding]:
    """Available memory."""
    memory = read_memory(context.system)
    if memory.available_mb is None or memory.total_mb is None:
        return
    if memory.available_mb < _NEEDED_MB:
        yield Finding(
            "warning",
            f"{memory.available_mb:.0f} of {memory.total_mb:.0f} MB of memory are available",
            f"a classifier with a camera needs about {_NEEDED_MB:.0f} MB; with less it swaps, or "
            "Linux kills it",
            "ps -eo rss,comm --sort=-rss | head",
        )
    else:
        yield Finding(
            "ok",
            f"{memory.available_mb:.0f} of {memory.total_mb:.0f} MB of memory are available",
            f"a classifier with a camera needs about {_NEEDED_MB:.0f}",
        )


def swap(context: Context) -> Iterator[Finding]:
    """Swap in use, or missing on a small board."""
    memory = read_memory(context.system)
    total, swapped, used = memory.total_mb, memory.swap_total_mb, memory.swap_used_mb
    if total is None or swapped is None or used is None:
        return
    if used > _MUCH_SWAPPED_MB and (memory.available_mb or 0) < 2 * _NEEDED_MB:
        yield Finding(
            "warning",
            f"{used:.0f} MB are swapped out",
            "inference is slow while memory is swapped in; swapping also wears out an SD card",
            "ps -eo rss,comm --sort=-rss | head",
        )
    elif swapped == 0 and total < _SMALL_MB:
        yield Finding(
            "note",
            f"{total:.0f} MB of memory and no swap",
            "if an update or a second program needs more, Linux kills the largest process, usually "
            "edgecls",
            "sudo fallocate -l 512M /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && "
            "sudo swapon /swapfile",
        )


# Date of this version; a board without a battery can start years before it.
_RELEASED = datetime(2026, 1, 1, tzinfo=UTC)
_WHY = "results have timestamps; with a wrong clock, certificates of brokers are refused"
_SWITCH_ON = "sudo timedatectl set-ntp true"


def date(context: Context) -> Iterator[Finding]:
    """A clock that was never set."""
    now = context.now()
    if now < _RELEASED:
        yield Finding(
            "error",
            f"the clock is at {now:%Y-%m-%d}, before the release of this program",
            _WHY,
            f"{_SWITCH_ON} && sudo systemctl restart systemd-timesyncd",
        )
    else:
        yield Finding("ok", f"the clock is at {now:%Y-%m-%d %H:%M} UTC", _WHY)


def synchronized(context: Context) -> Iterator[Finding]:
    """Whether the clock is synchronized; unknown without systemd."""
    output = context.system.output(("timedatectl", "show", "-p", "NTP", "-p", "NTPSynchronized"))
    state = dict(line.split("=", 1) for line in (output or "").splitlines() if "=" in line)
    if state.get("NTPSynchronized") == "yes":
        yield Finding("ok", "the clock is synchronized", _WHY)
    elif state.get("NTP") == "no":
        yield Finding(
            "warning",
            "clock synchronization is off",
            f"{_WHY}; a board without a battery starts at the time of its last shutdown",
            _SWITCH_ON,
        )
    elif state.get("NTPSynchronized") == "no":
        yield Finding(
            "warning",
            "the clock is not synchronized",
            f"{_WHY}; no time server has set it yet",
            "timedatectl timesync-status",
        )


# A spool uses 64 MB, its log 40 MB more.
_SPOOL_BYTES = 104_000_000
# A camera at 30 frames a second writes some hundred kB/s to the spool's log.
_SLOW_MB_PER_S = 1.0


def spool(context: Context) -> Iterator[Finding]:
    """Whether the spool's folder is writable, its free space, and the speed of the disk."""
    requested = context.options.folder
    disk = context.disk(requested)
    needed = "results are stored here until they are delivered (--mqtt, --webhook)"
    severity: Severity = "error" if context.options.mqtt else "warning"
    folder, speed = disk.folder, disk.written_mb_per_s
    if disk.error == errno.EROFS:
        mount = _mount_point(context, folder)
        yield Finding(
            severity,
            f"{folder} is on a read-only file system ({mount})",
            f"{needed}; Linux also makes a failing disk read-only: sudo dmesg shows that",
            f"sudo mount -o remount,rw {mount}",
        )
    elif disk.error == errno.ENOSPC or disk.free_bytes < _SPOOL_BYTES:
        yield Finding(
            severity if disk.error else "warning",
            f"only {size_text(disk.free_bytes)} are free in {folder}",
            f"{needed}: up to {size_text(_SPOOL_BYTES)}; on a full disk they are lost",
            f"sudo du -xh {_mount_point(context, folder)} | sort -h | tail",
        )
    elif disk.error:
        yield Finding(
            severity,
            f"{context.user.name} may not write in {folder}",
            f"{needed}; name another file with --spool FILE, or create this folder",
            f"sudo install -d -o {context.user.name} {requested}",
        )
    elif speed is not None and speed < _SLOW_MB_PER_S:
        yield Finding(
            "warning",
            f"the disk of {folder} writes {speed:.1f} MB a second",
            f"{needed}, and the loop waits for the disk; an SD card this slow is often failing",
            "sudo dmesg | grep -iE 'mmc|i/o error'",
        )
    else:
        rate = "" if speed is None else f", written at {speed:.0f} MB a second"
        yield Finding("ok", f"{size_text(disk.free_bytes)} are free in {folder}{rate}", needed)


def _mount_point(context: Context, folder: Path) -> str:
    """The mount point of the folder's file system, from ``/proc/mounts``."""
    points = [line.split()[1] for line in (context.system.text("/proc/mounts") or "").splitlines()]
    above = [str(path) for path in (folder, *folder.parents)]
    return max((point for point in points if point in above), key=len, default="/")
