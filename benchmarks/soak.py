"""Does the runtime grow over millions of frames? ``python -m benchmarks.soak PART``.

    frames   2,000,000 through classify, JSON lines and a spool: 1 MB more per million at most
    camera   200,000 through the supervised fake camera and the same: 5 MB at most
    leak     50 kB a minute kept on purpose: ten minutes must detect it

The model is the digits' in int8, the JSON lines are rotated, and the spool's receiver acknowledges
every record. The criterion is the upper end of the 95 % interval of the slope (see
``edge_sdk/device/soak.py``) of this process's resident memory and of the private memory of all
processes, after a warm-up of a minute; of the leak, the verdict that ``edgecls soak`` gives without
options. Prints JSON; exit code 1: missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from benchmarks.public_model import GOLDEN
from edge_sdk import Classifier, Frame, Prediction, open_camera
from edge_sdk.artifact import Artifact
from edge_sdk.device.soak import Noise, Sample, SoakReport, judge, soak
from edge_sdk.loop.run import Classifies
from edge_sdk.loop.statistics import LiveStatistics
from edge_sdk.ports import FrameSource
from edge_sdk.sinks.jsonl import open_json_lines
from edge_sdk.sinks.sender import Delivery, Parcel
from edge_sdk.sinks.spool import Spool

MEMORY = ("rss_bytes", "private_bytes")
FRAMES = {"frames": 2_000_000, "camera": 200_000}
MOST_PER_MILLION = {"frames": 1e6, "camera": 5e6}
_LEAK_PER_MINUTE = 50 * 1024
_LEAK_S = 600.0
_LONGEST_S = 3 * 3600.0
# What `edgecls soak` allows.
_ALLOWED_PER_MINUTE = 20 * 1024
_SIZE = (160, 120)
_PICTURES = 8
# More than a decision takes: the newest frame wins, so that none waits for the camera.
_FPS = 1000


class Receiver:
    """A spool's sender that acknowledges whatever it is handed."""

    window = 100

    def deliver(self, parcels: Sequence[Parcel]) -> Delivery:
        """All of them arrived."""
        numbers = [parcel.seq for parcel in parcels]
        # A tuple made of an iterator is made by shrinking a longer one, and Python caches freed tuples of
        # each length up to 20: 4.5 MB, which looks like a leak until the cache is full.
        return Delivery(tuple(numbers))

    def close(self) -> None:
        """Nothing to close."""


class Leaking:
    """A classifier that keeps 50 kB a minute."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._kept: list[bytes] = []
        self._began_s = time.monotonic()

    @property
    def artifact(self) -> Artifact:
        """The classifier's."""
        return self._classifier.artifact

    def classify(self, frame: Frame) -> Prediction:
        """Classifies, and forgets to forget."""
        due = (time.monotonic() - self._began_s) / 60 * _LEAK_PER_MINUTE
        while len(self._kept) * 1024 < due:
            self._kept.append(b"leak" * 256 + bytes((len(self._kept) % 256,)))
        return self._classifier.classify(frame)


def soaked(part: str, frames: int) -> tuple[SoakReport, LiveStatistics]:
    """Runs one part.

    Args:
        part: a key of ``FRAMES``, or ``leak``.
        frames: how many; of ``leak`` its time counts.
    """
    live = LiveStatistics()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgecls-soak-")))
        opened = stack.enter_context(Classifier.open(GOLDEN / "digits_int8.tflite"))
        lines = open_json_lines(folder / "answers.jsonl", max_bytes=1_000_000, keep=1)
        stack.callback(lines.close)
        spool = Spool(folder / "spool.db", Receiver())
        stack.callback(spool.close)
        source: FrameSource = Noise(*_SIZE)
        if part == "camera":
            source = open_camera(f"fake:{_pictures(folder / 'pictures')}?fps={_FPS}")
        stack.callback(source.close)
        classifier: Classifies = Leaking(opened) if part == "leak" else opened
        samples = soak(
            source,
            classifier,
            [lines, spool],
            seconds=_LEAK_S if part == "leak" else _LONGEST_S,
            limit=None if part == "leak" else frames,
            statistics=live,
            tick=_tell,
        )
    return judge(samples, dict.fromkeys(MEMORY, _ALLOWED_PER_MINUTE)), live


def _pictures(folder: Path) -> Path:
    folder.mkdir()
    for i in range(_PICTURES):
        noise = np.random.default_rng(i).integers(0, 256, (*_SIZE[::-1], 3), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), noise)
    return folder


def _tell(sample: Sample) -> None:
    print(
        f"\r{sample.frames:>9} frames, {sample.seconds / 60:5.1f} min, "
        f"{sample.private_bytes / 1e6:.2f} MB private",
        end="",
        file=sys.stderr,
        flush=True,
    )


def met(part: str, report: SoakReport) -> bool:
    """Whether a part shows what it must."""
    if part == "leak":
        return report.verdict == "fail"
    slopes = [one.per_million for one in report.growths if one.name in MEMORY]
    return len(slopes) == len(MEMORY) and all(
        slope is not None and slope.high <= MOST_PER_MILLION[part] for slope in slopes
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=[*FRAMES, "leak"])
    parser.add_argument("--frames", type=int, help="instead of the part's own")
    arguments = parser.parse_args()
    report, live = soaked(arguments.part, arguments.frames or FRAMES.get(arguments.part, 0))
    print(file=sys.stderr)
    found = {"part": arguments.part, "met": met(arguments.part, report), "dropped": live.dropped}
    print(json.dumps({**found, **report.to_json()}))
    sys.exit(not found["met"])


if __name__ == "__main__":
    main()
