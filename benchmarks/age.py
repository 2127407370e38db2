"""Age, not only latency: from the sensor's time to the published decision, through the whole loop.

    python -m benchmarks.age [--model FILE] [--camera SPEC] [--seconds 5] [--json]

Opens a camera in its supervised process and runs the loop with a file of results, as ``edgecls run``
does. A decision is published when all sinks have it; its age is the time since the frame's timestamp,
so that it includes the delays of the camera's own queue, the capture process and every wait. Latency,
which most benchmarks report, starts only when the frame has been read, and is shown beside it.

Without ``--camera`` three fake cameras of 30 frames a second are used: one without a queue, one with a
queue of 100 ms, and one that shows the same frames twice as often as its sensor makes new ones. Exit
code 1: the queue's 100 ms are not in the ages, or duplicates were not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.public_model import GOLDEN
from edge_sdk import (
    Classifier,
    Frame,
    FrameRecord,
    Record,
    open_camera,
    run,
)
from edge_sdk.bench.results import Age
from edge_sdk.ports import FrameSource
from edge_sdk.sinks.jsonl import open_json_lines

_QUEUE_MS = 100


@dataclass(slots=True)
class Decided:
    """A sink, to be the last one: when each decision was published, and which frames came twice.

    Attributes:
        age_ms: from a frame's timestamp to the moment at which every sink had its record.
        latency_ms: of the same frames, from a frame in hand to its answer.
        capture_ms: how long each was waited for.
        duplicates: frames with the timestamp of the one before.
    """

    age_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    capture_ms: list[float] = field(default_factory=list)
    duplicates: int = 0
    _last_ns: int | None = None

    def write(self, record: Record) -> None:
        """Nothing: ``see`` comes after all sinks were written to."""

    def see(self, frame: Frame, record: FrameRecord) -> None:
        """One more decision is out."""
        now_ns = time.monotonic_ns()
        if frame.timestamp_ns is not None:
            self.age_ms.append((now_ns - frame.timestamp_ns) / 1e6)
            self.duplicates += frame.timestamp_ns == self._last_ns
            self._last_ns = frame.timestamp_ns
        self.capture_ms.append(record.capture_ms)
        self.latency_ms.append(record.preprocess_ms + record.inference_ms + record.postprocess_ms)

    def close(self) -> None:
        """Nothing to close."""


def measure(
    camera: str,
    open_: Callable[[], Any],
    classifier: Classifier,
    seconds: float,
    results: Path,
) -> tuple[Age, float]:
    """Runs the loop for a while.

    Args:
        camera: what to call it.
        open_: opens it, as a context.
        classifier: stays open.
        seconds: how long.
        results: a file for the records.

    Returns:
        ages, and the median latency in milliseconds.
    """
    decided = Decided()
    over = threading.Event()
    alarm = threading.Timer(seconds, over.set)
    with open_() as source, contextlib.closing(open_json_lines(results)) as lines:
        alarm.start()
        done = run(source, classifier, [lines, decided], stop=over)
    alarm.cancel()
    age = Age(
        camera=camera,
        frames=done.frames,
        seconds=done.seconds,
        dropped=done.dropped,
        duplicates=decided.duplicates,
        unreadable=done.unreadable,
        age_ms=tuple(decided.age_ms),
        capture_ms=tuple(decided.capture_ms),
        note="" if decided.age_ms else "this camera gives no timestamps",
    )
    return age, float(np.median(decided.latency_ms)) if decided.latency_ms else float("nan")


class Twice:
    """A source that gives each frame twice, as a driver that is read faster than its sensor."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._again: Frame | None = None

    def read(self) -> Frame | None:
        """The frame of the last call, or a new one."""
        if self._again is not None:
            again, self._again = self._again, None
            return again
        self._again = self._source.read()
        return self._again

    def close(self) -> None:
        """Closes the source."""
        self._source.close()


def main() -> int:
    """Measures, prints; 1 where a truth that was built in is not found."""
    arguments = _arguments()
    with Classifier.open(arguments.model) as classifier, tempfile.TemporaryDirectory() as name:
        if arguments.camera:
            cameras = {arguments.camera: lambda: open_camera(arguments.camera)}
        else:
            pictures = Path(name) / "pictures"
            pictures.mkdir()
            cameras = _played(pictures)
        rows = [
            measure(camera, open_, classifier, arguments.seconds, Path(name) / "results.jsonl")
            for camera, open_ in cameras.items()
        ]
    if not arguments.json:
        print(f"{'camera':34} {'frames':>6} {'age p50':>8} {'p95':>7} {'latency':>8} dropped twice")
    for age, latency_ms in rows:
        of = age.age
        if arguments.json:
            print(json.dumps({**dataclasses.asdict(age), "latency_p50_ms": latency_ms}))
        elif of is None:
            print(f"{age.camera:34} {age.frames:6}  {age.note}")
        else:
            print(
                f"{age.camera:34} {age.frames:6} {of.p50:8.1f} {of.p95:7.1f} {latency_ms:8.1f} "
                f"{age.dropped:7} {age.duplicates:5}"
            )
    return 0 if arguments.camera or _found([age for age, _ in rows]) else 1


def _found(ages: list[Age]) -> bool:
    """The queue's time is in every age, and every second frame of the last was seen as one."""
    _, queued, doubled = ages
    return (
        bool(queued.age_ms)
        and min(queued.age_ms) >= _QUEUE_MS
        and abs(doubled.duplicates - doubled.frames // 2) <= 1
    )


def _played(folder: Path) -> dict[str, Callable[[], Any]]:
    noise = np.random.default_rng(0)
    for i in range(4):
        coarse = noise.integers(0, 256, (9, 16, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), np.kron(coarse, np.ones((80, 80, 1), np.uint8)))
    plain = f"fake:{folder}?fps=30"
    queued = f"{plain}&queue={_QUEUE_MS}ms"
    return {
        "30 fps": lambda: open_camera(plain),
        f"30 fps, a queue of {_QUEUE_MS} ms": lambda: open_camera(queued),
        "30 fps, each frame twice": lambda: contextlib.closing(Twice(open_camera(plain))),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=GOLDEN / "digits_int8.tflite")
    parser.add_argument("--camera", metavar="SPEC", help="one camera instead of the played ones")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each camera")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each camera")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
