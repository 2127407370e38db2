"""How long one inference takes, measured in turns so that whatever slows the machine slows all."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact.tflite import summarize
from edge_sdk.engines import open_engine
from edge_sdk.vision.tensors import RAW, Encoder

_WARM_UP = 3
_FEWEST, _MOST = 15, 400


def latencies_ms(
    flatbuffers: Sequence[bytes], picture: NDArray[np.uint8], seconds: float = 1.0
) -> list[float]:
    """Median milliseconds of one inference of each model, one thread.

    Args:
        flatbuffers: models of the same input size.
        picture: ``(H, W, C)`` uint8.
        seconds: about how long to measure in all; at least 15 rounds are made.
    """
    engines = [open_engine(flatbuffer, threads=1) for flatbuffer in flatbuffers]
    tensors = [
        Encoder(summarize(flatbuffer, "the model").inputs[0], RAW)(picture).copy()
        for flatbuffer in flatbuffers
    ]
    for engine, tensor in zip(engines, tensors, strict=True):
        for _ in range(_WARM_UP):
            engine.infer(tensor)
    rounds: list[list[int]] = []
    until = time.perf_counter() + seconds
    while len(rounds) < _FEWEST or (time.perf_counter() < until and len(rounds) < _MOST):
        row = []
        for engine, tensor in zip(engines, tensors, strict=True):
            started = time.perf_counter_ns()
            engine.infer(tensor)
            row.append(time.perf_counter_ns() - started)
        rounds.append(row)
    for engine in engines:
        engine.close()
    return [float(value) for value in np.median(rounds, axis=0) / 1e6]
