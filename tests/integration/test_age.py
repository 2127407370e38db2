"""A decision's age through the whole loop: it finds what the camera's queue adds and latency hides."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def test_the_queue_is_in_every_age_and_frames_that_came_twice_are_counted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.age", "--seconds", "1", "--json"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    plain, queued, doubled = (json.loads(line) for line in done.stdout.splitlines())
    assert min(queued["age_ms"]) >= 100 > min(plain["age_ms"])
    assert queued["latency_p50_ms"] < 100
    assert plain["duplicates"] == queued["duplicates"] == 0
    assert doubled["duplicates"] == pytest.approx(doubled["frames"] / 2, abs=1)
