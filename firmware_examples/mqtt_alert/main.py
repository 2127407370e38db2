"""Publishes the events of chosen labels to an MQTT broker."""

from __future__ import annotations

import signal
import sys
import threading

from edge_sdk import (
    Classifier,
    Decisions,
    EdgeClsError,
    EventRecord,
    Hysteresis,
    Record,
    Sink,
    open_camera,
    open_mqtt,
    run,
)


class Only:
    """A sink that passes the events of some labels to another sink."""

    def __init__(self, sink: Sink, labels: set[str]) -> None:
        self.sink, self.labels = sink, labels

    def write(self, record: Record) -> None:
        """Passes on events of the chosen labels."""
        if isinstance(record, EventRecord) and record.label in self.labels:
            self.sink.write(record)
            print(f"{record.label} {record.what}", flush=True)

    def close(self) -> None:
        """Closes the sink; undelivered records stay on the disk for the next run."""
        self.sink.close()


def main(model: str, camera: str, broker: str, *labels: str) -> int:
    """Runs until Ctrl-C or SIGTERM; records wait while the broker is unreachable."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    steady = Decisions(events=True, smoothing=Hysteresis(enter=0.7, leave=0.4, frames=3))
    try:
        alert = Only(open_mqtt(broker), set(labels))
        try:
            with Classifier.open(model) as classifier, open_camera(camera) as source:
                run(source, classifier, [alert], decisions=steady, stop=stop)
        finally:
            alert.close()
    except EdgeClsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit("usage: python main.py MODEL CAMERA mqtt://BROKER[/TOPIC] LABEL...")
    sys.exit(main(*sys.argv[1:]))
