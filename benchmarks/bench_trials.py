"""Whether ``--max-regress`` detects a slowdown: ``python -m benchmarks.bench_trials [--trials N]``.

Each trial times a real engine in three sessions, one after another as with a stored baseline: twice
unchanged, and once slowed down by a fifth (it computes for that much longer). The gate with 10 %
must flag the slow one in at least 95 % of the trials and the equal one in at most 2 %. The result
includes the machine's own noise: a busy one gives "inconclusive", which flags nothing. The state of
the machine is printed below. Exit code 1: a target is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

from benchmarks.public_model import GOLDEN
from edge_sdk import Classifier, Frame
from edge_sdk.bench.compare import change_interval, judge
from edge_sdk.bench.measure import begin_measurement
from edge_sdk.bench.plan import OpeningOptions
from edge_sdk.bench.results import ModelResult
from edge_sdk.bench.timing import time_interleaved
from edge_sdk.machine.watch import Watch

BUDGET = 10.0
SLOWER = 1.2


class Slowed:
    """A real classifier whose engine takes so much longer that the whole does, by a factor."""

    def __init__(self, classifier: Classifier, factor: float) -> None:
        self._classifier = classifier
        self._factor = factor

    def classify(self, frame: Frame) -> Any:
        """Classifies, then computes for its share of the time; returns the timing of both."""
        clock = time.perf_counter_ns
        began = clock()
        self._classifier.classify(frame)
        until = began + (clock() - began) * self._factor
        while clock() < until:
            pass
        return SimpleNamespace(timing=(0.0, (clock() - began) / 1e6, 0.0))

    def close(self) -> None:
        """Closes the classifier."""
        self._classifier.close()


def timed(
    opening: OpeningOptions, seconds: float, seed: int, factor: float, watch: Watch
) -> ModelResult:
    """One session."""
    measurement = begin_measurement(opening, None)
    measurement.timer.classifier = Slowed(measurement.timer.classifier, factor)  # type: ignore[assignment]  # has the verbs
    errors: list[Exception] = []
    time_interleaved(
        [measurement.timer],
        seconds=seconds,
        precision_percent=0.0,
        seed=seed,
        between=watch.sample,
        failed=lambda _, error: errors.append(error),
    )
    measurement.timer.close()
    if errors:
        raise errors[0]
    measurement.take_samples(0.0)
    return measurement.result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a session")
    arguments = parser.parse_args()
    opening = OpeningOptions(GOLDEN / "digits_float16.tflite")
    verdicts: dict[str, Counter[str]] = {"equal": Counter(), "a fifth slower": Counter()}
    watch = Watch()
    watch.start()
    for trial in range(arguments.trials):
        sessions = [
            timed(opening, arguments.seconds, 3 * trial + i, factor, watch)
            for i, factor in enumerate((1.0, 1.0, SLOWER))
        ]
        for name, after in zip(verdicts, sessions[1:], strict=True):
            verdicts[name][judge(change_interval(sessions[0], after, trial), BUDGET)] += 1
    for name, counts in verdicts.items():
        print(
            f"{name:<16}"
            + "".join(f"{w:>14}: {counts[w]}" for w in ("fail", "inconclusive", "pass"))
        )
    found = verdicts["a fifth slower"]["fail"] / arguments.trials
    wrong = verdicts["equal"]["fail"] / arguments.trials
    for reason in watch.invalid_reasons():
        print(f"the machine was in no state to be measured: {reason}")
    print(f"found {found:.1%} (at least 95 %), wrongly flagged {wrong:.1%} (at most 2 %)")
    sys.exit(0 if found >= 0.95 and wrong <= 0.02 else 1)


if __name__ == "__main__":
    main()
