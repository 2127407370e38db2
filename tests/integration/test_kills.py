"""A short version of ``benchmarks/kills.py``: processes that are killed, and disks that are full."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("filelock", reason="the extra [host] is not installed")

from benchmarks.kills import Harness, Outcome, can_mount, full_disks_inside, table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="this is no Linux machine"),
]


def _nothing_counted(outcomes: list[Outcome], count: int) -> None:
    assert len({(one.kind, one.number) for one in outcomes if one.kind != "end"}) == count
    bad = [one for one in outcomes if one.lost or one.torn or one.down]
    assert not bad, f"{table(outcomes)}\n{bad}"


def test_forty_kills_lose_and_tear_nothing(tmp_path: Path) -> None:
    harness = Harness(tmp_path, seed=3, note=print)
    try:
        harness.kills(40)
    finally:
        harness.close()
    _nothing_counted(harness.outcomes, 40)
    assert {one.subject for one in harness.outcomes} == {"spool", "run", "train", "convert"}
    again = Harness(tmp_path, seed=3, note=print)  # nothing is done twice
    assert again.outcomes == harness.outcomes


def test_twenty_full_disks_lose_and_tear_nothing_uncounted(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("no file system of its own can be mounted")
    assert full_disks_inside(20, 3, tmp_path) == 0
    _nothing_counted(Harness(tmp_path, seed=3, note=print).outcomes, 20)
