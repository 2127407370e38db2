"""Unknown models are tried in a child process, and passed trials are recorded.

Some models crash the interpreter, hang it or take all memory. That must happen to the child that tries
them first, never to the program that opens them. Thousands of them: ``tests/fuzz``.
"""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import Artifact, Classifier, EdgeClsError, Frame, read_image
from edge_sdk.engines import trial
from edge_sdk.engines.trial import try_in_child
from edge_sdk.errors import CorruptArtifactError, EngineError, EngineNotInstalledError
from edge_sdk.hotswap import ReloadingClassifier
from tests.fuzz.damage import forge, read_base
from tests.integration.host import edgecls
from tests.integration.run_process import until

pytest.importorskip("ai_edge_litert", reason="the extra [host] is not installed")

_LABELS = tuple("0123456789")
_CONVOLUTION, _STRIDED_SLICE = 3, 45


@pytest.fixture(scope="module")
def third_party(int8_artifact: Path) -> bytes:
    """The golden model without what edgecls adds to it."""
    return _changed(int8_artifact.read_bytes(), lambda _: None)


def _changed(model: bytes, change: Callable[[Any], None], *, keep: bool = False) -> bytes:
    from host_tools.tflite import pack_model, unpack_model

    unpacked = unpack_model(model)
    if not keep:
        unpacked.metadata = []
    change(unpacked)
    return pack_model(unpacked)


def _crashing(model: bytes) -> bytes:
    """A model whose convolutions say they are slices: LiteRT 2.3 reads through a null pointer."""

    def change(unpacked: Any) -> None:
        for code in unpacked.operatorCodes:
            if code.builtinCode == _CONVOLUTION:
                code.builtinCode = code.deprecatedBuiltinCode = _STRIDED_SLICE

    return _changed(model, change)


@pytest.fixture(scope="module")
def picture(digit_pictures: Path) -> Frame:
    return read_image(next((digit_pictures / "7").glob("*.png")))


@pytest.mark.parametrize("claimed", [8, 12], ids=["fewer scores", "more scores"])
def test_a_model_that_gives_another_number_of_scores_than_it_says_is_refused(
    claimed: int, third_party: bytes, picture: Frame, tmp_path: Path
) -> None:
    def change(unpacked: Any) -> None:
        graph = unpacked.subgraphs[0]
        graph.tensors[graph.outputs[0]].shape = np.array([1, claimed], np.int32)

    path = tmp_path / "liar.tflite"
    path.write_bytes(_changed(third_party, change))
    labels = [str(number) for number in range(claimed)]
    with (
        pytest.raises(EdgeClsError),
        Classifier.open(path, labels=labels, normalize="raw") as classifier,
    ):
        classifier.classify(picture).top(claimed)


# What a child is for.


