"""`edgecls bench`, as people and programs use it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.cli.bench import BenchProgress
from edge_sdk.machine.board import System
from edge_sdk.machine.facts import read_machine
from edge_sdk.plain import to_plain
from tests.integration.host import edgecls

_QUICK = (
    *("--seconds", "0.1", "--precision", "100", "--skip", "cold", "--skip", "operators"),
    *("--skip", "energy"),
)
_FEW = ("--skip", "threads", "--allow-invalid")
_COMMAND = (sys.executable, "-c", "from host_tools.cli import main; main(prog_name='edgecls')")


def _json(text: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(text)
    return content


def _steady(file: Path, *, slower: float = 1.0, **changes: Any) -> Path:
    """A stored benchmark whose every run takes as long as the next, on this machine."""
    content = _json(file.read_text())
    for model in content["models"]:
        n = 40
        model["samples"] = {
            "block": list(range(n)),
            "at_s": [0.1 * i for i in range(n)],
            "preprocess_ms": [0.1] * n,
            "inference_ms": [4.0 * slower] * n,
            "postprocess_ms": [0.1] * n,
        }
        model |= {"valid": True, "invalid_reasons": []}
    content |= {"valid": True, "invalid_reasons": [], **changes}
    out = file.with_name(f"steady-{slower}.json")
    out.write_text(json.dumps(content))
    return out


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `--out` writes for the int8 artifact."""
    golden = Path(__file__).parents[1] / "golden" / "digits_int8.tflite"
    out = tmp_path_factory.mktemp("stored") / "old.json"
    result = edgecls("bench", golden, "--out", out, *_QUICK, *_FEW)
    assert result.exit_code == 0, result.output
    return out


def test_json_is_one_object_on_standard_output(int8_artifact: Path, float16_artifact: Path) -> None:
    result = edgecls("bench", int8_artifact, float16_artifact, "--json", *_QUICK, "--allow-invalid")
    assert result.exit_code == 0, result.output
    content = _json(result.stdout)
    assert content["type"] == "benchmark"
    assert [m["path"] for m in content["models"]] == [str(int8_artifact), str(float16_artifact)]
    assert all(m["runs"] > 0 and m["scaling"] for m in content["models"])


def test_all_reports_at_once(int8_artifact: Path, digit_pictures: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("r.html", "r.md", "r.json")]
    result = edgecls(
        *("bench", int8_artifact, "--data", digit_pictures, "--report", files[0]),
        *("--markdown", files[1], "--out", files[2], "--threads", "1,2", *_QUICK, *_FEW),
    )
    assert result.exit_code == 0, result.output
    assert "digits_int8" in result.stdout
    assert files[0].read_text().startswith("<!")
    assert "digits" in files[1].read_text()
    models = _json(files[2].read_text())["models"]
    assert [(m["threads"], m["pictures"]["origin"]) for m in models] == [(1, "data"), (2, "data")]


def test_a_camera_s_age_is_in_the_result(int8_artifact: Path, digit_pictures: Path) -> None:
    result = edgecls(
        *("bench", int8_artifact, "--camera", f"fake:{digit_pictures}?fps=50", "--json"),
        *(*_QUICK, *_FEW, "--seconds", "0.5"),
    )
    assert result.exit_code == 0, result.output
    (model,) = _json(result.stdout)["models"]
    assert model["age"]["frames"] > 0
    assert model["age_ms"]["p50"] <= model["age_ms"]["p95"]
    assert {"dropped", "duplicates"} <= set(model["age"])
    assert model["pictures"]["origin"] == "camera"


def test_no_such_model() -> None:
    result = edgecls("bench", "none.tflite", *_QUICK)
    assert result.exit_code == 2
    assert "there is no such model file" in result.stderr


