"""The supervised camera: throughput beside its slowest stage, age of the decision, memory.

    python benchmarks/camera_loop.py --model MODEL.tflite [--labels FILE] [--seconds 10]

Three measurements at 1280 x 720, each with the camera in its child process:

* throughput of capture + classification, over the throughput of the slower of the two alone, for a
  camera a fifth faster than the model and for a video file (target: 0.95), and the CPU time that
  read() takes in the classifying process;
* the 95th percentile of a decision's age with 30 frames a second and 50 ms of inference
  (target: 90 ms);
* proportional set size (PSS) of the classifying process and of its child, in MB (target for the
  classifying process: 80 MB).

Each throughput is the median of --rounds interleaved rounds. Exit code 1: a target was missed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from edge_sdk import Classifier, open_camera, open_source
from edge_sdk.errors import NoFrameYetError
from edge_sdk.ports import FrameSource
from edge_sdk.types import Frame

_WIDTH, _HEIGHT = 1280, 720
_INFERENCE_S = 0.050
_PICTURES = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--normalize", help="for third-party models")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pss-only", metavar="CAMERA", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with Classifier.open(
        arguments.model, labels=arguments.labels, normalize=arguments.normalize
    ) as classifier:
        if arguments.pss_only:
            _memory(arguments.pss_only, classifier)
            return
        missed = False
        with tempfile.TemporaryDirectory() as folder:
            camera, video = _pictures(Path(folder))
            fps = 1.2 * _classify_rate(f"fake:{camera}?fps=max", classifier, 1.0)
            for name, spec in (("camera", f"fake:{camera}?fps={fps:.0f}"), ("file", str(video))):
                result = _throughput(spec, classifier, arguments.seconds, arguments.rounds)
                print(json.dumps({"throughput": name, **result}), flush=True)
                missed |= result["share"] < 0.95
            age = _ages(f"fake:{camera}?fps=30", arguments.seconds)
            print(json.dumps(age), flush=True)
            missed |= age["p95_ms"] > 90
            again = [sys.executable, __file__, *sys.argv[1:], "--pss-only", f"fake:{camera}?fps=30"]
            shown = subprocess.run(again, check=True, stdout=subprocess.PIPE, text=True).stdout
            print(shown.strip())
            missed |= json.loads(shown)["classifying_mb"] > 80
    sys.exit(missed)


def _pictures(folder: Path) -> tuple[Path, Path]:
    """A folder of pictures for a camera, and a video."""
    pictures, video = folder / "pictures", folder / "video.avi"
    pictures.mkdir()
    noise = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 30, (_WIDTH, _HEIGHT))
    for i in range(8):
        coarse = noise.integers(0, 256, (9, 16, 3), np.uint8)
        picture = np.kron(coarse, np.ones((80, 80, 1), np.uint8))
        cv2.imwrite(str(pictures / f"{i}.png"), picture)
        for _ in range(75):
            writer.write(picture)
    writer.release()
    return pictures, video


def _throughput(spec: str, classifier: Classifier, seconds: float, rounds: int) -> dict[str, float]:
    rates: dict[str, list[float]] = {"capture": [], "classify": [], "supervised": []}
    for _ in range(rounds):
        each = seconds / rounds
        with contextlib.closing(open_source(spec)) as source:
            rates["capture"].append(_rate(source, lambda frame: frame.pixels.copy(), each))
        rates["classify"].append(_classify_rate(spec, classifier, each))
        with open_camera(spec, frozen_s=None) as camera:
            rates["supervised"].append(_rate(camera, classifier.classify, each))
    with open_camera(spec, frozen_s=None) as camera:
        began = time.process_time()
        fps_read = _rate(camera, lambda _: None, 1.0)
        read_us = 1e6 * (time.process_time() - began) / fps_read
    fps = {name: statistics.median(values) for name, values in rates.items()}
    share = [
        together / min(capture, classify)
        for capture, classify, together in zip(*rates.values(), strict=True)
    ]
    return {
        **{f"{name}_fps": round(value, 1) for name, value in fps.items()},
        "share": round(statistics.median(share), 3),
        "read_cpu_us": round(read_us),
    }


def _classify_rate(spec: str, classifier: Classifier, seconds: float) -> float:
    """Classifies pictures in turn: a single one would stay in the caches, unlike a camera's."""
    with contextlib.closing(open_source(spec)) as source:
        read = (source.read() for _ in range(_PICTURES))
        frames = [replace(frame, pixels=frame.pixels.copy()) for frame in read if frame is not None]
    turns, n, began = itertools.cycle(frames), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        classifier.classify(next(turns))
        n += 1
    return n / (time.perf_counter() - began)


def _rate(source: FrameSource, work: Callable[[Frame], object], seconds: float) -> float:
    n, began = -1, 0.0  # the first frame only starts the clock
    while n < 0 or time.perf_counter() - began < seconds:
        try:
            frame = source.read()
        except NoFrameYetError:
            continue
        if frame is None:
            break
        if n < 0:
            began = time.perf_counter()
        else:
            work(frame)
        n += 1
    return n / (time.perf_counter() - began)


def _ages(spec: str, seconds: float) -> dict[str, float]:
    ages = []
    with open_camera(spec, frozen_s=None) as camera:
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            try:
                frame = camera.read()
            except NoFrameYetError:
                continue
            time.sleep(_INFERENCE_S)
            assert frame is not None
            assert frame.timestamp_ns is not None
            ages.append((time.monotonic_ns() - frame.timestamp_ns) / 1e6)
    return {
        "decisions": len(ages),
        "p50_ms": round(float(np.percentile(ages, 50)), 1),
        "p95_ms": round(float(np.percentile(ages, 95)), 1),
    }


def _memory(spec: str, classifier: Classifier) -> None:
    with open_camera(spec, frozen_s=None) as camera:
        for _ in range(60):
            try:
                frame = camera.read()
            except NoFrameYetError:
                continue
            assert frame is not None
            classifier.classify(frame)
        child = camera._child.pid if camera._child else 0
        classifying, capturing = _pss_mb("self"), _pss_mb(str(child))
    print(
        json.dumps(
            {
                "classifying_mb": round(classifying, 1),
                "capturing_mb": round(capturing, 1),
                "tree_mb": round(classifying + capturing, 1),
            }
        )
    )


def _pss_mb(process: str) -> float:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


if __name__ == "__main__":
    main()
