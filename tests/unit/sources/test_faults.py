"""When which fault holds: arithmetic, without a camera."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.sources.faults import (
    FAULTS,
    Fault,
    PictureFault,
    Replay,
    blocking_fault,
    describe,
    parse_replay,
    picture_fault,
)

_PLAIN = PictureFault(frozen=False, black=False, swapped=False)
_faults = st.lists(
    st.builds(
        Fault,
        st.sampled_from(FAULTS),
        st.integers(0, 50),
        st.none() | st.integers(1, 20).map(float),
    ),
    max_size=6,
).map(tuple)


def _replay(text: str) -> Replay:
    return parse_replay(text)


@pytest.mark.parametrize(
    ("number", "look"),
    [
        (199, _PLAIN),
        (200, PictureFault(True, False, False)),
        (299, PictureFault(True, False, False)),
        (300, PictureFault(False, True, False)),
        (499, PictureFault(False, True, False)),
        (500, PictureFault(False, True, True)),
        (10_000, PictureFault(False, True, True)),
    ],
)
def test_a_fault_without_duration_lasts_until_the_next(number: int, look: PictureFault) -> None:
    replay = _replay("stall@100&freeze@200&black@300&unplug@400&swap@500")
    assert picture_fault(replay, number, opened_at=0) == look


def test_a_camera_opened_anew_is_not_frozen_any_more() -> None:
    replay = _replay("freeze@200")
    assert picture_fault(replay, 250, opened_at=200).frozen
    assert not picture_fault(replay, 250, opened_at=201).frozen


def test_a_dark_room_stays_dark_when_the_camera_is_opened_anew() -> None:
    assert picture_fault(_replay("black@200"), 250, opened_at=240).black


def test_a_duration_is_in_frames_or_in_seconds() -> None:
    for text in ("fps=20&black@10+40", "fps=20&black@10+2s"):
        blacks = [number for number in range(100) if picture_fault(_replay(text), number, 0).black]
        assert blacks == list(range(10, 50))


def test_seconds_of_a_stall_may_be_given_in_frames() -> None:
    assert blocking_fault(_replay("fps=20&stall@10+40"), 10) == Fault("stall", 10, 2.0)


def test_breaks_happen_at_their_frame_only() -> None:
    replay = _replay("stall@100&unplug@400")
    broken = [number for number in range(1000) if blocking_fault(replay, number)]
    assert broken == [100, 400]


def test_a_script_is_repeated() -> None:
    replay = _replay("unplug@5&black@7+2&repeat=10")
    assert [number for number in range(30) if blocking_fault(replay, number)] == [5, 15, 25]
    blacks = [number for number in range(30) if picture_fault(replay, number, 0).black]
    assert blacks == [7, 8, 17, 18, 27, 28]


@given(_faults, st.integers(0, 200), st.integers(0, 200))
def test_nothing_looks_different_before_the_first_fault(
    faults: tuple[Fault, ...], number: int, opened_at: int
) -> None:
    look = picture_fault(Replay(faults=faults), number, opened_at)
    assert not (look.frozen and look.black)
    if all(fault.at > number for fault in faults):
        assert look == _PLAIN


@given(_faults)
def test_what_is_described_is_read_back(faults: tuple[Fault, ...]) -> None:
    assert parse_replay(describe(faults)).faults == faults
