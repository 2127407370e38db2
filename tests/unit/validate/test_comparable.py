"""Which models may be compared, how far their scores lie apart, and what is kept of a picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.errors import ValidationError
from edge_sdk.vision.preprocess import Preprocessing
from edge_sdk.vision.tensors import temper
from host_tools.predict import Rows
from host_tools.validate.measure import (
    check_labels,
    check_preprocessing,
    label_indices,
    score_difference,
)

_CENTER = Preprocessing(32, 32)


@dataclass(frozen=True, slots=True)
class _Model:
    path: str = "a.tflite"
    labels: tuple[str, ...] = ("cat", "dog")
    preprocessing: Preprocessing | None = _CENTER


_A = _Model()


def _scores(n: int, classes: int, seed: int = 0) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).random((n, classes), np.float32) + 0.01
    return drawn / drawn.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        (("dog", "cat"), "number 0 is 'dog' and 'cat'"),
        (("cat", "dog", "cow"), "3 and 2 of them"),
        (("cat", "Dog"), "number 1 is 'Dog' and 'dog'"),
    ],
)
def test_other_labels_are_refused_and_the_first_difference_is_named(
    labels: tuple[str, ...], part: str
) -> None:
    with pytest.raises(ValidationError, match="different labels or another order") as error:
        check_labels(_A, [_A, replace(_A, path="b.tflite", labels=labels)])
    assert part in str(error.value)
    assert "--labels FILE" in str(error.value)


@pytest.mark.parametrize(
    ("how", "part"),
    [
        (Preprocessing(32, 32, crop="squash"), "32 x 32 RGB pixels, squash"),
        (Preprocessing(96, 96), "96 x 96 RGB pixels, center"),
        (Preprocessing(32, 32, channels=1), "32 x 32 gray pixels, center"),
    ],
)
def test_another_preprocessing_is_refused(how: Preprocessing, part: str) -> None:
    with pytest.raises(ValidationError, match="the drop would measure the preprocessing") as error:
        check_preprocessing(_A, [replace(_A, path="b.tflite", preprocessing=how)])
    assert part in str(error.value)
    assert "--any-preprocessing" in str(error.value)


def test_a_preprocessing_that_is_not_known_is_not_compared() -> None:
    unknown = replace(_A, preprocessing=None)
    check_preprocessing(_A, [unknown, _A])
    check_preprocessing(unknown, [_A])


def test_classes_of_the_data_are_found_among_the_labels() -> None:
    assert label_indices(_A, ["dog"]) == [1]
    with pytest.raises(ValidationError, match="has the class cow"):
        label_indices(_A, ["cat", "cow"])
    with pytest.raises(ValidationError, match="not exactly one label"):
        label_indices(replace(_A, labels=("cat", "cat")), ["cat"])


def test_the_score_difference_is_that_of_numpy() -> None:
    first, second = _scores(9000, 7), _scores(9000, 7, seed=1)  # more than one step of rows
    found = score_difference(first, second)
    apart = np.abs(first.astype(float) - second)
    assert found.mean == pytest.approx(apart.mean(), rel=1e-5)
    assert found.largest == pytest.approx(apart.max(), rel=1e-6)


@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 99))
def test_the_score_difference_is_a_distance(n: int, classes: int, seed: int) -> None:
    first, second = _scores(n, classes, seed), _scores(n, classes, seed + 100)
    found = score_difference(first, second)
    assert found == score_difference(second, first)
    assert 0 <= found.mean <= found.largest <= 1
    same = score_difference(first, first)
    assert (same.mean, same.largest) == (0, 0)


def test_a_temperature_is_no_difference() -> None:
    scores = _scores(50, 4)
    found = score_difference(scores, temper(scores, 2.5), (1.0, 2.5))
    assert found.largest < 1e-5
    assert score_difference(scores, temper(scores, 2.5)).largest > 0.05


@given(st.lists(st.integers(0, 90), max_size=20))
def test_rows_come_back_as_they_came_in(sizes: list[int]) -> None:
    parts = [_scores(size, 3, seed=i) for i, size in enumerate(sizes)]
    rows = Rows(3)
    for part in parts:
        rows.add(part)
    assert len(rows) == sum(sizes)
    assert np.array_equal(rows.all(), np.concatenate([np.empty((0, 3), np.float32), *parts]))


def test_rows_take_hardly_more_memory_than_they_need() -> None:
    rows = Rows(10)
    for _ in range(100_000 // 64):
        rows.add(np.zeros((64, 10), np.float32))
    base = rows.all().base
    assert base is not None
    assert base.nbytes <= 1.3 * rows.all().nbytes
