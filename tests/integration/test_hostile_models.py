"""Damaged models of strangers, opened by the dozen: this process lives, each one is refused or runs.

Nothing vouches for a foreign file, and some of these crash the interpreter. That must happen to the
child that tries them first, never to the program that opens them.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatbuffers import number_types
from flatbuffers.table import Table
from numpy.typing import NDArray

from edge_sdk import Artifact, Classifier, EdgeClsError, Frame, read_image
from edge_sdk.engines import trial
from edge_sdk.engines.trial import try_in_child
from edge_sdk.errors import CorruptArtifactError, EngineNotInstalledError
from tests.integration.host import edgecls

pytest.importorskip("ai_edge_litert", reason="the extra [host] is not installed")

_LABELS = tuple("0123456789")
_MUTATIONS_EACH = 100


# Where damage is done.


def _unsigned(table: Table, at: int) -> int:
    return int(table.Get(number_types.Uint32Flags, at))


def _children(table: Table, field: int) -> list[Table]:
    offset = int(table.Offset(4 + 2 * field))
    if not offset:
        return []
    start = int(table.Vector(offset))
    places = [start + 4 * i for i in range(int(table.VectorLen(offset)))]
    return [Table(table.Bytes, place + _unsigned(table, place)) for place in places]


def _tables(model: bytes) -> tuple[list[Table], list[Table]]:
    """All tables of a model but its buffers, and its buffers."""
    root = Table(model, int.from_bytes(model[:4], "little"))
    graphs = _children(root, 2)
    inner = [table for graph in graphs for field in (0, 3) for table in _children(graph, field)]
    return [root, *_children(root, 1), *graphs, *inner], _children(root, 4)


def _structure(model: bytes) -> NDArray[np.int64]:
    """The positions of everything but the weights: a model is nearly all weights."""
    is_weight = np.zeros(len(model), bool)
    for buffer in _tables(model)[1]:
        offset = int(buffer.Offset(4))
        if offset:
            start = int(buffer.Vector(offset))
            is_weight[start : start + int(buffer.VectorLen(offset))] = True
    return np.flatnonzero(~is_weight)


def _mutated(model: bytes, seed: int) -> bytes:
    """A model after one of five accidents."""
    random = np.random.default_rng(seed)
    structure = _structure(model)
    data = bytearray(model)

    def place() -> int:
        anywhere = random.random() < 0.25
        return int(random.integers(len(model)) if anywhere else random.choice(structure))

    match seed % 5:
        case 0:  # flipped bits
            for _ in range(int(random.integers(1, 9))):
                data[place()] ^= 1 << int(random.integers(8))
        case 1:  # a run of other bytes
            at, length = place(), int(random.integers(1, 65))
            data[at : at + length] = random.bytes(len(data[at : at + length]))
        case 2:  # cut off
            del data[place() :]
        case 3:  # one block over another
            source, target, length = place(), place(), int(random.integers(1, 257))
            block = model[source : source + length]
            data[target : target + len(block)] = block
        case _:  # a table that forgot its fields
            tables = _tables(model)[0]
            table = tables[int(random.integers(len(tables)))]
            vtable = int(table.Pos) - int(table.Get(number_types.SOffsetTFlags, table.Pos))
            data[vtable : vtable + 4 + 2 * 6] = bytes(4 + 2 * 6)
    return bytes(data)


@pytest.fixture(scope="module")
def stranger(int8_artifact: Path) -> bytes:
    """The golden model without what edgecls adds to it."""
    return _changed(int8_artifact.read_bytes(), lambda _: None)


def _changed(model: bytes, change: Callable[[Any], None]) -> bytes:
    from host_tools.tflite_writer import pack_model, unpack_model

    unpacked = unpack_model(model)
    unpacked.metadata = []
    change(unpacked)
    return pack_model(unpacked)


def _crashing(model: bytes) -> bytes:
    """A model whose convolutions say they are slices: LiteRT 2.3 reads through a null pointer."""

    def change(unpacked: Any) -> None:
        convolution, strided_slice = 3, 45
        for code in unpacked.operatorCodes:
            if code.builtinCode == convolution:
                code.builtinCode = code.deprecatedBuiltinCode = strided_slice

    return _changed(model, change)


def _opened(path: Path, picture: Frame) -> str:
    """What becomes of a file: the name of our error, or "classified"; any other error is raised."""
    try:
        # As many labels as it claims to have scores, so that the claim itself is tried.
        classes = int(np.prod(Artifact.open(path, normalize="raw").output.shape))
        labels = [str(number) for number in range(classes)]
        with Classifier.open(path, labels=labels, normalize="raw") as classifier:
            prediction = classifier.classify(picture)
    except EdgeClsError as error:
        return type(error).__name__
    assert len(prediction.top(classes)) == len(prediction.scores) == classes
    return "classified"


@pytest.fixture(scope="module")
def picture(digit_pictures: Path) -> Frame:
    return read_image(next((digit_pictures / "7").glob("*.png")))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["golden", "mlperf_tiny_resnet8_int8"])
def test_a_hundred_damaged_models_are_refused_or_run(
    source: str, picture: Frame, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if source == "golden":
        model = request.getfixturevalue("stranger")
    else:
        models = request.getfixturevalue("public_data") / "models"
        model = (models / f"{source}.tflite").read_bytes()

    def attempt(seed: int) -> str:
        path = tmp_path / f"{seed}.tflite"
        path.write_bytes(_mutated(model, seed))
        try:
            return _opened(path, picture)
        except Exception as error:  # noqa: BLE001  every one of them is to be seen
            return f"seed {seed}: {error!r}"

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(attempt, range(_MUTATIONS_EACH)))
    assert [outcome for outcome in outcomes if outcome.startswith("seed")] == []
    # Both kinds of end occur, or the mutations test nothing.
    assert outcomes.count("CorruptArtifactError") > _MUTATIONS_EACH // 4
    assert outcomes.count("classified") > _MUTATIONS_EACH // 10


@pytest.mark.parametrize("claimed", [8, 12], ids=["fewer scores", "more scores"])
def test_a_model_that_gives_another_number_of_scores_than_it_says_is_refused(
    claimed: int, stranger: bytes, picture: Frame, tmp_path: Path
) -> None:
    def change(unpacked: Any) -> None:
        graph = unpacked.subgraphs[0]
        graph.tensors[graph.outputs[0]].shape = np.array([1, claimed], np.int32)

    path = tmp_path / "liar.tflite"
    path.write_bytes(_changed(stranger, change))
    labels = [str(number) for number in range(claimed)]
    with (
        pytest.raises(EdgeClsError),
        Classifier.open(path, labels=labels, normalize="raw") as classifier,
    ):
        classifier.classify(picture).top(claimed)


# What a child is for.


def test_a_model_that_crashes_the_interpreter_kills_the_child_alone(
    stranger: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "crash.tflite"
    path.write_bytes(_crashing(stranger))
    with pytest.raises(
        CorruptArtifactError, match=r"crash\.tflite.*(crashed it with signal|refuses the model)"
    ):
        Classifier.open(path, labels=_LABELS, normalize="raw")


def test_a_model_that_crashes_the_interpreter_is_exit_7(
    stranger: bytes, digit_pictures: Path, tmp_path: Path
) -> None:
    path, labels = tmp_path / "crash.tflite", tmp_path / "labels.txt"
    path.write_bytes(_crashing(stranger))
    labels.write_text("\n".join(_LABELS))
    result = edgecls("classify", path, digit_pictures, "--labels", labels)
    assert result.exit_code == 7
    assert result.stdout == ""
    assert "crash.tflite: the interpreter cannot run it" in result.stderr


def _child_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python started from now on does this first; children inherit ``sys.path``."""
    (folder / "sitecustomize.py").write_text(does)
    monkeypatch.syspath_prepend(folder)


