"""Switches a pin on while a label is seen: a lamp, a relay, a flap."""

from __future__ import annotations

import signal
import sys
import threading

from gpiozero import OutputDevice

from edge_sdk import (
    Classifier,
    Decisions,
    EdgeClsError,
    EventRecord,
    Hysteresis,
    Record,
    open_camera,
    run,
)


class Switch:
    """A sink: the pin is on from ``appeared`` to ``left``, and off at the end whatever happens."""

    def __init__(self, pin: OutputDevice, label: str) -> None:
        self.pin, self.label = pin, label

    def write(self, record: Record) -> None:
        """Switches the pin upon events of the label."""
        if isinstance(record, EventRecord) and record.label == self.label:
            self.pin.value = record.what == "appeared"
            print(f"{self.pin.pin} {'on' if self.pin.value else 'off'}: {record.label}", flush=True)

    def close(self) -> None:
        """Switches the pin off."""
        self.pin.close()


def main(model: str, camera: str, pin: str, label: str) -> int:
    """Runs until Ctrl-C or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # A single wrong answer must not move a flap: three frames above or below the limits switch.
    steady = Decisions(events=True, smoothing=Hysteresis(enter=0.7, leave=0.4, frames=3))
    switch = Switch(OutputDevice(pin), label)
    try:
        with Classifier.open(model) as classifier, open_camera(camera) as source:
            run(source, classifier, [switch], decisions=steady, stop=stop)
    except EdgeClsError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        switch.close()
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python main.py MODEL CAMERA PIN LABEL")
    sys.exit(main(*sys.argv[1:]))
