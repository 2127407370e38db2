"""Answers over several frames, checked against slow definitions of the same thing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.loop.decisions import (
    Exponential,
    Hysteresis,
    Majority,
    Smoothing,
    Unsmoothed,
    candidates,
    parse_smoothing,
    unknown_labels,
)

_CLASSES = 3
# Few different values, so that ties and thresholds reached exactly are common.
_SCORE = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
_FRAMES = st.lists(st.tuples(*[_SCORE] * _CLASSES), min_size=1, max_size=30)
_THRESHOLD = st.sampled_from([0.0, 0.5, 0.75])
_KINDS: tuple[Smoothing, ...] = (
    Unsmoothed(),
    Majority(1),
    Majority(4),
    Exponential(0.3),
    Exponential(1),
    Hysteresis(0.75, 0.5, 1),
    Hysteresis(0.75, 0.5, 3),
)

Frames = list[tuple[float, ...]]


def _array(frame: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(frame, np.float32)


def _chosen(how: Smoothing, frames: Frames, threshold: float = 0.0) -> list[int | None]:
    state = how.start()
    return [state.update(_array(f), None, _CLASSES, threshold).chosen for f in frames]


def _plain(frames: Frames, threshold: float) -> list[int | None]:
    tops = [max(range(_CLASSES), key=lambda i: (f[i], -i)) for f in frames]
    return [i if f[i] >= threshold else None for i, f in zip(tops, frames, strict=True)]


@given(frames=_FRAMES, threshold=_THRESHOLD)
@pytest.mark.parametrize("how", [Unsmoothed(), Majority(1), Exponential(1)], ids=str)
def test_smoothing_over_one_frame_is_none(how: Smoothing, frames: Frames, threshold: float) -> None:
    assert _chosen(how, frames, threshold) == _plain(frames, threshold)


@given(frames=_FRAMES, n=st.integers(1, 6), threshold=_THRESHOLD)
def test_a_majority_is_never_outvoted_and_never_changes_in_a_tie(
    frames: Frames, n: int, threshold: float
) -> None:
    votes, answers = _plain(frames, threshold), _chosen(Majority(n), frames, threshold)
    before: int | None = None
    for i, answer in enumerate(answers):
        counts = Counter(votes[max(0, i - n + 1) : i + 1])
        assert counts[answer] == max(counts.values())
        if counts[before] == max(counts.values()):
            assert answer == before
        before = answer


@given(frames=_FRAMES, n=st.integers(1, 6))
def test_a_majoritys_score_is_the_mean_of_its_label(frames: Frames, n: int) -> None:
    state = Majority(n).start()
    for i, frame in enumerate(frames):
        answer = state.update(_array(frame), None, _CLASSES, 0.0)
        assert answer.chosen is not None
        seen = [f[answer.chosen] for f in frames[max(0, i - n + 1) : i + 1]]
        assert answer.score == pytest.approx(np.mean(seen))


@given(frames=_FRAMES, weight=st.floats(0.01, 1))
def test_the_exponential_mean_stays_between_the_scores_that_it_saw(
    frames: Frames, weight: float
) -> None:
    state = Exponential(weight).start()
    for i, frame in enumerate(frames):
        answer = state.update(_array(frame), None, _CLASSES, 0.0)
        for index, score in answer.ranking:
            seen = [f[index] for f in frames[: i + 1]]
            assert min(seen) - 1e-5 <= score <= max(seen) + 1e-5


def test_the_exponential_mean_is_the_recursion() -> None:
    state, mean = Exponential(0.25).start(), 0.0
    for i, score in enumerate([0.8, 0.0, 0.4, 1.0]):
        mean = score if i == 0 else mean + 0.25 * (score - mean)
        answer = state.update(_array((score, 0.0, 0.0)), None, 1, 0.0)
        assert answer.ranking[0] == (0, pytest.approx(mean))


@given(frames=_FRAMES, n=st.integers(1, 4))
def test_hysteresis_changes_only_after_enough_frames_in_a_row(frames: Frames, n: int) -> None:
    enter, leave = 0.75, 0.5
    answers = _chosen(Hysteresis(enter, leave, n), frames)
    before: int | None = None
    for i, answer in enumerate(answers):
        last = frames[max(0, i - n + 1) : i + 1]
        if answer != before:
            assert len(last) == n
            if answer is None:
                assert before is not None
                assert all(f[before] < leave for f in last)
            else:
                assert all(max(f) == f[answer] >= enter for f in last)
        elif answer is not None and len(last) == n:
            assert any(f[answer] >= leave for f in answers and last)
        before = answer


def test_hysteresis_holds_between_its_two_scores() -> None:
    frames = [(s, 0.0, 0.0) for s in (0.6, 0.8, 0.8, 0.6, 0.3, 0.6, 0.3, 0.3, 0.6, 0.8)]
    answers = _chosen(Hysteresis(0.7, 0.4, 2), list(frames))
    assert answers == [None, None, 0, 0, 0, 0, 0, None, None, None]


def test_hysteresis_hands_over_without_a_gap() -> None:
    frames: Frames = [(0.9, 0.1, 0.0)] * 2 + [(0.1, 0.9, 0.0)] * 2
    assert _chosen(Hysteresis(0.7, 0.4, 2), frames) == [None, 0, 0, 1]


@given(frames=_FRAMES, threshold=_THRESHOLD)
@pytest.mark.parametrize("how", _KINDS, ids=str)
def test_whoever_is_denied_is_never_the_answer_nor_ranked(
    how: Smoothing, frames: Frames, threshold: float
) -> None:
    allowed = candidates(("a", "b", "c"), (), ("b",))
    state = how.start()
    for frame in frames:
        answer = state.update(_array(frame), allowed, _CLASSES, threshold)
        assert answer.chosen != 1
        assert [i for i, _ in answer.ranking if i == 1] == []
        assert len(answer.ranking) == 2


@given(frames=_FRAMES)
@pytest.mark.parametrize("how", _KINDS, ids=str)
def test_two_streams_do_not_know_of_each_other(how: Smoothing, frames: Frames) -> None:
    one = _chosen(how, frames)
    other = how.start()
    for frame in reversed(frames):
        other.update(_array(frame), None, 1, 0.0)
    assert _chosen(how, frames) == one


@pytest.mark.parametrize("how", _KINDS, ids=str)
def test_scores_may_be_written_over_after_the_call(how: Smoothing) -> None:
    buffer, fresh = np.zeros(_CLASSES, np.float32), how.start()
    kept = how.start()
    for frame in [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.9, 0.8), (0.5, 0.5, 0.0)]:
        buffer[:] = frame
        assert kept.update(buffer, None, 3, 0.0) == fresh.update(_array(frame), None, 3, 0.0)


@pytest.mark.parametrize("how", _KINDS, ids=str)
def test_with_nothing_left_to_answer_the_answer_is_unknown(how: Smoothing) -> None:
    no_label = candidates(("a", "b", "c"), ("x",))
    answer = how.start().update(_array((1.0, 0.0, 0.0)), no_label, 3, 0.0)
    assert (answer.chosen, answer.ranking) == (None, ())


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("majority:7", Majority(7)),
        ("majority", Majority()),
        ("exponential:0.5", Exponential(0.5)),
        ("exponential", Exponential()),
        ("hysteresis:0.8,0.3", Hysteresis(0.8, 0.3)),
        ("hysteresis:0.8,0.3,5", Hysteresis(0.8, 0.3, 5)),
        ("hysteresis", Hysteresis()),
    ],
)
def test_a_text_says_how(text: str, how: Smoothing) -> None:
    assert parse_smoothing(text) == how


@pytest.mark.parametrize(
    "text",
    [
        *("", "median:3", "majority:0", "majority:-1", "majority:many", "majority:1,2"),
        *("exponential:0", "exponential:1.5", "exponential:nan", "exponential:"),
        *("hysteresis:0.4,0.7", "hysteresis:0.7", "hysteresis:0.7,0.4,0", "hysteresis:2,1"),
        *("hysteresis:0.7,0.4,1.5", "hysteresis:nan,nan", "hysteresis:1,1,1,1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_is_expected(text: str) -> None:
    if text == "exponential:":
        assert parse_smoothing(text) == Exponential()
        return
    with pytest.raises(ValueError, match="expected majority:N"):
        parse_smoothing(text)


def test_a_label_that_is_none_is_named_with_its_neighbour() -> None:
    labels = ("bottle", "can", "paper")
    assert unknown_labels(labels, ["can", "paper"]) == ""
    assert "did you mean 'bottle'?" in unknown_labels(labels, ["botle"])
    assert "choose from bottle, can, paper" in unknown_labels(labels, ["xyzzy"])
