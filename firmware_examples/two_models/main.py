"""Two models on one camera: a small one for every frame, a second one for low scores."""

from __future__ import annotations

import signal
import sys
import threading

from edge_sdk import Classifier, EdgeClsError, Frame, FrameRecord, Record, open_camera, run


class SecondOpinion:
    """A sink with ``see``: classifies frames with a low score with another model as well."""

    def __init__(self, classifier: Classifier, below: float) -> None:
        self.classifier, self.below = classifier, below
        self.seen = self.asked = self.agreed = 0

    def write(self, record: Record) -> None:
        """Does nothing: `see` gets the record as well."""

    def see(self, frame: Frame, record: FrameRecord) -> None:
        """``frame`` is valid during this call; afterwards the loop continues with the newest one."""
        self.seen += 1
        if record.score < self.below:
            answer = self.classifier.classify(frame)
            self.asked += 1
            self.agreed += answer.label == record.label
            print(f"{record.label} {record.score:.2f}, or {answer.label} {answer.score:.2f}")

    def close(self) -> None:
        """Does nothing: `main` closes the classifier."""


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
