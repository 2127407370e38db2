"""Where an inference's time goes: every operator timed as a model of its own."""

from __future__ import annotations

import time

import numpy as np

from edge_sdk.bench.parts import OperatorProfile, OperatorTime
from edge_sdk.engines import open_engine
from edge_sdk.engines.operators import Slice, SliceRunner, slice_operators
from edge_sdk.errors import CorruptArtifactError
from edge_sdk.types import Tensor

_ROUNDS_MIN, _ROUNDS_MAX = 3, 50
# The first run after another operator finds its weights out of the cache, as in the whole model;
# the clock itself takes as long as a small operator: so it is read around several runs.
_SHORT_NS, _REPEAT = 50_000, 5


def profile_operators(
    model: bytes, tensor: Tensor, *, backend: str, threads: int, seconds: float
) -> OperatorProfile:
    """Times each operator alone, in turns with the whole model; the shortest of many rounds counts.

    Shortest, since whatever else runs on the machine only ever adds, and adds more to what takes
    longer (the documentation of Python's ``timeit`` says so of its repetitions): shares stay right.

    Args:
        model: the bytes of a ``.tflite`` file.
        tensor: an input of the whole model, as it stores it.
        backend: a CPU backend of TensorFlow Lite; the operators run in LiteRT.
        threads: for one inference.
        seconds: how long at most, loading aside; three rounds are made in any case.

    Raises:
        EngineNotInstalledError: LiteRT is missing.
        EngineError: the model cannot be cut.
    """
    xnnpack = not backend.endswith("-noxnnpack")
    runners: list[tuple[Slice, SliceRunner]] = []
    alone_cannot: list[str] = []
    for piece in slice_operators(model):
        try:
            runners.append((piece, SliceRunner(piece.model, threads=threads, xnnpack=xnnpack)))
        except CorruptArtifactError:
            alone_cannot.append(piece.operator)
    whole = open_engine(model, backend, threads=threads)
    times = np.zeros((_ROUNDS_MAX, len(runners)))
    wholes = np.zeros(_ROUNDS_MAX)
    clock, until_s, rounds = time.perf_counter_ns, time.perf_counter() + seconds, 0
    try:
        for row in range(_ROUNDS_MAX):
            for column, (_, runner) in enumerate(runners):
                times[row, column] = _timed(runner)
            whole.infer(tensor)
            began = clock()
            whole.infer(tensor)
            wholes[row] = clock() - began
            rounds = row + 1
            if rounds >= _ROUNDS_MIN and time.perf_counter() > until_s:
                break
    finally:
        whole.close()
    shortest = times[:rounds].min(axis=0) / 1e6 if runners else np.zeros(0)
    total = float(shortest.sum())
    return OperatorProfile(
        operators=tuple(
            OperatorTime(piece.index, piece.operator, piece.output, float(ms), float(ms) / total)
            for (piece, _), ms in zip(runners, shortest, strict=True)
        ),
        sum_ms=total,
        whole_ms=float(wholes[:rounds].min()) / 1e6,
        note=f"could not run alone: {', '.join(sorted(set(alone_cannot)))}" if alone_cannot else "",
    )


def _timed(runner: SliceRunner) -> float:
    """Nanoseconds of one run; the mean of several where one is short."""
    run, clock = runner.run, time.perf_counter_ns
    run()
    began = clock()
    run()
    taken = clock() - began
    if taken >= _SHORT_NS:
        return taken
    began = clock()
    for _ in range(_REPEAT):
        run()
    return (clock() - began) / _REPEAT
