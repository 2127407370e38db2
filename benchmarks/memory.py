"""What the host tools hold in memory for a tenth of the pictures, and for all of them.

    python benchmarks/memory.py --data trashnet/ --work DIR [--pictures 100000]

Cuts the photographs in --data into tiles of 64 x 64, a folder per class; trains one epoch on a tenth
of them and on all, converts the result to int8, and validates that on every picture, each in a
process of its own whose memory is read five times a second.
Anonymous memory is the process's own; mapped memory is the disk's cache, which the system reclaims
under memory pressure. Exit code 1: the anonymous memory grew by more than the index of the pictures
explains.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_sdk.vision.images import read_image
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools.data.layouts import find_pictures

_TILE_PX = 64
_TRAIN = ("model.width=0.25", "training.epochs=1", "training.batch_size=256", "training.patience=0")
_EDGECLS = "from host_tools.cli import main; main()"
# A picture's path, digest and label are a line of the index, read twice and held as Python objects.
_INDEX_BYTES = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="photographs to cut into tiles")
    parser.add_argument(
        "--work", type=Path, required=True, help="a folder with some gigabytes left"
    )
    parser.add_argument("--pictures", type=int, default=100_000)
    arguments = parser.parse_args()
    few, many = arguments.pictures // 10, arguments.pictures
    held: dict[str, list[float]] = {}
    for count in (few, many):
        tiles = arguments.work / f"tiles-{count}"
        _cut(arguments.data, tiles, count)
        for name, command in _commands(tiles, arguments.work).items():
            row = _watched(command)
            held.setdefault(name, []).append(row["anonymous_mb"])
            print(json.dumps({"pictures": count, "command": name, **row}), flush=True)
    allowed = _INDEX_BYTES * (many - few) / 1e6
    for name, (before, after) in held.items():
        print(
            f"{name}: anonymous memory grew by {after - before:.0f} MB for {many - few:,} pictures"
        )
    sys.exit(any(after - before > allowed for before, after in held.values()))


def _cut(photographs: Path, out: Path, count: int) -> None:
    """Writes ``count`` tiles, evenly from all photographs; again only what is missing."""
    folder = find_pictures(photographs)
    each = -(-count // len(folder.pictures))
    names = itertools.count()
    for picture in folder.pictures:
        label = out / folder.classes[picture.label]
        label.mkdir(parents=True, exist_ok=True)
        pixels = preprocess(read_image(picture.path), Preprocessing(448, 336, crop="squash"))
        places = np.random.default_rng(picture.path.stat().st_size)
        for _ in range(each):
            name = next(names)
            if name == count:
                return
            top, left = places.integers(0, (336 - _TILE_PX, 448 - _TILE_PX))
            tile = pixels[top : top + _TILE_PX, left : left + _TILE_PX, ::-1]
            path = label / f"{name:06d}.jpg"
            if not path.exists():
                cv2.imwrite(str(path), tile)


def _commands(tiles: Path, work: Path) -> dict[str, list[Path | str]]:
    """What is measured, by its name, in the order in which each needs the one before."""
    run, cache = work / f"run-{tiles.name}", work / "cache"
    size = (f"data.width={_TILE_PX}", f"data.height={_TILE_PX}")
    words = [word for setting in (*_TRAIN, *size) for word in ("--set", setting)]
    data: list[Path | str] = ["--data", tiles]
    artifact = run / "cifar10-cnn_int8.tflite"
    return {
        "train": ["train", "cifar10-cnn", *data, "--out", run, "--cache", cache, *words],
        "convert": ["convert", run, *data, "--cache", cache, "--format", "int8"],
        "validate": ["validate", artifact, "--reference", run, *data, "--split", "all"],
    }


def _watched(command: list[Path | str]) -> dict[str, Any]:
    """Runs a command of ``edgecls``; its peaks of memory in MB, and seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", _EDGECLS, *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peaks = {"RssAnon": 0, "RssFile": 0}
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in peaks:
                peaks[key] = max(peaks[key], int(value.split()[0]))
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"edgecls {command[0]} ended with {process.returncode}")
    return {
        "anonymous_mb": peaks["RssAnon"] / 1000,
        "mapped_mb": peaks["RssFile"] / 1000,
        "seconds": time.perf_counter() - started,
    }


if __name__ == "__main__":
    main()
