"""What training holds in memory for a tenth of the pictures, and for all of them.

    python benchmarks/memory.py --data trashnet/ --work DIR [--pictures 100000]

Cuts the photographs in --data into tiles of 64 x 64, a folder per class, and trains one epoch on a
tenth of them and on all, each in a process of its own whose memory is read five times a second.
Anonymous memory is the process's own; mapped memory is the disk's cache, which the system takes back
when anybody needs it. Exit code 1: the anonymous memory grew by more than the index of the pictures
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

from edge_sdk.images import read_image
from edge_sdk.preprocess import Preprocessing, preprocess
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
    rows = []
    for count in (arguments.pictures // 10, arguments.pictures):
        tiles = arguments.work / f"tiles-{count}"
        _cut(arguments.data, tiles, count)
        rows.append({"pictures": count, **_train(tiles, arguments.work)})
        print(json.dumps(rows[-1]), flush=True)
    grown = rows[1]["anonymous_mb"] - rows[0]["anonymous_mb"]
    allowed = _INDEX_BYTES * (rows[1]["pictures"] - rows[0]["pictures"]) / 1e6
    print(
        f"anonymous memory grew by {grown:.0f} MB for {rows[1]['pictures'] - rows[0]['pictures']:,}"
    )
    sys.exit(grown > allowed)


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


def _train(tiles: Path, work: Path) -> dict[str, Any]:
    """Trains an epoch; peaks of memory in MB, and seconds."""
    run = work / f"run-{tiles.name}"
    size = (f"data.width={_TILE_PX}", f"data.height={_TILE_PX}")
    words = [word for setting in (*_TRAIN, *size) for word in ("--set", setting)]
    command = ["train", "cifar10-cnn", "--data", tiles, "--out", run, "--cache", work / "cache"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", _EDGECLS, *map(str, command), *words],
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
        raise SystemExit(f"training on {tiles} ended with {process.returncode}")
    return {
        "anonymous_mb": peaks["RssAnon"] / 1000,
        "mapped_mb": peaks["RssFile"] / 1000,
        "seconds": time.perf_counter() - started,
    }


if __name__ == "__main__":
    main()
