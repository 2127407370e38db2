"""Runtimes and models that misbehave, each in a way of its own.

Runtimes are opened in fresh processes, by their names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.errors import EngineError, EngineNotInstalledError, SelfTestError
from edge_sdk.types import Frame, Prediction, Timing
from host_tools.predict import Opening

LABELS = ("dark", "bright")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Answers by the brightness of a picture, but for what its name says."""

    name: str

    def classify(self, frame: Frame) -> Prediction:
        bright = float(frame.pixels.mean() / 255)
        if bright > 0.95:  # pictures of the tests that set off what is to happen
            if self.name == "crashes":
                os.abort()
            if self.name == "hangs":
                time.sleep(60)
            if self.name == "fails":
                raise EngineError("inference failed: out of luck")
            if self.name == "leaves":
                os._exit(3)
        if self.name == "contradicts" or (self.name == "once" and bright > 0.95):
            bright = 1 - bright
        if self.name == "rounds":
            bright = round(bright * 64) / 64
        scores = np.array([1 - bright, bright], np.float32)
        return Prediction(0, scores, LABELS, Timing(0, 0, 0), 0.0)

    def close(self) -> None:
        """Nothing to give back."""


def open_runtime(path: Path, opening: Opening) -> Runtime:
    """Stands in for ``open_quietly``; the backend is the name."""
    if opening.backend == "absent":
        raise EngineNotInstalledError("backend absent needs the package absent; pip install absent")
    if opening.backend == "damaged":
        raise SelfTestError(f"{path}: answers its golden self-test differently")
    if opening.backend == "crashes-at-once":
        os.abort()
    return Runtime(opening.backend)


def as_third_party(
    artifact: Path, path: Path, bias: Mapping[int, float] | None = None
) -> tuple[Path, tuple[object, ...]]:
    """The golden float16 digits as a third-party file, and the options that describe it.

    Args:
        artifact: the golden file.
        path: where the copy is written, with a file of labels beside it.
        bias: added to the logits of these classes.
    """
    from host_tools.tflite import pack_model, unpack_model

    model = unpack_model(artifact.read_bytes())
    model.metadata = []
    graph = model.subgraphs[0]
    (tensor,) = [t for t in graph.tensors if t.name.endswith(b"logits_1/BiasAdd")]
    values = bytes(model.buffers[tensor.buffer].data)
    changed = np.frombuffer(values, np.float16).copy()
    for index, more in (bias or {}).items():
        changed[index] += np.float16(more)
    model.buffers[tensor.buffer].data = np.frombuffer(changed.tobytes(), np.uint8)
    path.write_bytes(pack_model(model))
    labels = path.with_suffix(".txt")
    labels.write_text("".join(f"{digit}\n" for digit in range(10)))
    return path, ("--labels", labels, "--normalize", "raw", "--crop", "center")
