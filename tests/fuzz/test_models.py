"""A few hundred damaged and forged models; thousands of them: ``python -m tests.fuzz.campaign``."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert", reason="the extra [host] is not installed")
pytest.importorskip("onnxruntime", reason="the extra [host] is not installed")

from tests.fuzz.campaign import campaign, summary
from tests.fuzz.damage import damaged, read_base

_FILES = 240


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_hundreds_of_damaged_and_forged_models_break_no_promise(tmp_path: Path) -> None:
    outcomes = list(campaign(iter(range(_FILES)), tmp_path))
    assert [outcome for outcome in outcomes if outcome.fault] == [], summary(outcomes)
    # All kinds of end occur, or the damage tests nothing.
    ends = [outcome.ended for outcome in outcomes]
    assert ends.count("exit 7") > _FILES // 4
    assert ends.count("exit 0") > _FILES // 50
    assert sum("cannot run it" in outcome.said for outcome in outcomes) > _FILES // 20


def test_a_number_names_one_file(int8_artifact: Path) -> None:
    base = read_base(int8_artifact)
    for forged in (False, True):
        files = [damaged(base, number, forged=forged) for number in (7, 7, 8)]
        assert files[0] == files[1]
        assert files[0] != files[2]
