"""Hostile names on a real terminal: nothing but text reaches it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_sdk.terminal import one_line
from tests.integration.run_process import COMMAND, ROOT

pty = pytest.importorskip("pty", reason="no terminals here")

_HOSTILE = "cat\x1b[2J\x1b]0;pwned\x07\x9b31m"


def _on_a_terminal(*words: object, cwd: Path = ROOT) -> str:
    """What a terminal gets to see of both streams."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:  # as Linux says that the other side is closed
        pass
    finally:
        os.close(ours)
        process.wait(60)
    return seen.decode("utf-8", "replace").replace("\r\n", "\n")


def _assert_text(seen: str) -> None:
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", seen) is None, repr(seen)
    assert "pwned" in seen


@pytest.fixture
def picture(digit_pictures: Path, tmp_path: Path) -> Path:
    source = next((digit_pictures / "7").glob("*.png"))
    return Path(shutil.copy(source, tmp_path / f"{_HOSTILE}\n.png"))


@pytest.fixture
def third_party(float16_artifact: Path, tmp_path: Path) -> tuple[object, ...]:
    """A third-party model whose labels are commands to a terminal, and how it is opened."""
    pytest.importorskip("ai_edge_litert", reason="the extra [host] is not installed")
    from host_tools.tflite import pack_model, unpack_model

    model = unpack_model(float16_artifact.read_bytes())
    model.metadata = []
    path, labels = tmp_path / "third_party.tflite", tmp_path / "labels.txt"
    path.write_bytes(pack_model(model))
    labels.write_text("".join(f"{_HOSTILE}{digit}\n" for digit in range(10)), "utf-8")
    return path, "--labels", labels, "--normalize", "raw"


def test_names_of_files(int8_artifact: Path, picture: Path) -> None:
    broken = picture.with_name(f"broken{_HOSTILE}.png")
    broken.write_bytes(b"no picture")
    seen = _on_a_terminal("classify", int8_artifact, picture, broken)
    _assert_text(seen)
    assert one_line(str(picture)) in seen  # its newline makes no line of its own
    _assert_text(_on_a_terminal("run", int8_artifact, "--source", picture))


def test_labels_of_a_model(third_party: tuple[object, ...], picture: Path) -> None:
    _assert_text(_on_a_terminal("classify", *third_party, picture))
    _assert_text(_on_a_terminal("inspect", *third_party))


def test_json_is_json_on_a_terminal_too(third_party: tuple[object, ...], picture: Path) -> None:
    seen = _on_a_terminal("run", *third_party, "--source", picture, "--json")
    _assert_text(seen)
    (line,) = [line for line in seen.splitlines() if line.startswith('{"schema"')]
    record = json.loads(line)
    assert record["source"] == str(picture)
    assert record["label"].startswith(_HOSTILE)


@pytest.mark.parametrize(
    "words",
    [
        ("classify", f"/nowhere/{_HOSTILE}.tflite", "a.png"),
        ("inspect", f"--{_HOSTILE}"),
        (_HOSTILE,),
        ("-vv", "run", f"/nowhere/{_HOSTILE}.tflite", "--camera"),
        ("recipe", "show", _HOSTILE),
        ("data", "check", f"/nowhere/{_HOSTILE}"),
    ],
    ids=lambda words: words[0] if words[0].isprintable() else "command",
)
def test_errors(words: tuple[str, ...]) -> None:
    _assert_text(_on_a_terminal(*words))
