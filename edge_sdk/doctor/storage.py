"""The disk on which results wait."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.device.doctor.context import Context
from edge_sdk.doctor.findings import Finding, Severity
from edge_sdk.files import size_text

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
