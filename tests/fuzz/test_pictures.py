"""Some hundred damaged pictures; thousands of them: ``python -m tests.fuzz.pictures``."""

from __future__ import annotations

import pytest

from tests.fuzz.pictures import DAMAGES, campaign, damaged, judge, summary

_PICTURES = 400


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hundreds_of_damaged_pictures_break_no_promise() -> None:
    outcomes = list(campaign(iter(range(_PICTURES))))
    assert [outcome for outcome in outcomes if outcome.fault] == [], summary(outcomes)
    # All kinds of end and damage occur, or this tests nothing.
    assert {outcome.ended for outcome in outcomes} == {"refused", "read"}
    assert {outcome.damage for outcome in outcomes} == set(DAMAGES)
    torn = [
        outcome
        for outcome in outcomes
        if outcome.base.startswith("jpeg") and outcome.damage == "cut off and ended"
    ]
    # What is missing is missing: no decoder can fall into step again.
    assert all(outcome.ended == "refused" for outcome in torn if outcome.differs > 0.01)
    inside = [o for o in outcomes if o.base.startswith("jpeg") and o.damage == "a sector of zeros"]
    assert sum(o.ended == "refused" for o in inside) >= 0.9 * len(inside)


def test_a_number_names_one_picture() -> None:
    assert damaged(7)[:3] == damaged(7)[:3]
    assert damaged(7)[2] != damaged(9)[2]
    assert not judge(7).fault
