"""Prints what appears before a camera and what leaves."""

from __future__ import annotations

import signal
import sys
import threading

from edge_sdk import (
    Attention,
    Decisions,
    EdgeClsError,
    EventRecord,
    HealthRecord,
    Hysteresis,
    Record,
    ReloadingClassifier,
    open_camera,
    run,
)


class Doorman:
    """A sink: any object with ``write`` and ``close`` will do."""

    def write(self, record: Record) -> None:
        """Prints events, and health records to standard error."""
        if isinstance(record, EventRecord):
            after = f" after {record.seconds:.1f} s" if record.what == "left" else ""
            print(f"{record.label} {record.what}{after}", flush=True)
        elif isinstance(record, HealthRecord):
            print(f"{record.what}: {record.detail}", file=sys.stderr)

    def close(self) -> None:
        """Does nothing: there are no resources to release."""


def main(model: str, camera: str = "auto") -> int:
    """Runs until SIGTERM or Ctrl-C; returns the exit code, 1 after an error."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    decisions = Decisions(events=True, smoothing=Hysteresis(enter=0.7, leave=0.4, frames=3))
    attention = Attention(max_fps=10)
    try:
        with ReloadingClassifier(model) as classifier, open_camera(camera) as source:
            run(
                source, classifier, [Doorman()], attention=attention, decisions=decisions, stop=stop
            )
    except EdgeClsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python main.py MODEL [CAMERA]")
    sys.exit(main(*sys.argv[1:]))
