"""The protocol of all workers: how they start, take orders and answer.

    python WORKER once  MODEL LABELS FRAME.npy       one answer from a fresh process, then its memory
    python WORKER serve MODEL LABELS FRAME.npy...    orders on standard input, answers on standard output

Orders and answers are lines of JSON. ``{"do": "answers"}`` gives the top five of each frame,
``{"do": "time", "runs": N}`` the milliseconds of N runs and the processor time of all of them; the
end of the input ends the worker. Standard library and numpy only: it runs in every environment.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

TOP_K = 5
# The other peers have run meanwhile and have the caches.
_WARM_UP = 2

Answer = list[tuple[str, float]]  # best first, with scores of 0 to 1
Classify = Callable[[Any], Any]


def serve(open_peer: Callable[[str, list[str]], tuple[Callable[[Any], Answer], Classify]]) -> None:
    """Runs a worker to its end.

    Args:
        open_peer: opens a model with its labels, and gives what answers a frame, and what is timed:
            the same function, but for the bare ``invoke``.
    """
    mode, model, labels, *frames = sys.argv[1:]
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if mode == "once":
        _once(open_peer, model, labels, frames[0], answers)
    else:
        _serve(open_peer, model, labels, frames, answers)


def _once(open_peer: Any, model: str, labels: str, frame: str, answers: Any) -> None:
    classify, _ = open_peer(model, _lines(labels))
    _say(answers, classify(np.load(frame)))
    _say(answers, {"peak_rss_mb": _peak_rss_mb()})
    answers.close()
    os._exit(0)  # a library's shutdown is not measured


def _serve(open_peer: Any, model: str, labels: str, names: list[str], answers: Any) -> None:
    classify, timed = open_peer(model, _lines(labels))
    frames = [np.load(name) for name in names]
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "answers":
            _say(answers, [classify(frame) for frame in frames])
        else:
            _say(answers, _time(timed, frames, order["runs"]))


def _time(timed: Classify, frames: list[Any], runs: int) -> dict[str, Any]:
    turns = itertools.cycle(frames)
    for frame in itertools.islice(turns, _WARM_UP):
        timed(frame)
    times_ms = []
    cpu_began = time.process_time_ns()
    for frame in itertools.islice(turns, runs):
        began = time.perf_counter_ns()
        timed(frame)
        times_ms.append((time.perf_counter_ns() - began) / 1e6)
    return {"ms": times_ms, "cpu_ms": (time.process_time_ns() - cpu_began) / 1e6 / runs}


def top(scores: Any, labels: list[str]) -> Answer:
    """The best labels of ``(C,)`` probabilities, uint8 ones of 0 to 255 included."""
    best = np.argsort(scores)[-TOP_K:][::-1]
    scale = 1 / 256 if scores.dtype == np.uint8 else 1.0
    return [(labels[i], float(scores[i]) * scale) for i in best]


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def _say(answers: Any, content: Any) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def _peak_rss_mb() -> float:
    """Most memory so far, in MB, as the kernel counts it: shared libraries included."""
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6
