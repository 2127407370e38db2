"""A Pi camera, with rate, dropped frames and the age of the answers once a second."""

from __future__ import annotations

import signal
import sys
import threading

from edge_sdk import Classifier, EdgeClsError, LiveStatistics, open_camera, run


def print_statistics(live: LiveStatistics, stop: threading.Event) -> None:
    """Prints the loop's statistics once a second, in a thread that does not delay the loop."""
    while not stop.wait(1.0):
        now = live.now()
        if now.last is not None and now.latency_ms is not None:
            answer = f"{now.last.label or 'unknown'} {now.last.score:.2f}"
            age = f", {now.age_ms.p50:.0f} ms old" if now.age_ms is not None else ""
            print(f"{answer}  {now.fps:.1f} per second, {now.dropped} dropped{age}", flush=True)


def main(model: str, camera: str = "picamera") -> int:
    """Runs until Ctrl-C or SIGTERM."""
    stop, live = threading.Event(), LiveStatistics()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with Classifier.open(model, threads=2) as classifier:
            # The image processor scales at no cost, so the camera gets the model's size.
            needs = classifier.artifact.preprocessing
            with open_camera(camera, size=(needs.width, needs.height), note=print) as source:
                threading.Thread(target=print_statistics, args=(live, stop), daemon=True).start()
                done = run(source, classifier, [], stop=stop, statistics=live)
    except EdgeClsError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{done.frames} frames in {done.seconds:.1f} s, {done.dropped} dropped")
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python main.py MODEL [CAMERA]")
    sys.exit(main(*sys.argv[1:]))
