"""Which way to int8 keeps the float network's answers: TensorFlow's converter, or ours step by step.

Every model is a run directory; it is converted in each way with the same calibration pictures and
evaluated on the same pictures of a split. Prints a table in Markdown, and JSON with --json.

    python benchmarks/int8_methods.py RUN DATA [RUN DATA]... --split validation
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact.tflite import summarize
from edge_sdk.engines import open_engine
from edge_sdk.vision.tensors import RAW, Encoder
from host_tools.data.load import DataPlace, Dataset, load_for
from host_tools.extras import muted, require
from host_tools.quantize.activations import observe
from host_tools.quantize.calibrate import drawn_from
from host_tools.quantize.convert import _logits_model, float_graph
from host_tools.quantize.graph import append_softmax
from host_tools.quantize.int8 import Treatment, quantized
from host_tools.run_directory import find_trained
from host_tools.third_party.keras import load_keras
from host_tools.validate.statistics import drop_interval

_TREATMENTS = {
    "ours, minmax": Treatment(ranges="minmax", equalized=False, corrected=False),
    "ours, percentile": Treatment(ranges="percentile", equalized=False, corrected=False),
    "ours, mse": Treatment(ranges="mse", equalized=False, corrected=False),
    "ours, mse, equalised": Treatment(ranges="mse", equalized=True, corrected=False),
    "ours, minmax, biases corrected": Treatment(ranges="minmax", equalized=False),
    "ours, mse, biases corrected": Treatment(ranges="mse", equalized=False),
    "ours, all of it": Treatment(),
}


def main() -> None:
    """Measures every model in every way, and pools."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("places", nargs="+", type=Path, metavar="RUN DATA")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--only", action="append", help="one of the ways, by its name in the table")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pairs = list(zip(arguments.places[::2], arguments.places[1::2], strict=True))
    answers: dict[str, list[NDArray[np.float32]]] = {}
    seconds: dict[str, float] = {}
    truth: list[NDArray[np.int64]] = []
    for run, data in pairs:
        trained = find_trained(run)
        assert trained.recipe is not None
        dataset = load_for(trained.recipe, DataPlace(data), _say)
        truth.append(dataset.splits[arguments.split].labels)
        for name, (scores, took) in _measured(
            trained.path, dataset, arguments.split, arguments.only
        ).items():
            answers.setdefault(name, []).append(scores)
            seconds[name] = seconds.get(name, 0.0) + took
    figures = _figures(answers, np.concatenate(truth), seconds)
    print("| | accuracy | drop, points (95 %) | agreement | mean KL | seconds |")
    print("|---|---|---|---|---|---|")
    for name, row in figures.items():
        low, high = row["drop_ci95"]
        print(
            f"| {name} | {100 * row['accuracy']:.2f} % | {row['drop']:+.2f} ({low:+.2f} to {high:+.2f}) "
            f"| {100 * row['agreement']:.2f} % | {row['kl']:.4f} | {row['seconds']:.1f} |",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


def _measured(
    path: Path, dataset: Dataset, split: Any, only: list[str] | None
) -> dict[str, tuple[Any, float]]:
    model = load_keras(path)
    subset = dataset.splits[split]
    pixels = subset.pixels()
    calibration = drawn_from(dataset, "train", 200, 0).anchored()
    found: dict[str, tuple[Any, float]] = {}

    def measure(name: str, make: Callable[[], bytes]) -> None:
        if only is not None and name not in (*only, "float32"):
            return
        started = time.perf_counter()
        flatbuffer = make()
        took = time.perf_counter() - started
        found[name] = (_scores(flatbuffer, pixels), took)
        right = float((found[name][0].argmax(axis=1) == subset.labels).mean())
        _say(f"{path.parent.name}: {name}: {100 * right:.2f} %, {took:.1f} s")

    graph = float_graph(model)
    measure("float32", lambda: append_softmax(graph.pack()))
    measure("TensorFlow's converter", lambda: append_softmax(_tensorflow(model, calibration)))
    started = time.perf_counter()
    observed = observe(graph, calibration)
    observing = time.perf_counter() - started
    for name, treatment in _TREATMENTS.items():

        def make(treatment: Treatment = treatment) -> bytes:
            return quantized(graph, observed, calibration, treatment)

        measure(name, make)
        if name in found:
            found[name] = (found[name][0], found[name][1] + observing)
    return found


def _tensorflow(model: Any, calibration: NDArray[np.uint8]) -> bytes:
    tf = require("tensorflow")
    converter = tf.lite.TFLiteConverter.from_keras_model(_logits_model(model))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [picture[np.newaxis].astype(np.float32)] for picture in calibration
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    with warnings.catch_warnings(), muted():
        warnings.simplefilter("ignore")
        flatbuffer: bytes = converter.convert()
    return flatbuffer


def _scores(flatbuffer: bytes, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    engine = open_engine(flatbuffer, threads=1)
    encode = Encoder(summarize(flatbuffer, "the model").inputs[0], RAW)
    scores = np.stack([engine.infer(encode(picture))[0] for picture in pixels])
    engine.close()
    return scores


def _figures(
    answers: dict[str, list[NDArray[np.float32]]],
    truth: NDArray[np.int64],
    seconds: dict[str, float],
) -> dict[str, dict[str, Any]]:
    reference = np.concatenate(answers["float32"])
    before = reference.argmax(axis=1) == truth
    rows = {}
    for name, parts in answers.items():
        scores = np.concatenate(parts)
        answer = scores.argmax(axis=1)
        after = answer == truth
        lost, won = int((before & ~after).sum()), int((~before & after).sum())
        low, high = drop_interval(lost, won, len(truth))
        tiny = 1e-7
        divergence = reference * (np.log(reference + tiny) - np.log(scores + tiny))
        rows[name] = {
            "accuracy": float(after.mean()),
            "drop": 100 * (lost - won) / len(truth),
            "drop_ci95": (100 * low, 100 * high),
            "agreement": float((answer == reference.argmax(axis=1)).mean()),
            "kl": float(divergence.sum(axis=1).mean()),
            "seconds": seconds[name],
        }
    return rows


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
