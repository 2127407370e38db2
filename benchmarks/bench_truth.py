"""Whether ``edgecls bench`` is correct: ``python -m benchmarks.bench_truth [--seconds S]``.

Its inference p50 is compared with a bare loop over LiteRT's interpreter (set_tensor, invoke,
get_tensor) that runs in turns with it: both must agree within 3 %, turn by turn, for three
public models that take a millisecond or more. The bare loop makes its tensor from the same pictures
with OpenCV, untimed: in every program, reading a picture evicts the model from the processor's
caches. The time of a loop over one tensor, with warm caches, is printed beside it ("by hot").
Exit code 1: one model does not agree.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.public_model import PUBLIC_DATA
from edge_sdk import Frame
from edge_sdk.artifact import Artifact
from edge_sdk.bench.measure import begin_measurement
from edge_sdk.bench.plan import OpeningOptions
from edge_sdk.bench.results import Samples
from edge_sdk.bench.timing import LatencyTimer, time_interleaved

WITHIN = 0.03
LEAST_MS = 1.0
MODELS = (
    "tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "mobilenet_v2_1.0_224_quant.tflite",
    "mobilenet_v1_0.25_224_1_metadata_1.tflite",
)


class BareLoop:
    """A minimal loop around an interpreter; timed outside of our code.

    Args:
        artifact: its model.
        again: the first picture's tensor is taken every time.
    """

    def __init__(self, artifact: Artifact, *, again: bool = False) -> None:
        self._interpreter = Interpreter(model_content=artifact.data, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._tensor = np.zeros(artifact.input.shape, artifact.input.dtype)
        height, width = artifact.input.shape[1:3]
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._again, self._filled = again, False

    def classify(self, frame: Frame) -> Any:
        """The timing of one inference, in the shape that a timer wants."""
        if not (self._again and self._filled):
            cv2.resize(
                frame.pixels, self._pixels.shape[1::-1], self._pixels, interpolation=cv2.INTER_AREA
            )
            np.copyto(self._tensor[0], self._pixels, casting="unsafe")
            self._filled = True
        interpreter = self._interpreter
        began = time.perf_counter_ns()
        interpreter.set_tensor(self._input, self._tensor)
        interpreter.invoke()
        interpreter.get_tensor(self._output)
        return SimpleNamespace(timing=(0.0, (time.perf_counter_ns() - began) / 1e6, 0.0))

    def close(self) -> None:
        """Nothing to give back."""


def agreement(path: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Both medians of one model, in milliseconds, and what the report's is to the bare one's."""
    measurement = begin_measurement(OpeningOptions(path), None)
    artifact, frames = Artifact.open(path), measurement.timer.frames
    bare = LatencyTimer(BareLoop(artifact), frames)  # type: ignore[arg-type]  # has the verbs
    hot = LatencyTimer(BareLoop(artifact, again=True), frames)  # type: ignore[arg-type]
    failures: list[Exception] = []
    time_interleaved(
        [measurement.timer, bare, hot],
        seconds=seconds,
        precision_percent=0.0,
        seed=seed,
        failed=lambda _, error: failures.append(error),
    )
    measurement.timer.close()
    if failures:
        raise failures[0]
    measurement.take_samples(0.0)
    reported = measurement.result.to_json()["stages_ms"]["inference"]
    mine, theirs = measurement.result.samples, bare.samples()
    true = float(np.median(theirs.inference_ms))
    paired = ratio_of_turns(mine, theirs)
    return {
        "model": path.name,
        "runs": len(measurement.result.samples),
        "report_ms": reported,
        "bare_ms": true,
        "ratio": reported / true,
        "ratio_of_turns": paired,
        "ratio_to_hot": ratio_of_turns(mine, hot.samples()),
        "within": abs(paired - 1) <= WITHIN and true >= LEAST_MS,
    }


def ratio_of_turns(ours: Samples, theirs: Samples) -> float:
    """The median over the turns that both had of the ratio of their inferences."""
    mine, others = by_turn(ours), by_turn(theirs)
    return float(np.median([mine[turn] / others[turn] for turn in mine.keys() & others.keys()]))


def by_turn(samples: Samples) -> dict[int, float]:
    """The median inference of each turn, ms: two loops of one turn met the same machine."""
    blocks, times = np.array(samples.block), np.array(samples.inference_ms)
    return {int(block): float(np.median(times[blocks == block])) for block in np.unique(blocks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each model and each loop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    print(
        f"{'model':<44}{'runs':>7}{'report ms':>11}{'bare ms':>9}{'ratio':>7}{'by turn':>9}"
        f"{'by hot':>8}  within 3 %"
    )
    for name in MODELS:
        row = agreement(PUBLIC_DATA / "models" / name, arguments.seconds, arguments.seed)
        rows.append(row)
        print(
            f"{row['model']:<44}{row['runs']:>7}{row['report_ms']:>11.3f}{row['bare_ms']:>9.3f}"
            f"{row['ratio']:>7.3f}{row['ratio_of_turns']:>9.3f}{row['ratio_to_hot']:>8.3f}"
            f"  {'yes' if row['within'] else 'NO'}",
            flush=True,
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all(row["within"] for row in rows) else 1)


if __name__ == "__main__":
    main()
