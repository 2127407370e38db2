"""What is asked of an emulated board; each check gives a line to read, or raises `BoardError`."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.device import readme
from tests.device.board import Board
from tests.device.processes import BoardError, failure, must

_ROOT = Path(__file__).parents[2]
_INT8, _FLOAT16 = "tests/golden/digits_int8.tflite", "tests/golden/digits_float16.tflite"
_PICTURES = "tests/golden/digits"
_PUBLIC = Path(os.environ.get("EDGECLS_TEST_DATA", _ROOT.parent / "shared" / "data")) / "models"
_XNNPACK = "Created TensorFlow Lite XNNPACK delegate for CPU"
_TOLERANCE = 1e-5
_SLOW_PARTS = ("cold", "threads", "operators", "energy")  # of a benchmark
_GATE_FAILED = 3
_TIMES = ("ts", "latency_ms", "age_ms")  # differ between two runs on one machine, too
# These decide what a model answers: the rest of the packages may differ between two Pythons.
_PINNED = ("ai-edge-litert", "opencv-python-headless")


@dataclass(frozen=True, slots=True)
class Reference:
    """The same wheel on this machine, with the board's LiteRT and OpenCV.

    Attributes:
        folder: of the environment and of what it records.
    """

    folder: Path

    def install(self, wheel: Path, board: Board) -> str:
        """Makes the environment; says what it pinned."""
        python = str(self.folder / "bin/python")
        pins = [f"{name}=={version}" for name, version, *_ in board.sizes() if name in _PINNED]
        pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
        for command in (
            (sys.executable, "-m", "venv", "--without-pip", str(self.folder)),
            (*pip, "--disable-pip-version-check", "--only-binary=:all:", str(wheel), *pins),
        ):
            _here(*command)
        self.run("validate", _INT8, "--reference", _FLOAT16, *self._scores("--save-scores"))
        _here(
            *(python, "tests/device/outputs.py", "record", str(self.folder / "outputs.npz")),
            *map(str, _models()),
        )
        return ", ".join(pins)

    def _scores(self, option: str) -> tuple[str, ...]:
        return ("--data", _PICTURES, "--split", "all", option, str(self.folder / "scores.npz"))

    def run(self, *words: str) -> str:
        """What ``edgecls`` prints here."""
        return _here(str(self.folder / "bin/edgecls"), *words)

    def compare(self, found: Path) -> str:
        """The lines of `outputs.py compare`, one model each."""
        python, recorded = self.folder / "bin/python", self.folder / "outputs.npz"
        return _here(str(python), "tests/device/outputs.py", "compare", str(found), str(recorded))


def commands(board: Board, reference: Reference) -> str:
    """classify, run and inspect answer what they answer here, times apart."""
    pictures = sorted(str(p.relative_to(_ROOT)) for p in (_ROOT / _PICTURES).rglob("*.png"))
    asked = (
        ("classify", _INT8, *pictures, "--json"),
        ("run", _INT8, "--source", _PICTURES, "--json"),
        ("inspect", _INT8, "--json"),
    )
    for words in asked:
        there, here = board.must("edgecls", *words), reference.run(*words)
        if not _same(_lines(there), _lines(here)):
            raise BoardError(f"edgecls {words[0]} {words[1]} said\n{there}and here\n{here}")
    return "classify, run and inspect say what they say on x86-64"


def validate(board: Board, reference: Reference) -> str:
    """The drop, measured on the board against scores that another machine saved."""
    shutil.copy(reference.folder / "scores.npz", board.root / "root/checkout/scores.npz")
    said = board.must(
        *("edgecls", "validate", _INT8, "--reference", "scores.npz"),
        *("--data", _PICTURES, "--split", "all", "--json"),
    )
    (found,) = json.loads(said)["artifacts"]
    if found["agreement"] != 1 or found["drop_points"] != 0:
        raise BoardError(f"edgecls validate measured {said}")
    return "validate against saved scores: 100 % agreement, drop 0.00"


def bench(board: Board, reference: Reference) -> str:
    """Latencies of an emulated board are measured, and marked as worth nothing."""
    if not _has("bench", board):
        return "bench: this wheel has no such command"
    skipped = [f"--skip={part}" for part in _SLOW_PARTS]
    done = board.run("edgecls", "bench", _INT8, "--seconds=2", *skipped, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    models = [model for line in lines for model in line.get("models", [])]
    if not models:
        raise BoardError(failure(done))
    reasons = [reason for model in models for reason in model["invalid_reasons"]]
    marked = [reason for reason in reasons if "emulated" in reason]
    if not marked or any(model["valid"] for model in models) or done.returncode != _GATE_FAILED:
        raise BoardError(f"edgecls bench calls emulated figures valid, or says only {reasons}")
    return f"bench: not valid, “{marked[0]}”"


def doctor(board: Board, reference: Reference) -> str:
    """The doctor sees the emulation, and nothing needed is missing."""
    if not _has("doctor", board):
        return "doctor: this wheel has no such command"
    done = board.run("edgecls", "doctor", _INT8, "--json")
    try:
        findings = json.loads(done.stdout)["findings"]
    except ValueError as error:
        raise BoardError(failure(done)) from error
    marked = [finding["what"] for finding in findings if "emulated" in finding["what"]]
    errors = [finding["what"] for finding in findings if finding["severity"] == "error"]
    if not marked or errors or done.returncode:
        raise BoardError(f"errors {errors}; {failure(done)}")
    count = sum(finding["severity"] != "ok" for finding in findings)
    return f"doctor: {len(findings)} findings, {count} to read, “{marked[0]}”"


def outputs(board: Board, reference: Reference) -> str:
    """Quantised answers bit for bit, float ones within 1e-5, and XNNPACK gave them."""
    models = _models()
    folder = board.root / "root/checkout/models"
    folder.mkdir()
    for model in models:
        shutil.copy(model, folder)
    done = _record(board, "outputs.npz", *(f"models/{model.name}" for model in models))
    require_xnnpack(done.stderr)
    lines = reference.compare(board.root / "root/checkout/outputs.npz").splitlines()
    return "outputs against x86-64\n" + "\n".join(f"      {line}" for line in lines)


def without_xnnpack(board: Board, reference: Reference) -> str:
    """The control: where XNNPACK is silently off, the check above has to fail."""
    done = _record(board, "control.npz", f"models/{Path(_INT8).name}", hide="yes")
    try:
        require_xnnpack(done.stderr)
    except BoardError:
        return "XNNPACK switched off on purpose was noticed"
    raise BoardError("XNNPACK was switched off on purpose, and the check did not notice")


def contract(board: Board, reference: Reference) -> str:
    """The contract suite, with the board's interpreter."""
    done = board.run(
        *("/opt/edge/bin/python", "-m", "pytest", "-q", "tests/contract"),
        "--assert=plain",  # to rewrite the asserts takes longer there than the tests
        *("-o", "addopts=--import-mode=importlib --timeout=300 -p no:cacheprovider"),
        environment={"BOARD_PYTHONPATH": "/opt/test-tools"},
    )
    if done.returncode:
        raise BoardError(failure(done))
    return f"the contract suite: {done.stdout.splitlines()[-1].strip('= ')}"


