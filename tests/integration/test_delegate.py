"""The Edge TPU backend with a delegate that the tests compile: the real interpreter loads it."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import Classifier
from edge_sdk.engines import open_engine
from edge_sdk.engines.edgetpu import LIBRARY, open_edgetpu
from edge_sdk.errors import DelegateError
from tests.integration.host import edgecls
from tests.integration.run_process import COMMAND, ROOT

_HERE = Path(__file__).parent
_MODEL = "mobilenet_v1_0.25_128_quant_edgetpu.tflite"


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        pytest.skip("no C compiler is installed")
    return found


@pytest.fixture(scope="module")
def stub(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _compile(compiler, _HERE / "edgetpu_stub.c", tmp_path_factory.mktemp("stub"))


def _compile(compiler: str, source: Path, folder: Path) -> Path:
    library = folder / "libstub.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


@pytest.fixture
def log(stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stub was asked, a line per call."""
    monkeypatch.setenv(LIBRARY, str(stub))
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "log"))
    monkeypatch.delenv("STUB_FAIL", raising=False)
    return tmp_path / "log"


def _said(log: Path) -> list[str]:
    return log.read_text("utf-8").splitlines()


@pytest.fixture
def model(public_data: Path) -> Path:
    return public_data / "models" / _MODEL


def test_a_compiled_model_is_run_by_the_delegate_which_is_given_back(
    log: Path, model: Path
) -> None:
    picture = np.zeros((128, 128, 3), np.uint8)
    with Classifier.open(
        model, "edgetpu", labels=_labels(log.parent), normalize="symmetric"
    ) as classifier:
        answers = [classifier.classify(picture) for _ in range(3)]
        assert "destroy it" not in _said(log)
    gc.collect()
    # The stub answers with a ramp: 255 stands at 255, 511 and 767.
    assert {answer.top(1)[0].label for answer in answers} == {"class 255"}
    assert _said(log) == ["create", "prepare", "invoke", "invoke", "invoke", "destroy it"]


@pytest.mark.parametrize("device", ["usb:0", "pci:1"])
def test_the_device_is_asked_for_in_words(device: str, log: Path, model: Path) -> None:
    open_engine(model.read_bytes(), f"edgetpu:{device}").close()
    gc.collect()
    assert _said(log) == [f"create device={device}", "prepare", "destroy it"]


def test_a_hundred_openings_leave_nothing_behind(log: Path, model: Path) -> None:
    content = model.read_bytes()

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    open_engine(content, "edgetpu").close()
    before = descriptors()
    for _ in range(100):
        open_engine(content, "edgetpu").close()
    gc.collect()
    assert descriptors() == before
    assert _said(log).count("create") == _said(log).count("destroy it") == 101


@pytest.mark.parametrize(
    ("how", "said", "after"),
    [
        ("create", "finds no Edge TPU, or may not open it (no Edge TPU on this bus)", "nothing"),
        ("silent", "no reason given", "nothing"),
        ("prepare", "the model does not run on the Edge TPU", "it"),
    ],
)
def test_a_plugin_that_refuses_is_exit_5_with_its_reason(
    how: str,
    said: str,
    after: str,
    log: Path,
    model: Path,
    digit_pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STUB_FAIL", how)
    words = ("--labels", _labels(log.parent), "--normalize", "symmetric", "--json")
    result = edgecls("classify", model, digit_pictures, "--backend", "edgetpu", *words)
    assert result.exit_code == 5
    assert said in result.stderr
    assert result.stdout == ""
    del result  # it holds the exception, and that the delegate
    gc.collect()
    assert _said(log)[-1] == f"destroy {after}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.so", "cannot be loaded"),
        ("text.so", "cannot be loaded"),
        ("empty.so", "cannot be loaded"),
        ("folder.so", "cannot be loaded"),
        ("foreign.so", "cannot be loaded"),
        ("half.so", "it has no tflite_plugin_destroy_delegate)"),
        ("other.so", "no tflite_plugin_create_delegate and no tflite_plugin_destroy_delegate"),
    ],
)
def test_what_is_no_delegate_is_exit_5_without_noise(
    name: str,
    said: str,
    compiler: str,
    model: Path,
    digit_pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = tmp_path / name
    code = {"half.so": "void *tflite_plugin_create_delegate(void) { return 0; }", "other.so": ""}
    if name == "text.so":
        library.write_text("not a library\n" * 20)
    elif name == "empty.so":
        library.touch()
    elif name == "folder.so":
        library.mkdir()
    elif name == "foreign.so":  # as if copied from another kind of machine
        content = bytearray(_compile(compiler, _write(tmp_path, ""), tmp_path).read_bytes())
        content[18:20] = (0x15).to_bytes(2, "little")  # e_machine: PowerPC
        library.write_bytes(content)
    elif name in code:
        _compile(compiler, _write(tmp_path, code[name]), tmp_path).rename(library)
    monkeypatch.setenv(LIBRARY, str(library))
    words = ("--labels", _labels(tmp_path), "--normalize", "symmetric")
    result = edgecls("classify", model, digit_pictures, "--backend", "edgetpu", *words)
    assert result.exit_code == 5
    assert said in result.stderr
    assert LIBRARY in result.stderr
    gc.collect()  # an object that is half made would print a traceback here: a warning, an error


def test_nothing_but_the_message_is_printed(
    model: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    words = ("classify", model, digit_pictures, "--backend", "edgetpu")
    words += ("--labels", _labels(tmp_path), "--normalize", "symmetric")
    result = subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=60,
        env={**os.environ, LIBRARY: str(tmp_path / "missing.so")},
    )
    assert result.returncode == 5
    assert result.stderr.startswith("Error: backend edgetpu: ")
    assert result.stderr.count("\n") == 1


def test_without_libedgetpu_it_says_what_to_install(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LIBRARY, raising=False)
    with pytest.raises(DelegateError, match=r"nowhere\.so\.1 is not installed; install libedgetpu"):
        open_edgetpu(model.read_bytes(), None, library="nowhere.so.1")


def test_a_delegate_that_takes_nothing_is_no_silent_cpu(
    compiler: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        (_HERE / "edgetpu_stub.c").read_text("utf-8").replace("edgetpu-custom-op", "another-op")
    )
    library = _compile(compiler, _write(tmp_path, source), tmp_path)
    monkeypatch.setenv(LIBRARY, str(library))
    with pytest.raises(DelegateError, match="edgetpu-custom-op"):
        open_engine(model.read_bytes(), "edgetpu")


def test_the_loop_runs_on_the_delegate(log: Path, model: Path, digit_pictures: Path) -> None:
    result = edgecls(
        *("run", model, "--camera", f"fake:{digit_pictures}?fps=50", "--limit", "5", "--json"),
        *(
            "--backend",
            "edgetpu:usb:0",
            "--labels",
            _labels(log.parent),
            "--normalize",
            "symmetric",
        ),
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count('"class 255"') >= 5
    assert _said(log).count("invoke") >= 5
    assert _said(log)[0] == "create device=usb:0"


def _write(folder: Path, code: str) -> Path:
    source = folder / "library.c"
    source.write_text(code, "utf-8")
    return source


def _labels(folder: Path) -> Path:
    path = folder / "labels.txt"
    path.write_text("".join(f"class {i}\n" for i in range(1001)), "utf-8")
    return path
