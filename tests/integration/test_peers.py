"""The comparison of peers runs: workers in processes of their own, in turns, answers checked.

Their environments are this one; the digits stand for the photographs, so that it takes seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra [host] is not installed")

from benchmarks.peers.contestants import CONTESTANTS, OURS_CENTER, RAW
from benchmarks.peers.material import Material
from benchmarks.peers.measure import Arena, Plan, WrongAnswerError
from benchmarks.peers.processes import Surroundings, Worker, WorkerError, start_once
from benchmarks.peers.table import markdown, rows_of, targets_of
from edge_sdk import read_image

_ROOT = Path(__file__).parents[2]
_GOLDEN = _ROOT / "tests" / "golden"
_BY_HAND = next(one for one in CONTESTANTS if one.environment == "litert-opencv")


@pytest.fixture
def environments(tmp_path: Path) -> Path:
    """Environments that are this one, with one small package each."""
    folder = tmp_path / "environments"
    for name in ("edgecls", "litert", "litert-opencv"):
        python = folder / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{_ROOT}" exec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        package = folder / name / "lib" / "python3" / "site-packages" / "small-1.0.dist-info"
        package.mkdir(parents=True)
        (package / "METADATA").write_text("small")
    return folder


@pytest.fixture
def material(tmp_path: Path) -> Material:
    """The ten golden digits."""
    model, labels = _GOLDEN / "digits_int8.tflite", tmp_path / "labels.txt"
    labels.write_text("\n".join("0123456789"))
    frames, tensors = [], []
    for path in sorted((_GOLDEN / "digits").glob("*/*.png")):
        pixels = read_image(path).pixels
        frames.append(tmp_path / f"{path.stem}.npy")
        np.save(frames[-1], pixels)
        tensors.append(tmp_path / f"{path.stem}.tensor.npy")
        np.save(tensors[-1], pixels[np.newaxis])
    models = {"squash": model, "center": model}
    both = {"squash": tuple(tensors), "center": tuple(tensors)}
    return Material(models, labels, tuple(frames), both)


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)


def test_workers_answer_take_turns_and_start_afresh(
    environments: Path, material: Material, surroundings: Surroundings
) -> None:
    plan = Plan(rounds=6, runs=4, starts=1, seed=0)
    reported: list[str] = []
    contestants = (RAW, OURS_CENTER, _BY_HAND)
    arena = Arena(environments, material, contestants, surroundings, plan, reported.append)
    measured = arena.measure()
    for one in measured.values():
        assert [len(block) for block in one.blocks_ms] == [4] * 6
        assert min(min(block) for block in one.blocks_ms) > 0
        assert len(one.cold_start_ms) == len(one.peak_rss_mb) == 1
        assert one.cold_start_ms[0] > max(np.median(block) for block in one.blocks_ms)
        assert one.peak_rss_mb[0] > 20
        assert one.packages == {"small": "1.0"}
    rows = rows_of(measured)
    assert {row.name for row in rows} == {one.name for one in contestants}
    assert "÷ `invoke()`" in markdown(rows, targets_of(rows))


def test_a_peer_that_answers_otherwise_is_not_timed(
    environments: Path, material: Material, surroundings: Surroundings
) -> None:
    material.labels.write_text("\n".join("9876543210"))  # ours has its labels in the file
    plan = Plan(rounds=1, runs=1, starts=0, seed=0)
    reported: list[str] = []
    arena = Arena(environments, material, (RAW, OURS_CENTER), surroundings, plan, reported.append)
    with pytest.raises(WrongAnswerError, match=r"edgecls.*frame 0 is '0'.*instead of '9'"):
        arena.measure()
    assert not any(text.startswith("round") for text in reported)


def test_a_worker_that_fails_is_told_with_its_last_words(
    environments: Path, material: Material, surroundings: Surroundings, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    material.models["squash"] = broken
    with (
        Worker("bare", RAW.command(environments, "serve", material), surroundings) as worker,
        pytest.raises(WorkerError, match=r"(?s)bare ended with 1.*ValueError"),
    ):
        worker.ask(do="answers")
    with pytest.raises(WorkerError, match=r"(?s)bare ended with 1.*ValueError"):
        start_once("bare", RAW.command(environments, "once", material), surroundings)


def test_a_missing_environment_is_told_how_to_be_made(
    material: Material, surroundings: Surroundings, tmp_path: Path
) -> None:
    with pytest.raises(WorkerError, match="make_environments DIR"):
        Worker("bare", RAW.command(tmp_path / "none", "serve", material), surroundings)
