"""The checks of the emulated board notice what they are for; none of these needs emulation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.device import checks, readme
from tests.device.processes import BoardError, call, must

_ROOT = Path(__file__).parents[2]
_LINE = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


def _compare(folder: Path, board: Any, reference: Any) -> subprocess.CompletedProcess[str]:
    names = [str(folder / "board.npz"), str(folder / "reference.npz")]
    for name, values in zip(names, (board, reference), strict=True):
        np.savez(name, **values)
    program = str(_ROOT / "tests/device/outputs.py")
    return call(sys.executable, program, "compare", *names)


def test_the_same_answers_agree(tmp_path: Path) -> None:
    answers = {"a": np.arange(12, dtype=np.int8).reshape(3, 4), "b": np.ones((2, 3), np.float32)}
    done = _compare(tmp_path, answers, answers)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a: 3 inputs, int8: 0 inputs differ" in done.stdout


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(np.array([[1, 2], [3, 5]], np.int8), id="one bit"),
        pytest.param(np.array([[1, 2], [3, 4]], np.uint8), id="another dtype"),
        pytest.param(np.array([[1, 2]], np.int8), id="fewer inputs"),
    ],
)
def test_quantised_answers_that_differ_are_noticed(changed: Any, tmp_path: Path) -> None:
    done = _compare(tmp_path, {"m": changed}, {"m": np.array([[1, 2], [3, 4]], np.int8)})
    assert done.returncode == 1
    assert "disagree about m" in done.stderr


@pytest.mark.parametrize(("counts", "status"), [(2, 0), (3, 1)])
def test_older_uint8_models_may_be_two_counts_apart(
    counts: int, status: int, tmp_path: Path
) -> None:
    board = {"m": np.array([[100 + counts]], np.uint8)}
    assert _compare(tmp_path, board, {"m": np.array([[100]], np.uint8)}).returncode == status


@pytest.mark.parametrize(("logit", "status"), [(5, 0), (6, 1)])
def test_a_quantised_softmax_is_judged_by_its_logits(
    logit: int, status: int, tmp_path: Path
) -> None:
    board = {"m": np.array([[9]], np.int8), "m (logits)": np.array([[logit]], np.int8)}
    reference = {"m": np.array([[8]], np.int8), "m (logits)": np.array([[5]], np.int8)}
    done = _compare(tmp_path, board, reference)
    assert done.returncode == status
    assert "m: 1 inputs, int8: 1 inputs differ, by 1 at most" in done.stdout


@pytest.mark.parametrize(("difference", "status"), [(9e-6, 0), (2e-5, 1), (np.nan, 1)])
def test_float_answers_may_be_a_hundred_thousandth_apart(
    difference: float, status: int, tmp_path: Path
) -> None:
    board = {"m": np.float32([[0.5 + difference, 0.5]])}
    assert _compare(tmp_path, board, {"m": np.float32([[0.5, 0.5]])}).returncode == status


def test_a_model_that_was_left_out_is_noticed(tmp_path: Path) -> None:
    assert _compare(tmp_path, {}, {"m": np.zeros((1, 1), np.int8)}).returncode == 1


def test_the_int8_logits_of_our_artifacts_are_recorded(int8_artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    must(
        sys.executable,
        str(_ROOT / "tests/device/outputs.py"),
        "record",
        str(out),
        str(int8_artifact),
    )
    found = np.load(out)
    logits, scores = found["digits_int8 (logits)"], found["digits_int8"]
    assert (logits.dtype, scores.dtype) == (np.int8, np.float32)
    assert logits.shape == scores.shape == (100, 10)
    np.testing.assert_array_equal(logits.argmax(axis=1), scores.argmax(axis=1))


def test_xnnpack_has_to_say_that_it_is_on() -> None:
    checks.require_xnnpack(f"something else\n{_LINE}")
    with pytest.raises(BoardError, match="XNNPACK is off"):
        checks.require_xnnpack("something else\n")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"score": 0.5, "ts": "then"}, {"score": 0.500001, "ts": "now"}, True),
        ({"score": 0.5}, {"score": 0.51}, False),
        ({"topk": [{"label": "7"}]}, {"topk": [{"label": "1"}]}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, 2], [1], False),
    ],
)
def test_answers_are_compared_times_apart(one: Any, other: Any, same: bool) -> None:
    assert checks._same(one, other) is same


def test_a_machine_that_cannot_tell_says_what_to_install(tmp_path: Path) -> None:
    done = call(
        *(sys.executable, "-m", "tests.device.arm64", "--wheel", "none.whl"),
        folder=_ROOT,
        environment={"PATH": str(tmp_path), "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (77, "")
    assert "missing: mmdebstrap" in done.stderr
    assert "apt-get install" in done.stderr


def test_a_command_that_hangs_is_ended() -> None:
    with pytest.raises(BoardError, match="took more than 1 s"):
        call(sys.executable, "-c", "import time; time.sleep(60)", timeout_s=1)


def test_a_command_that_fails_is_quoted() -> None:
    with pytest.raises(BoardError, match=r"exited 3:\nhere is why"):
        must(sys.executable, "-c", "print('here is why'); raise SystemExit(3)")


def test_readme_has_the_block_that_the_boards_run() -> None:
    lines = readme.block()
    assert all(line.startswith(("sudo ", "edgecls ")) for line in lines)
    assert not any("#" in line for line in lines)
    assert readme.debian_packages(lines) == ["python3-venv", "python3-numpy"]
    with pytest.raises(BoardError, match="has no block under"):
        readme.block("More")


def test_readme_and_the_raspberry_pi_page_install_alike() -> None:
    page = readme.block("Install", "docs/raspberry-pi.md")
    ours = [line for line in readme.block() if "/opt/edgecls/env" in line or " apt " in line]
    assert len(ours) == 4
    assert [line for line in page if line in ours] == ours


def test_only_what_an_emulator_cannot_do_may_exit_otherwise() -> None:
    statuses = {line: readme.expected_status(line) for line in readme.block()}
    changed = {line: found for line, found in statuses.items() if found != (line, 0)}
    assert [line.split()[1] for line in changed] == ["run", "bench"]
    camera = "edgecls run edge-mobilenet_int8.tflite --camera --events"
    assert changed[camera] == (f"{camera} --limit 20", 0)


def test_a_line_of_readme_that_fails_is_named(tmp_path: Path) -> None:
    def shell(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        status = int(command.startswith("edgecls validate"))
        return subprocess.CompletedProcess([command], status, "", "")

    with pytest.raises(BoardError, match="“edgecls validate x” should have exited 0"):
        readme.run(tmp_path, ["edgecls classify x", "edgecls validate x"], shell)
    with pytest.raises(BoardError, match="the service is not in place"):
        readme.run(tmp_path, ["edgecls classify x"], shell)
    wanted = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(parents=True)
    (wanted.parent / "edgecls.service").touch()
    (wanted / "edgecls.service").symlink_to("/etc/systemd/system/edgecls.service")
    (said,) = readme.run(tmp_path, ["edgecls classify x"], shell)
    assert said.endswith("exit 0  edgecls classify x")
