"""Memory and swap."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.device.doctor.context import Context
from edge_sdk.doctor.findings import Finding
from edge_sdk.machine.load import read_memory

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
