"""``edgecls run`` in a process of its own, with its output and exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-c", "from host_tools.cli import main; main(prog_name='edgecls')")
ROOT = Path(__file__).parents[2]


def start(
    *words: object, stdout: Any = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    """Starts the command; standard output and error are pipes."""
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def whole_lines(text: str) -> list[dict[str, Any]]:
    """The lines of JSON in a text, each of them whole."""
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def until(true: Any, seconds: float = 60.0) -> None:
    """Waits for something to become true."""
    deadline_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)
