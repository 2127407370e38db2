"""Two models on one camera: a small one looks at every frame, a second at what is worth it."""

from __future__ import annotations

import signal
import sys
import threading

from edge_sdk import Classifier, EdgeClsError, Frame, FrameRecord, Record, open_camera, run


class SecondOpinion:
    """A sink that is shown the pictures, too: asks another model where the first is in doubt."""

    def __init__(self, classifier: Classifier, below: float) -> None:
        self.classifier, self.below = classifier, below
        self.seen = self.asked = self.agreed = 0

    def write(self, record: Record) -> None:
        """Has nothing to do with records alone."""

    def see(self, frame: Frame, record: FrameRecord) -> None:
        """``frame`` is valid during this call; the loop goes on with the newest one afterwards."""
        self.seen += 1
        if record.score < self.below:
            answer = self.classifier.classify(frame)
            self.asked += 1
            self.agreed += answer.label == record.label
            print(f"{record.label} {record.score:.2f}, or {answer.label} {answer.score:.2f}")

    def close(self) -> None:
        """The classifier is closed by whoever opened it."""


def main(quick: str, careful: str, camera: str = "auto", below: str = "0.9") -> int:
    """Runs until Ctrl-C or SIGTERM, or until the camera has no more."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with Classifier.open(quick) as first, Classifier.open(careful) as second:
            opinion = SecondOpinion(second, float(below))
            with open_camera(camera) as source:
                run(source, first, [opinion], stop=stop)
    except EdgeClsError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{opinion.seen} frames, {opinion.asked} asked again, {opinion.agreed} agreed")
    return 0


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 5:
        sys.exit("usage: python main.py QUICK_MODEL CAREFUL_MODEL [CAMERA] [BELOW]")
    sys.exit(main(*sys.argv[1:]))
