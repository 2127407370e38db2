"""Classifies pictures on a Coral Edge TPU and prints the inference time."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from edge_sdk import Classifier, EdgeClsError, read_image
from edge_sdk.errors import DelegateError


def main(model: str, folder: str, device: str = "usb:0") -> int:
    """Returns the exit code: 5 without an Edge TPU or libedgetpu; there is no CPU fallback."""
    pictures = [path for path in sorted(Path(folder).rglob("*")) if path.suffix in (".jpg", ".png")]
    if not pictures:
        print(f"{folder}: no .jpg or .png in it; name a folder of pictures", file=sys.stderr)
        return 2
    times_ms = []
    try:
        with Classifier.open(model, backend=f"edgetpu:{device}") as classifier:
            for path in pictures:
                prediction = classifier.classify(read_image(path))
                times_ms.append(prediction.timing.inference_ms)
                print(f"{path.name}: {prediction.label or 'unknown'} ({prediction.score:.2f})")
    except DelegateError as error:
        print(error, file=sys.stderr)
        return 5
    except EdgeClsError as error:
        print(error, file=sys.stderr)
        return 1
    # The first inference also transfers the weights over USB.
    print(f"first {times_ms[0]:.1f} ms, then {statistics.median(times_ms[1:] or times_ms):.1f} ms")
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python main.py MODEL FOLDER [usb:N|pci:N]")
    sys.exit(main(*sys.argv[1:]))
