"""Takes a picture at intervals, classifies it and writes a line; the camera is closed in between."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

from edge_sdk import Classifier, EdgeClsError, JsonLines, open_camera, run

# Exposure and white balance settle within a second; the frames before are dark or tinted.
WARM_UP_FRAMES = 10


def look(model: str, camera: str, lines: JsonLines) -> None:
    """Classifies one picture; camera and model are closed afterwards to save power."""
    with Classifier.open(model) as classifier, open_camera(camera) as source:
        for _ in range(WARM_UP_FRAMES):
            source.read()
        run(source, classifier, [lines], limit=1)


def main(model: str, minutes: str = "10", camera: str = "auto", times: str = "inf") -> int:
    """Takes this many pictures; Ctrl-C and SIGTERM end the sleep at once."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    period_s, left, next_s = float(minutes) * 60, float(times), time.monotonic()
    lines = JsonLines(Path("timelapse.jsonl"))
    try:
        while left > 0 and not stop.is_set():
            try:
                look(model, camera, lines)
            except EdgeClsError as error:  # the camera may be back the next time
                print(error, file=sys.stderr)
                if left == 1:
                    return 1
            left, next_s = left - 1, next_s + period_s
            if left > 0:
                print(f"asleep for {max(0.0, next_s - time.monotonic()):.1f} s", flush=True)
                stop.wait(max(0.0, next_s - time.monotonic()))
    finally:
        lines.close()
    return 0


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 5:
        sys.exit("usage: python main.py MODEL [MINUTES] [CAMERA] [TIMES]")
    sys.exit(main(*sys.argv[1:]))