def test_a_damaged_model(int8_artifact: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(int8_artifact.read_bytes()[:9000])
    result = edgecls("bench", damaged, *_QUICK)
    assert result.exit_code == 7
    assert "damaged.tflite" in result.stderr
    assert not result.stdout


def test_one_of_several_is_damaged(int8_artifact: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(int8_artifact.read_bytes()[:9000])
    result = edgecls("bench", damaged, int8_artifact, "--json", *_QUICK, *_FEW)
    assert result.exit_code == 7
    content = _json(result.stdout)
    assert [m["name"] for m in content["models"]] == ["digits_int8"]
    assert content["failed"][0]["kind"] == "CorruptArtifactError"
    assert "Error:" in result.stderr


def test_a_model_that_needs_a_missing_delegate(public_data: Path) -> None:
    compiled = public_data / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    result = edgecls("bench", compiled, "--backend", "edgetpu", *_QUICK)
    assert result.exit_code == 5
    assert "libedgetpu" in result.stderr
    assert edgecls("bench", compiled, *_QUICK).exit_code == 5


def test_zero_pictures(int8_artifact: Path, tmp_path: Path) -> None:
    result = edgecls("bench", int8_artifact, "--data", tmp_path, *_QUICK)
    assert result.exit_code == 1
    assert "no pictures found there" in result.stderr


@pytest.mark.parametrize("threads", ["0", "x", "1,", "2-1", "1-999", "99999999"])
def test_threads_that_cannot_be(int8_artifact: Path, threads: str) -> None:
    result = edgecls("bench", int8_artifact, "--threads", threads)
    assert result.exit_code == 2
    assert "1,2,4" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--max-regress", "10"), "--baseline FILE.json"),
        (("--camera", "photo.jpg"), "--camera"),
        (("--camera", "fake:x?fps=no"), "fps"),
        (("--baseline", "none.json"), "none.json"),
        (("--validation", "none.json"), "none.json"),
    ],
)
def test_words_that_make_no_sense(int8_artifact: Path, words: tuple[str, ...], said: str) -> None:
    result = edgecls("bench", int8_artifact, *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_thermal_flag_is_exit_code_3(
    int8_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def output(command: Sequence[str]) -> str | None:
        return "throttled=0x8" if command[-1] == "get_throttled" else None

    monkeypatch.setattr("edge_sdk.bench.measure.System", lambda: System(tmp_path, output))
    quick = (*_QUICK, "--skip", "threads")
    result = edgecls("bench", int8_artifact, "--json", *quick)
    assert result.exit_code == 3
    content = _json(result.stdout)
    assert content["valid"] is content["models"][0]["valid"] is False
    assert "too hot" in content["invalid_reasons"][0]
    assert "too hot" in result.stderr
    assert edgecls("bench", int8_artifact, *quick, "--allow-invalid").exit_code == 0


def test_a_quiet_machine_is_exit_code_0(
    int8_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.bench.measure.System", lambda: System(tmp_path, lambda _: None))
    result = edgecls("bench", int8_artifact, *_QUICK, "--skip", "threads")
    assert result.exit_code == 0, result.output


def test_the_gate(stored: Path, int8_artifact: Path) -> None:
    """Far faster before is a regression, far slower before is none."""
    words = ("bench", int8_artifact, "--max-regress", "10", *_QUICK, *_FEW)
    more = ("--seconds", "20", "--json")
    fast, slow = _steady(stored, slower=1e-4), _steady(stored, slower=1e4)
    assert fast != slow
    failed = edgecls(*words, "--baseline", slow, *more)
    assert failed.exit_code == 0, failed.output
    assert _json(failed.stdout)["comparison"]["verdict"] == "pass"
    content = _json(fast.read_text())
    for stage in ("preprocess_ms", "postprocess_ms"):
        content["models"][0]["samples"][stage] = [1e-6] * 40
    fast.write_text(json.dumps(content))
    failed = edgecls(*words, "--baseline", fast, *more)
    assert failed.exit_code == 3
    reported = _json(failed.stdout)["comparison"]
    assert reported["verdict"] == "fail"
    assert reported["models"][0]["change_ci95"][0] > 10


def test_a_baseline_of_another_machine_is_refused_unless_forced(
    stored: Path, int8_artifact: Path
) -> None:
    other = {**to_plain(read_machine()), "cpu": "Cortex-A76", "cores": 97}
    other_baseline = _steady(stored, slower=2.0, machine=other)
    result = edgecls("bench", int8_artifact, "--baseline", other_baseline, *_QUICK, *_FEW)
    assert result.exit_code == 2
    assert "Cortex-A76" in result.stderr
    assert "--force" in result.stderr
    assert not result.stdout
    result = edgecls(
        "bench", int8_artifact, "--baseline", other_baseline, "--force", *_QUICK, *_FEW
    )
    assert result.exit_code == 0, result.output
    assert "compared anyway (--force)" in result.stderr


def test_a_baseline_of_another_schema_or_of_other_models_is_refused(
    stored: Path, int8_artifact: Path, float16_artifact: Path
) -> None:
    newer = _steady(stored, slower=3.0, schema=2)
    result = edgecls("bench", int8_artifact, "--baseline", newer, *_QUICK, *_FEW)
    assert result.exit_code == 2
    assert "schema 2" in result.stderr
    assert (
        edgecls("bench", int8_artifact, "--baseline", newer, "--force", *_QUICK, *_FEW).exit_code
        == 0
    )
    steady = _steady(stored, slower=4.0)
    result = edgecls("bench", float16_artifact, "--baseline", steady, *_QUICK, *_FEW)
    assert result.exit_code == 2
    assert "it holds other models" in result.stderr
    partial = _steady(stored, slower=5.0, complete=False)
    result = edgecls("bench", int8_artifact, "--baseline", partial, *_QUICK, *_FEW)
    assert result.exit_code == 2
    assert "interrupted" in result.stderr


def test_a_forced_baseline_without_any_of_the_models_is_refused_before_they_are_measured(
    stored: Path, float16_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.bench.measure.measure", lambda *_, **__: pytest.fail("measured"))
    steady = _steady(stored, slower=7.0)
    result = edgecls("bench", float16_artifact, "--baseline", steady, "--force", *_QUICK, *_FEW)
    assert result.exit_code == 2
    assert "no timed model in common" in result.stderr


def test_compare_puts_two_boards_side_by_side(stored: Path, tmp_path: Path) -> None:
    other = {**to_plain(read_machine()), "cpu": "Cortex-A76"}
    pi4, pi5 = _steady(stored, slower=6.0), _steady(stored, slower=2.5, machine=other)
    page, markdown = tmp_path / "c.html", tmp_path / "c.md"
    result = edgecls("bench", "compare", pi4, pi5, "--report", page, "--markdown", markdown)
    assert result.exit_code == 0, result.output
    assert "digits_int8" in result.stdout
    assert page.is_file()
    assert markdown.is_file()
    result = edgecls("bench", "compare", pi4, pi5, "--json")
    content = _json(result.stdout)
    assert content["type"] == "benchmark_comparison"
    assert content["models"][0]["change_percent"] == pytest.approx(100 * (10.2 / 24.2 - 1))
    assert any("Cortex-A76" in text for text in content["machines"])
    assert edgecls("bench", "compare", pi5, pi4, "--max-regress", "10").exit_code == 3


def test_compare_wants_two_files_of_ours(stored: Path, int8_artifact: Path) -> None:
    assert edgecls("bench", "compare", stored).exit_code == 2
    result = edgecls("bench", "compare", stored, int8_artifact)
    assert result.exit_code == 2
    assert "not JSON" in result.stderr


def _ignore_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("number", "background"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM in a shell's background"],
)
def test_an_interrupted_bench_writes_what_there_is(
    number: signal.Signals, background: bool, int8_artifact: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "part.json", tmp_path / "part.html"
    process = subprocess.Popen(
        [
            *(
                *_COMMAND,
                "-v",
                "bench",
                str(int8_artifact),
                "--seconds",
                "3000",
                "--precision",
                "0",
            ),
            *("--sustained", "3000", "--skip", "cold", "--skip", "threads", "--skip", "operators"),
            *("--skip", "energy", "--json", "--out", str(out), "--report", str(report)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        cwd=Path(__file__).parents[2],
        preexec_fn=_ignore_ctrl_c if background else None,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "without a pause" in line:
            break
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    expected = 130 if number == signal.SIGINT else -signal.SIGTERM
    assert process.returncode == expected, stderr
    assert "Interrupted" in stderr
    content = _json(stdout)
    assert content["complete"] is False
    assert content["models"][0]["complete"] is False
    assert content["models"][0]["runs"] > 0
    assert _json(out.read_text())["complete"] is False
    assert report.is_file()


def test_a_model_called_compare_is_reached_by_its_path(int8_artifact: Path, tmp_path: Path) -> None:
    shutil.copy(int8_artifact, tmp_path / "compare")
    result = edgecls("bench", tmp_path / "compare", "--json", *_QUICK, *_FEW)
    assert result.exit_code == 0, result.output


def test_progress_is_one_line_on_a_terminal_and_none_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    BenchProgress().note("opening")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    progress = BenchProgress()
    progress.note("opening")
    progress.end()
    reported = capsys.readouterr()
    assert reported.out == ""
    assert "opening" in reported.err
    assert "\n" not in reported.err
