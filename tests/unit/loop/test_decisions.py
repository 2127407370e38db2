"""The ranking, and what a prediction answers by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_sdk.types import Prediction, Ranked, Timing, top_k

# Few different values, so that ties are common.
_SCORES = hnp.arrays(np.float32, st.integers(1, 30), elements=st.sampled_from([0, 0.25, 0.5, 1]))


def _prediction(*scores: float, threshold: float = 0.0) -> Prediction:
    labels = ("cat", "dog", "fox", "owl")[: len(scores)]
    return Prediction(3, np.array(scores, np.float32), labels, Timing(1, 2, 3), threshold)


@given(scores=_SCORES, k=st.integers(1, 40))
def test_the_best_come_first_and_ties_keep_label_order(scores: Any, k: int) -> None:
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert top_k(scores, k) == tuple(expected)


def test_indices_are_plain_integers() -> None:
    assert [type(i) for i in top_k(np.array([0.1, 0.9], np.float32), 2)] == [int, int]


def test_more_than_there_are_gives_all() -> None:
    assert top_k(np.array([0.1, 0.9], np.float32), 5) == (1, 0)


@pytest.mark.parametrize("k", [0, -1])
def test_fewer_than_one_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"got {k}"):
        top_k(np.array([0.1, 0.9], np.float32), k)


def test_a_prediction_ranks_its_labels() -> None:
    prediction = _prediction(0.25, 0.5, 0.0, 0.25)
    assert prediction.top(3) == (Ranked("dog", 0.5), Ranked("cat", 0.25), Ranked("owl", 0.25))
    assert (prediction.label, prediction.score) == ("dog", 0.5)


@pytest.mark.parametrize(
    ("threshold", "label"),
    [(0.0, "dog"), (0.5, "dog"), (0.501, None), (1.0, None)],
    ids=["none", "reached-exactly", "just-missed", "missed"],
)
def test_below_the_threshold_the_answer_is_unknown(threshold: float, label: str | None) -> None:
    prediction = _prediction(0.25, 0.5, 0.25, threshold=threshold)
    assert prediction.label == label
    assert prediction.score == 0.5


@given(scores=_SCORES)
def test_the_label_is_the_first_of_the_ranking(scores: Any) -> None:
    labels = tuple(map(str, range(len(scores))))
    prediction = Prediction(0, scores, labels, Timing(0, 0, 0))
    assert prediction.top(1) == (Ranked(prediction.label, prediction.score),)  # type: ignore[arg-type]
