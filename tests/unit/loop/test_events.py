"""What came and went."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.loop.decisions import Event, Presence

_STEPS = st.lists(
    st.tuples(st.sampled_from([None, "a", "b"]), st.floats(0, 1), st.floats(0, 1e4)), max_size=40
)


@given(steps=_STEPS, zero=st.floats(-1e9, 1e9))
def test_comings_and_goings_take_turns_and_times_add_up(
    steps: list[tuple[str | None, float, float]], zero: float
) -> None:
    presence, now_s = Presence(), zero
    there: str | None = None
    since_s = now_s
    for label, score, wait_s in steps:
        now_s += wait_s
        for event in presence.update(label, score, now_s):
            if event.what == "left":
                assert event.label == there
                assert event.seconds == now_s - since_s
                assert event.seconds >= 0
                there = None
            else:
                assert there is None
                assert (event.label, event.score, event.seconds) == (label, score, 0.0)
                there, since_s = event.label, now_s
        assert there == label


def test_a_bottle_appears_and_leaves_after_a_while() -> None:
    presence = Presence()
    assert presence.update(None, 0.2, 10.0) == ()
    assert presence.update("bottle", 0.7, 11.0) == (Event("appeared", "bottle", 0.7, 0.0),)
    assert presence.update("bottle", 0.9, 12.0) == ()
    assert presence.update("bottle", 0.6, 13.0) == ()
    assert presence.update(None, 0.1, 14.2) == (Event("left", "bottle", 0.9, pytest.approx(3.2)),)


def test_who_leaves_comes_before_who_appears() -> None:
    presence = Presence()
    presence.update("can", 0.5, 0.0)
    left, appeared = presence.update("cup", 0.8, 1.0)
    assert (left.what, left.label, appeared.what, appeared.label) == (
        *("left", "can"),
        *("appeared", "cup"),
    )


def test_when_nobody_looks_any_more_who_was_there_left_when_last_seen() -> None:
    presence = Presence()
    presence.update("can", 0.5, 1.0)
    presence.update("can", 0.7, 3.5)
    assert presence.end() == (Event("left", "can", 0.7, 2.5),)
    assert presence.end() == ()
    assert presence.update("can", 0.6, 3600.0) == (Event("appeared", "can", 0.6, 0.0),)
