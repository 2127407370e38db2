"""Saves pictures with low scores for the next training, in a folder per answer."""

from __future__ import annotations

import signal
import sys
import threading

from edge_sdk import EdgeClsError, ReloadingClassifier, SaveFrames, Wanted, open_camera, run


def main(model: str, folder: str, camera: str = "auto", below: str = "0.6") -> int:
    """Runs until Ctrl-C or SIGTERM; a new model renamed over the old one replaces it."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Pictures with low scores alone are a biased sample, so two an hour are saved in any case.
    wanted = Wanted(below_score=float(below), below_margin=0.1, per_hour=2)
    try:
        keep = SaveFrames(folder, wanted, max_bytes=200_000_000, min_interval_s=1)
        try:
            with ReloadingClassifier(model) as classifier, open_camera(camera) as source:
                done = run(source, classifier, [keep], stop=stop)
        finally:
            keep.close()
    except EdgeClsError as error:
        print(error, file=sys.stderr)
        return 1
    kept = keep.statistics
    print(f"{done.frames} frames, {kept.saved} kept in {folder}, {kept.same_scene} seen before")
    return 0


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 5:
        sys.exit("usage: python main.py MODEL FOLDER [CAMERA] [BELOW]")
    sys.exit(main(*sys.argv[1:]))
