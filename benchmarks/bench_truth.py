"""Whether ``edgecls bench`` tells the truth: ``python -m benchmarks.bench_truth [--seconds S]``.

Its inference p50 is held against a bare loop over LiteRT's interpreter (set_tensor, invoke,
get_tensor) that takes its turns in the same run: both must agree within 3 %, turn by turn, for three
public models that take a millisecond or more. Exit code 1: one does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.public_model import PUBLIC_DATA
from edge_sdk import Frame
from edge_sdk.artifact import Artifact
from edge_sdk.bench.draft import begin_draft
from edge_sdk.bench.lane import Lane
from edge_sdk.bench.opening import Opening
from edge_sdk.bench.parts import Samples
from edge_sdk.bench.turns import take_turns

WITHIN = 0.03
LEAST_MS = 1.0
MODELS = (
    "tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "mobilenet_v2_1.0_224_quant.tflite",
    "mobilenet_v1_0.25_224_1_metadata_1.tflite",
)


class BareLoop:
    """What anybody would write around an interpreter; timed from outside of our code."""

    def __init__(self, artifact: Artifact) -> None:
        self._interpreter = Interpreter(model_content=artifact.data, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        dtype = np.dtype(artifact.input.dtype)
        self._tensor = np.random.default_rng(0).integers(0, 127, artifact.input.shape).astype(dtype)

    def classify(self, _frame: Frame) -> Any:
        """The timing of one inference, in the shape that a lane wants."""
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
    draft = begin_draft(Opening(path), None)
    bare = Lane(BareLoop(Artifact.open(path)), draft.lane.frames)  # type: ignore[arg-type]  # has the verbs
    failures: list[Exception] = []
    take_turns(
        [draft.lane, bare],
        seconds=seconds,
        precision_percent=0.0,
        seed=seed,
        failed=lambda _, error: failures.append(error),
    )
    draft.lane.close()
    if failures:
        raise failures[0]
    draft.take_samples(0.0)
    told = draft.result.to_json()["stages_ms"]["inference"]
    mine, others = draft.result.samples, bare.samples()
    ours, theirs = mine.inference_ms, others.inference_ms
    true = float(np.median(theirs))
    turns = by_turn(mine), by_turn(others)
    ratios = [turns[0][turn] / turns[1][turn] for turn in sorted(turns[0].keys() & turns[1].keys())]
    paired = float(np.median(ratios))
    return {
        "model": path.name,
        "runs": len(draft.result.samples),
        "report_ms": told,
        "bare_ms": true,
        "ratio": told / true,
        "ratio_of_turns": paired,
        # Where the median misses and this does not, it was the machine's other work.
        "ratio_p10": float(np.percentile(ours, 10) / np.percentile(theirs, 10)),
        "within": abs(paired - 1) <= WITHIN and true >= LEAST_MS,
    }


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
        f"{'of p10':>8}  within 3 %"
    )
    for name in MODELS:
        row = agreement(PUBLIC_DATA / "models" / name, arguments.seconds, arguments.seed)
        rows.append(row)
        print(
            f"{row['model']:<44}{row['runs']:>7}{row['report_ms']:>11.3f}{row['bare_ms']:>9.3f}"
            f"{row['ratio']:>7.3f}{row['ratio_of_turns']:>9.3f}{row['ratio_p10']:>8.3f}"
            f"  {'yes' if row['within'] else 'NO'}",
            flush=True,
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all(row["within"] for row in rows) else 1)


if __name__ == "__main__":
    main()