def test_whatever_kills_the_child_is_a_bad_model(
    stranger: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _child_that("import os; os.abort()", tmp_path, monkeypatch)
    with pytest.raises(CorruptArtifactError, match=r"x\.tflite.*crashed it with signal 6"):
        try_in_child(stranger, "0" * 64, "cpu", "a runtime", "x.tflite")


def test_a_child_that_does_not_end_is_a_bad_model(
    stranger: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_TIMEOUT_S", 1)
    _child_that("import time; time.sleep(60)", tmp_path, monkeypatch)
    with pytest.raises(CorruptArtifactError, match=r"x\.tflite: one inference did not end"):
        try_in_child(stranger, "0" * 64, "cpu", "a runtime", "x.tflite")


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of all children that were started."""
    started: list[list[str]] = []
    real = subprocess.run

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        started.append(command)
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", run)
    return started


def test_a_trial_that_went_well_is_remembered(
    stranger: bytes, picture: Frame, tmp_path: Path, children: list[list[str]]
) -> None:
    for name in ("first.tflite", "again.tflite"):  # the content counts, not the name
        path = tmp_path / name
        path.write_bytes(stranger)
        with Classifier.open(path, labels=_LABELS, normalize="raw") as classifier:
            assert classifier.classify(picture).label in _LABELS
    assert len(children) == 1
    assert children[0][0] == sys.executable


def test_a_trial_that_failed_is_not_remembered_as_passed(
    stranger: bytes, tmp_path: Path, children: list[list[str]]
) -> None:
    path = tmp_path / "crash.tflite"
    path.write_bytes(_crashing(stranger))
    for _ in range(2):
        with pytest.raises(CorruptArtifactError):
            Classifier.open(path, labels=_LABELS, normalize="raw")
    assert len(children) == 2


def test_a_trial_counts_for_one_content_runtime_and_backend_only(
    stranger: bytes, children: list[list[str]]
) -> None:
    for sha256, backend, runtime in (
        ("0" * 64, "cpu", "ai-edge-litert 2.3.0"),
        ("1" * 64, "cpu", "ai-edge-litert 2.3.0"),
        ("0" * 64, "litert-noxnnpack", "ai-edge-litert 2.3.0"),
        ("0" * 64, "cpu", "ai-edge-litert 2.4.0"),
    ):
        before = len(children)
        try_in_child(stranger, sha256, backend, runtime, "x")
        try_in_child(stranger, sha256, backend, runtime, "x")
        assert len(children) == before + 1


def test_an_artifact_of_ours_needs_no_trial(int8_artifact: Path, children: list[list[str]]) -> None:
    Classifier.open(int8_artifact).close()
    assert children == []


def test_a_cache_that_cannot_be_written_costs_a_trial_each_time(
    stranger: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: list[list[str]]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = tmp_path / "x.tflite"
    path.write_bytes(stranger)
    for _ in range(2):
        Classifier.open(path, labels=_LABELS, normalize="raw").close()
    assert len(children) == 2


def _hide_tflite_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes it missing where it is installed; most environments lack it anyway."""
    real = importlib.metadata.version

    def version(distribution: str) -> str:
        if distribution == "tflite-runtime":
            raise importlib.metadata.PackageNotFoundError(distribution)
        return real(distribution)

    monkeypatch.setattr(importlib.metadata, "version", version)
    for module in ("tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, module, None)


def test_a_runtime_that_is_missing_is_said_before_any_trial(
    stranger: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: list[list[str]]
) -> None:
    _hide_tflite_runtime(monkeypatch)
    path = tmp_path / "x.tflite"
    path.write_bytes(stranger)
    with pytest.raises(EngineNotInstalledError, match="tflite-runtime"):
        Classifier.open(path, "tflite-runtime", labels=_LABELS, normalize="raw")
    assert children == []
