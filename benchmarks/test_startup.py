"""Fresh processes, from their start to their end; ``ratios.py`` compares them in turns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import ratios

_ROUNDS = 7
_IMPORTS = "start-up: imports"
_ANSWER = "start-up: to the first answer, digits"


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> ratios.Processes:
    return ratios.Processes(tmp_path_factory.mktemp("bytecode"))


def _measure(benchmark: BenchmarkFixture, start: Callable[[], str], expected: str) -> None:
    assert start().strip().startswith(expected)  # bytecode and files are cached from here on
    benchmark.pedantic(start, rounds=_ROUNDS)


@pytest.mark.benchmark(group=_IMPORTS)
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param(ratios.BARE_IMPORTS, "", id="numpy and cv2"),
        pytest.param("import edge_sdk; print(edge_sdk.__version__)", "0.", id="edge_sdk"),
        pytest.param("from edge_sdk import Classifier", "", id="Classifier"),
        pytest.param(ratios.HELP, "Usage", id="edgecls --help"),
    ],
)
def test_imports(
    benchmark: BenchmarkFixture, processes: ratios.Processes, program: str, expected: str
) -> None:
    _measure(benchmark, lambda: processes.output(program), expected)


@pytest.mark.benchmark(group=_ANSWER)
@pytest.mark.parametrize("program", [ratios.BARE, ratios.OURS], ids=["LiteRT alone", "edgecls"])
def test_first_answer(
    benchmark: BenchmarkFixture, processes: ratios.Processes, golden: Path, program: str
) -> None:
    model, picture = golden / "digits_int8.tflite", golden / "digits" / "3" / "0003.png"
    _measure(benchmark, lambda: processes.output(program, model, picture), "3")