def readme_block(board: Board, reference: Reference) -> str:
    """README's block for the Pi, with the board's own pip, in an environment of its own."""
    wheel = next(board.wheels.glob("edgecls-*.whl"))
    readme.furnish(board.root, wheel, reference.folder / "scores.npz")
    lines = readme.run(
        board.root,
        readme.block(),
        lambda command, environment: board.run(
            "/bin/sh", "-c", command, environment=environment, timeout_s=1800
        ),
    )
    return "README, On the Pi\n" + "\n".join(f"      {line}" for line in lines)


# In this order: the control needs the models that the outputs placed.
CHECKS: tuple[Callable[[Board, Reference], str], ...] = (
    commands,
    validate,
    bench,
    doctor,
    outputs,
    without_xnnpack,
    contract,
    readme_block,
)


def require_xnnpack(said: str) -> None:
    """LiteRT logs that it created the XNNPACK delegate, and logs nothing if it did not.

    Raises:
        BoardError: it did not.
    """
    if _XNNPACK not in said:
        raise BoardError(f"XNNPACK is off: the line “{_XNNPACK}” is missing from\n{said[-3000:]}")


def _here(*command: str) -> str:
    return must(*command, folder=_ROOT)


def _record(
    board: Board, out: str, *models: str, hide: str = ""
) -> subprocess.CompletedProcess[str]:
    done = board.run(
        *("/opt/edge/bin/python", "tests/device/outputs.py", "record", out, *models),
        environment={"HIDE_PROCESSORS": hide},
    )
    if done.returncode:
        raise BoardError(failure(done))
    return done


def _models() -> list[Path]:
    """The golden models, and the public ones where they are; none compiled for an Edge TPU."""
    public = sorted(_PUBLIC.glob("*.tflite"))
    return [
        path
        for path in (_ROOT / _INT8, _ROOT / _FLOAT16, *public)
        if b"edgetpu-custom-op" not in path.read_bytes()
    ]


def _has(command: str, board: Board) -> bool:
    listed = board.must("edgecls", "--help")
    return re.search(rf"^  {command}\b", listed, re.MULTILINE) is not None


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            key in _TIMES or _same(one[key], other[key]) for key in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=0, abs_tol=_TOLERANCE)
    return bool(one == other)
