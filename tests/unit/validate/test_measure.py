"""Figures of an artifact against its reference, from made-up answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from host_tools.validate.measure import measure
from host_tools.validate.results import Budget
from host_tools.validate.statistics import images_needed


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """A model that has answered: ``(N,)`` indices of labels."""

    answer: NDArray[np.int64]
    path: str = "any.tflite"
    labels: tuple[str, ...] = ("cat", "dog")
    temperature: float = 1.0
    artifact: Any = field(
        default_factory=lambda: SimpleNamespace(
            format="int8", data=b"", model_bytes=0, preprocessing=None
        )
    )

    def scores(self) -> NDArray[np.float32]:
        return np.where(np.arange(2) == self.answer[:, None], 0.9, 0.1).astype(np.float32)


def _measured(lost_cats: int, budget: Budget) -> Any:
    """Of 1,000 pictures 100 are cats; the reference is right, the artifact but for some cats."""
    truth = np.repeat([0, 1], [100, 900])
    answer = truth.copy()
    answer[:lost_cats] = 1
    return measure(_Said(answer), _Said(truth), truth, budget)  # type: ignore[arg-type]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_pictures_needed_to_judge_a_class_are_counted_among_all_pictures(lost: int) -> None:
    result = _measured(lost, Budget(max_class_drop=3.0))
    assert result.verdict == "inconclusive"
    of_cats = images_needed(lost, 0, 100, 0.03)
    assert of_cats is not None
    # A tenth of the pictures are cats: ten times as many are needed to see so many cats.
    assert result.images_needed == 10 * of_cats
    assert result.images_needed > 1_000


def test_pictures_needed_to_judge_all_are_taken_as_they_are() -> None:
    result = _measured(5, Budget(max_drop=0.6))
    assert result.verdict == "inconclusive"
    assert result.images_needed == images_needed(5, 0, 1_000, 0.006)


def test_the_class_that_needs_the_most_decides() -> None:
    result = _measured(2, Budget(max_drop=0.25, max_class_drop=3.0))
    of_all, of_cats = images_needed(2, 0, 1_000, 0.0025), images_needed(2, 0, 100, 0.03)
    assert of_all is not None
    assert of_cats is not None
    assert result.images_needed == max(of_all, math.ceil(10 * of_cats))