def test_a_model_that_crashes_the_interpreter_kills_the_child_alone(
    third_party: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "crash.tflite"
    path.write_bytes(_crashing(third_party))
    with pytest.raises(
        CorruptArtifactError, match=r"crash\.tflite.*(it crashed with signal|refuses the model)"
    ):
        Classifier.open(path, labels=_LABELS, normalize="raw")


def test_a_model_that_crashes_the_interpreter_is_exit_7(
    third_party: bytes, digit_pictures: Path, tmp_path: Path
) -> None:
    path, labels = tmp_path / "crash.tflite", tmp_path / "labels.txt"
    path.write_bytes(_crashing(third_party))
    labels.write_text("\n".join(_LABELS))
    result = edgecls("classify", path, digit_pictures, "--labels", labels)
    assert result.exit_code == 7
    assert result.stdout == ""
    assert "crash.tflite: the interpreter cannot run it" in result.stderr


@pytest.fixture
def forged_crash(third_party: bytes, int8_artifact: Path, tmp_path: Path) -> Path:
    """A model that crashes the interpreter, with a manifest, hashes and metadata that fit."""
    base = read_base(int8_artifact)

    def change(unpacked: Any) -> None:
        for code in unpacked.operatorCodes:
            if code.builtinCode == _CONVOLUTION:
                code.builtinCode = code.deprecatedBuiltinCode = _STRIDED_SLICE

    path = tmp_path / "forged.tflite"
    path.write_bytes(forge(_changed(base.described, change, keep=True), base))
    return path


def test_a_manifest_does_not_spare_a_model_its_trial(forged_crash: Path) -> None:
    assert Artifact.open(forged_crash).manifest is not None  # all hashes fit
    with pytest.raises(CorruptArtifactError, match=r"it crashed with signal|refuses the model"):
        Classifier.open(forged_crash)


def test_a_forged_model_is_refused_by_a_running_loop(
    forged_crash: Path, int8_artifact: Path, picture: Frame, tmp_path: Path
) -> None:
    model = Path(shutil.copy(int8_artifact, tmp_path / "model.tflite"))
    with ReloadingClassifier(model, interval_s=0.0) as classifier:
        label = classifier.classify(picture).label
        forged_crash.replace(model)
        reported: list[str] = []
        deadline_s = time.monotonic() + 60
        while not reported:
            assert time.monotonic() < deadline_s
            assert classifier.classify(picture).label == label
            reported += [health.what for health in classifier.take_health()]
    assert reported == ["model refused"]


def test_doctor_outlives_a_forged_model(forged_crash: Path) -> None:
    result = edgecls("doctor", forged_crash, "--json")
    (finding,) = [f for f in json.loads(result.stdout)["findings"] if "forged.tflite" in f["what"]]
    assert finding["severity"] == "error"
    assert "cannot run it" in finding["what"]


def _child_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children started from now on do this first; they inherit ``sys.path``."""
    (folder / "sitecustomize.py").write_text(does)
    monkeypatch.syspath_prepend(folder)


def _engine_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children started from now on do this where they would load a model into an engine."""
    script = f"import edge_sdk.engines as e\ndef bad(*_):\n    {does}\ne.open_engine = bad\n"
    _child_that(script, folder, monkeypatch)


def test_whatever_kills_the_child_is_a_bad_model(
    third_party: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _engine_that("import os; os.abort()", tmp_path, monkeypatch)
    with pytest.raises(CorruptArtifactError, match=r"x\.tflite.*it crashed with signal 6"):
        try_in_child(third_party, "0" * 64, "cpu", "a runtime", "x.tflite")


def test_a_child_that_does_not_end_is_a_bad_model(
    third_party: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "TIMEOUT_S", 10)  # the child's start is among them
    _engine_that("import time; time.sleep(60)", tmp_path, monkeypatch)
    with pytest.raises(CorruptArtifactError, match=r"x\.tflite: one inference did not end"):
        try_in_child(third_party, "0" * 64, "cpu", "a runtime", "x.tflite")


def test_a_child_that_takes_too_much_memory_is_a_bad_model(
    third_party: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _engine_that("held = bytes(1 << 30)", tmp_path, monkeypatch)
    with pytest.raises(CorruptArtifactError, match=r"x\.tflite.*out of memory"):
        try_in_child(third_party, "0" * 64, "cpu", "a runtime", "x.tflite")


def test_what_a_library_prints_without_end_does_not_reach_the_parent(
    third_party: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    does = (
        "import os; [os.write(fd, bytes(1 << 20)) for fd in (1, 2) * 64]; raise ValueError('over')"
    )
    _engine_that(does, tmp_path, monkeypatch)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptArtifactError, match=r"\(over\)"):
            try_in_child(third_party, "0" * 64, "cpu", "a runtime", "x.tflite")
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("does", ["import os; os.abort()", "raise SystemExit('no')"])
def test_a_child_that_does_not_start_says_nothing_about_the_model(
    does: str, third_party: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _child_that(does, tmp_path, monkeypatch)
    with pytest.raises(EngineError, match=r"x\.tflite: the child process .*did not start"):
        try_in_child(third_party, "0" * 64, "cpu", "a runtime", "x.tflite")


def test_no_room_for_a_process_says_nothing_about_the_model(
    third_party: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "run", full)
    with pytest.raises(EngineError, match="no child process could be started"):
        try_in_child(third_party, "0" * 64, "cpu", "a runtime", "x.tflite")


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_child_ends_with_its_parent(
    third_party: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "child"
    does = f"import os, time; open({str(place)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    _engine_that(does, tmp_path, monkeypatch)
    (tmp_path / "x.tflite").write_bytes(third_party)
    script = (
        "import pathlib, sys; from edge_sdk.engines.trial import try_in_child;"
        "try_in_child(pathlib.Path(sys.argv[1]).read_bytes(), '0' * 64, 'cpu', 'r', 'x.tflite')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    parent = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "x.tflite"], env=environment
    )
    try:
        until(lambda: place.exists() and place.read_text())
    finally:
        parent.kill()
        parent.wait()
    child = int(place.read_text())
    until(lambda: not Path(f"/proc/{child}/cmdline").exists() or _is_zombie(child))


def _is_zombie(process: int) -> bool:
    return "\nState:\tZ" in Path(f"/proc/{process}/status").read_text()


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
    third_party: bytes, picture: Frame, tmp_path: Path, children: list[list[str]]
) -> None:
    for name in ("first.tflite", "again.tflite"):  # the content counts, not the name
        path = tmp_path / name
        path.write_bytes(third_party)
        with Classifier.open(path, labels=_LABELS, normalize="raw") as classifier:
            assert classifier.classify(picture).label in _LABELS
    assert len(children) == 1
    assert children[0][0] == sys.executable


def test_a_trial_that_failed_is_not_remembered_as_passed(
    third_party: bytes, tmp_path: Path, children: list[list[str]]
) -> None:
    path = tmp_path / "crash.tflite"
    path.write_bytes(_crashing(third_party))
    for _ in range(2):
        with pytest.raises(CorruptArtifactError):
            Classifier.open(path, labels=_LABELS, normalize="raw")
    assert len(children) == 2


def test_a_trial_counts_for_one_content_runtime_and_backend_only(
    third_party: bytes, children: list[list[str]]
) -> None:
    for sha256, backend, runtime in (
        ("0" * 64, "cpu", "ai-edge-litert 2.3.0"),
        ("1" * 64, "cpu", "ai-edge-litert 2.3.0"),
        ("0" * 64, "litert-noxnnpack", "ai-edge-litert 2.3.0"),
        ("0" * 64, "cpu", "ai-edge-litert 2.4.0"),
    ):
        before = len(children)
        try_in_child(third_party, sha256, backend, runtime, "x")
        try_in_child(third_party, sha256, backend, runtime, "x")
        assert len(children) == before + 1


def test_an_artifact_of_ours_has_a_trial_too_and_once(
    int8_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: list[list[str]]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing is proved there
    for _ in range(3):
        Classifier.open(int8_artifact).close()
    assert len(children) == 1


def test_what_is_compiled_for_the_edge_tpu_is_not_tried(
    public_data: Path, children: list[list[str]]
) -> None:
    path = public_data / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    with pytest.raises(EdgeClsError):  # there is no Edge TPU here
        Classifier.open(path, "edgetpu", labels=[str(number) for number in range(1001)])
    assert children == []


# Which memory is believed.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of proofs that holds one, of ``_proof()``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    _believed()
    return tmp_path / "own" / "edgecls" / "proved"


def _believed(sha256: str = "0" * 64, backend: str = "cpu", runtime: str = "litert 2.3.0") -> bool:
    """Whether a trial is thought to have gone well before; after it, one has."""
    tried: list[bytes] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(trial, "_try", lambda model, *_: tried.append(model))
        try_in_child(b"a model", sha256, backend, runtime, "x.tflite")
    return not tried


def test_a_trial_is_remembered_for_this_user_alone(place: Path) -> None:
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()] == [0o600]
    assert _believed()


@pytest.mark.parametrize(
    "other",
    [{"sha256": "1" * 64}, {"backend": "litert-noxnnpack"}, {"runtime": "litert 2.4.0"}],
    ids=lambda other: next(iter(other)),
)
def test_another_file_backend_or_runtime_has_a_trial_of_its_own(
    other: dict[str, str], place: Path
) -> None:
    assert not _believed(**other)
    assert _believed(**other)


def test_another_machine_has_a_trial_of_its_own(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_machine", lambda: "another")  # a home on the network
    assert not _believed()


def test_a_folder_of_another_user_is_not_believed(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not _believed()
    assert not _believed()
    assert "belongs to another user" in caplog.text


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720], ids=oct)
def test_a_folder_that_others_write_to_is_not_believed(
    mode: int, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place.chmod(mode)
    assert not _believed()
    assert "other users may write to it" in caplog.text


def test_a_link_instead_of_the_folder_is_not_believed(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))
    place.symlink_to(place.with_name("elsewhere"))
    assert not _believed()


def test_a_proof_counts_by_its_content(place: Path) -> None:
    (proof,) = place.iterdir()
    proof.write_bytes(b"")  # torn by a power cut
    assert not _believed()
    assert _believed()
    content = proof.read_bytes()
    proof.unlink()
    proof.symlink_to(place.with_name("planted"))
    place.with_name("planted").write_bytes(content)
    assert not _believed()


def test_a_planted_proof_in_the_temporary_folder_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a home: any user may create folders there."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", _homeless)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert not _believed()
    own = tmp_path / f"edgecls-{os.geteuid()}"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert _believed()
    own.chmod(0o777)  # writable by other users
    assert not _believed()
    shutil.rmtree(own)
    own.symlink_to(tmp_path)
    assert not _believed()


def _homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_only_the_newest_proofs_are_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_MAX_PROOFS", 3)
    for number in range(1, 6):
        for path in place.iterdir():  # a file system may count whole seconds
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 10))
        _believed(str(number) * 64)
    assert len(list(place.iterdir())) == 3
    assert _believed("5" * 64)
    assert not _believed("1" * 64)


def test_a_cache_that_cannot_be_written_costs_a_trial_each_time(
    third_party: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    children: list[list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = tmp_path / "x.tflite"
    path.write_bytes(third_party)
    for _ in range(2):
        Classifier.open(path, labels=_LABELS, normalize="raw").close()
    assert len(children) == 2
    assert "trials are not recorded" in caplog.text


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
    third_party: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: list[list[str]]
) -> None:
    _hide_tflite_runtime(monkeypatch)
    path = tmp_path / "x.tflite"
    path.write_bytes(third_party)
    with pytest.raises(EngineNotInstalledError, match="tflite-runtime"):
        Classifier.open(path, "tflite-runtime", labels=_LABELS, normalize="raw")
    assert children == []
