"""A validation beside the two bare loops that it compares, and its statistics."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

pytest.importorskip("sklearn", reason="the extra [host] is not installed")

from edge_sdk import Classifier, read_image
from host_tools.data.digits import write_digits
from host_tools.validate.statistics import drop_interval, mcnemar_p
from host_tools.validate.validation import validate

_ROUNDS = 5
_EACH = 30  # of the ten digits
_DIGITS = f"two models on {10 * _EACH} digits"
_STATISTICS = "statistics of a drop, 10,000 pictures"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole = write_digits(tmp_path_factory.mktemp("digits") / "whole")
    for digit in whole.iterdir():
        for path in sorted(digit.iterdir())[_EACH:]:
            path.unlink()
    return whole


@pytest.mark.benchmark(group=_DIGITS)
def test_two_loops_alone(benchmark: BenchmarkFixture, golden: Path, digits: Path) -> None:
    paths = sorted(digits.rglob("*.png"))

    def loops() -> list[float]:
        accuracies = []
        for name in ("digits_int8", "digits_float16"):
            with Classifier.open(golden / f"{name}.tflite") as classifier:
                right = [classifier.classify(read_image(p)).label == p.parent.name for p in paths]
            accuracies.append(sum(right) / len(right))
        return accuracies

    assert min(loops()) > 0.9
    benchmark.pedantic(loops, rounds=_ROUNDS)


@pytest.mark.benchmark(group=_DIGITS)
def test_validate(benchmark: BenchmarkFixture, golden: Path, digits: Path) -> None:
    def work() -> tuple[float, int]:
        comparison = validate(
            [golden / "digits_int8.tflite"], golden / "digits_float16.tflite", digits, split="all"
        )
        return comparison.artifacts[0].accuracy, comparison.n

    accuracy, n = work()
    assert accuracy > 0.9
    assert n == 10 * _EACH
    benchmark.pedantic(work, rounds=_ROUNDS)


@pytest.mark.benchmark(group=_STATISTICS)
def test_drop_interval(benchmark: BenchmarkFixture) -> None:
    low, high = drop_interval(60, 40, 10_000)
    assert low < 0.002 < high
    benchmark(drop_interval, 60, 40, 10_000)


@pytest.mark.benchmark(group=_STATISTICS)
def test_mcnemar(benchmark: BenchmarkFixture) -> None:
    assert mcnemar_p(60, 40) == pytest.approx(0.0569, abs=0.001)
    benchmark(mcnemar_p, 60, 40)
