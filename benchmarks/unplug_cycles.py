"""A camera that is unplugged a hundred times: what is left behind, and how long reopening takes.

    python benchmarks/unplug_cycles.py [--cycles 100]

A fake camera is unplugged for 0.1 s after every 20 frames; every tenth time it hangs instead and is
killed. Counted before and after, with the camera closed: file descriptors, threads, children, and
names in /dev/shm. Waits between attempts are at most 0.2 s here. Exit code 1: something is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from edge_sdk import open_camera, retry
from edge_sdk.errors import NoFrameYetError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=100)
    arguments = parser.parse_args()
    retry.CAMERA_LONGEST_S = 0.2
    with tempfile.TemporaryDirectory() as folder:
        for i in range(8):
            noise = np.random.default_rng(i).integers(0, 256, (360, 640, 3), np.uint8)
            cv2.imwrite(f"{folder}/{i}.png", noise)
        faults = "&".join(f"unplug@{20 * i}+0.1s" for i in range(1, 10)) + "&stall@199"
        camera = open_camera(f"fake:{folder}?fps=60&{faults}&repeat=200", stall_s=1.0)
        camera.close()  # whatever is loaded once is loaded
        before = _inventory()
        away: list[float] = []
        what: dict[str, int] = {}
        with open_camera(f"fake:{folder}?fps=60&{faults}&repeat=200", stall_s=1.0) as camera:
            last = time.monotonic()
            while camera.reopenings < arguments.cycles:
                reopenings = camera.reopenings
                with contextlib.suppress(NoFrameYetError):
                    camera.read()
                    now = time.monotonic()
                    if camera.reopenings > reopenings:
                        away.append(now - last)
                    last = now
                for health in camera.take_health():
                    what[health.what] = what.get(health.what, 0) + 1
        after = _inventory()
    print(
        json.dumps(
            {
                "reopenings": len(away),
                "events": what,
                "away_s": {"p50": round(statistics.median(away), 2), "max": round(max(away), 2)},
                "before": before,
                "after": after,
            }
        )
    )
    sys.exit(before != after)


def _inventory() -> dict[str, int]:
    children = sum(
        len((task / "children").read_text().split()) for task in Path("/proc/self/task").iterdir()
    )
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "children": children,
        "shared_memory": len(list(Path("/dev/shm").iterdir())),
    }


if __name__ == "__main__":
    main()
