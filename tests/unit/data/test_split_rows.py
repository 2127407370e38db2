"""Rows in several arrays, read as those of one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.data.cache import SplitRows

_COUNTS = st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any)


def _split(counts: list[int]) -> tuple[SplitRows, np.ndarray]:
    whole = np.random.default_rng(0).integers(0, 256, (sum(counts), 2, 3, 1), np.uint8)
    return SplitRows(np.split(whole, np.cumsum(counts)[:-1])), whole


@given(_COUNTS, st.data())
def test_rows_are_those_of_one_array(counts: list[int], data: st.DataObject) -> None:
    split, whole = _split(counts)
    assert split.shape == whole.shape
    assert len(split) == len(whole)
    assert np.array_equal(np.asarray(split), whole)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=9)), np.int64)
    assert np.array_equal(split[chosen], whole[chosen])
    start, stop = (data.draw(st.integers(-9, 9)) for _ in range(2))
    assert np.array_equal(split[start:stop], whole[start:stop])
    row = data.draw(st.integers(-len(whole), len(whole) - 1))
    assert np.array_equal(split[row], whole[row])


def test_one_row_is_not_copied() -> None:
    parts = [np.zeros((2, 4, 4, 3), np.uint8), np.ones((3, 4, 4, 3), np.uint8)]
    row = SplitRows(parts)[3]
    assert np.shares_memory(row, parts[1])


@pytest.mark.parametrize("row", [5, -6])
def test_a_row_that_is_not_there_is_an_index_error(row: int) -> None:
    with pytest.raises(IndexError, match=f"row {row} of 5"):
        _split([2, 3])[0][row]
