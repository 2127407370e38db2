"""Every block of docs/embedding.md, run as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_TEXT = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text("utf-8")
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_every_block_runs_in_the_order_of_the_page(
    int8_artifact: Path,
    digit_pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("PIL", reason="the extra [host] is not installed")
    shutil.copy(int8_artifact, tmp_path / "digits_int8.tflite")
    shutil.copy(next((digit_pictures / "7").glob("*.png")), tmp_path / "seven.png")
    shutil.copytree(digit_pictures, tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "embedding"}
    blocks = list(_BLOCK.finditer(_TEXT))
    assert len(blocks) >= 8
    for block in blocks:
        line = _TEXT[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block.group(1), "docs/embedding.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.startswith("7 0.")
    assert "10 frames, " in printed
    assert "('appeared', '7', 0.0)" in printed
    assert len((tmp_path / "answers.jsonl").read_text("utf-8").splitlines()) == 10


@pytest.mark.parametrize("what", ["source", "sink"])
def test_a_source_or_a_sink_of_ones_own_takes_about_ten_lines(what: str) -> None:
    block = _BLOCK.findall(_TEXT.split(f"## A {what} of your own")[1])[0]
    body = block.split("\n\n\n")[0]
    lines = [line for line in body.splitlines() if line.strip() and '"""' not in line]
    assert len(lines) <= 10


def test_the_doorman_says_what_appeared_and_ends_upon_sigterm(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    main = Path(__file__).parents[2] / "firmware_examples" / "camera_events" / "main.py"
    process = subprocess.Popen(
        [sys.executable, main, int8_artifact, f"fake:{digit_pictures / '7'}?fps=30"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(main.parents[2])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "7 appeared\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
