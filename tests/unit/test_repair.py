"""The arithmetic of the repair: budgets of all pictures and of each class, and sets of operators."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sklearn", reason="the extra [host] is not installed")

from host_tools.repair.rungs import Sensitivity, outcome, steps


def _right(wrong: int, n: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.arange(n) >= wrong


def test_one_class_may_break_its_budget_alone() -> None:
    # 1,000 pictures of two classes; 20 of the 100 of the small one are lost.
    truth = np.repeat([0, 1], [100, 900])
    before, after = _right(0, 1000), _right(20, 1000)
    alone = outcome(before, after, truth, 5.0, None)
    assert alone.drop_points == pytest.approx(2)
    assert alone.class_drop_points == pytest.approx(20)
    assert alone.holds
    assert alone.verdict == "pass"
    both = outcome(before, after, truth, 5.0, 5.0)
    assert not both.holds
    assert both.verdict == "fail"
    assert outcome(before, after, truth, 5.0, 25.0).holds


def test_a_class_of_few_pictures_is_inconclusive() -> None:
    truth = np.repeat([0, 1], [4, 996])
    same = _right(0, 1000)
    assert outcome(same, same, truth, 1.0, None).verdict == "pass"
    assert outcome(same, same, truth, 1.0, 1.0).verdict == "inconclusive"


_GROUPS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 30).map(str), min_size=1, max_size=4, unique=True),
        st.floats(-1, 1),
    ),
    max_size=40,
)


@given(_GROUPS, st.sets(st.integers(0, 30).map(str)), st.integers(0, 30))
def test_sets_of_operators_grow_up_to_all_that_may_be(
    groups: list[tuple[list[str], float]], already: set[str], most: int
) -> None:
    sensitive = [Sensitivity(tuple(names), "CONV_2D", gain) for names, gain in groups]
    found = steps(sensitive, tuple(already), most)
    wanted: list[str] = []
    for group in sensitive:
        if group.gain <= 0:
            continue
        more = [name for name in group.names if name not in (*already, *wanted)]
        if len(wanted) + len(more) > most:
            break
        wanted += more
    assert (list(found[-1]) if found else []) == wanted
    sizes = [len(one) for one in found]
    assert sizes == sorted(set(sizes))
