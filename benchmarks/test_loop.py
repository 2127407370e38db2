"""``run`` beside the equivalent bare loop: the cost of records, statistics and sinks per frame."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from edge_sdk import Classifier, Frame, JsonLines, read_image, run

_FRAMES = 100
_LOOP = f"{_FRAMES} frames of 32x32 in memory through the loop"


class _Memory:
    """A source that has its frames already."""

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = iter(frames)

    def read(self) -> Frame | None:
        return next(self._frames, None)

    def close(self) -> None:
        pass


@pytest.fixture
def classifier(golden: Path) -> Iterator[Classifier]:
    with Classifier.open(golden / "digits_int8.tflite") as opened:
        yield opened


@pytest.fixture
def frames(golden: Path) -> list[Frame]:
    """Digits in turn, 0 to 9."""
    pictures = [read_image(path).pixels for path in sorted((golden / "digits").glob("*/*.png"))]
    return [Frame(np.array(pictures[i % 10]), index=i) for i in range(_FRAMES)]


@pytest.mark.benchmark(group=_LOOP)
def test_classify_alone(
    benchmark: BenchmarkFixture, classifier: Classifier, frames: list[Frame]
) -> None:
    def loop() -> list[str | None]:
        return [classifier.classify(frame).label for frame in frames]

    assert loop() == [str(i % 10) for i in range(_FRAMES)]
    benchmark(loop)


@pytest.mark.benchmark(group=_LOOP)
def test_run_without_sinks(
    benchmark: BenchmarkFixture, classifier: Classifier, frames: list[Frame]
) -> None:
    def loop() -> int:
        return run(_Memory(frames), classifier, []).frames

    assert loop() == _FRAMES
    benchmark(loop)


@pytest.mark.benchmark(group=_LOOP)
def test_run_to_json_lines(
    benchmark: BenchmarkFixture, classifier: Classifier, frames: list[Frame], tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    with out.open("w") as file:
        sink = JsonLines(file)

        def loop() -> int:
            file.seek(0)
            return run(_Memory(frames), classifier, [sink]).frames

        assert loop() == _FRAMES
        file.flush()
        lines = out.read_text("utf-8").splitlines()
        assert [json.loads(line)["label"] for line in lines] == [
            str(i % 10) for i in range(_FRAMES)
        ]
        benchmark(loop)
