"""The statistics of a drop, against brute force, simulation and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.interval_coverage import simulate
from host_tools.validate.statistics import drop_interval, images_needed, judge, mcnemar_p

pytestmark = pytest.mark.computes

_Z95 = 1.959963984540054


@st.composite
def _counts(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 5000))
    lost = draw(st.integers(0, n))
    return lost, draw(st.integers(0, n - lost)), n


def _score(lost: int, won: int, n: int, drop: float, correction: float) -> float:
    """Tango's statistic from its definition, by trying every share of ``won`` on a grid.

    The nuisance parameter is the one that makes the three counts most likely if the true drop is
    ``drop``; nothing is solved in closed form.
    """

    def log_likelihood(share_won: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.zeros_like(share_won)
        shares = (share_won + drop, share_won, 1 - 2 * share_won - drop)
        for count, share in zip((lost, won, n - lost - won), shares, strict=True):
            if count:
                with np.errstate(divide="ignore"):
                    total += count * np.log(np.maximum(share, 0))
        return total

    low, high = max(0.0, -drop), (1 - drop) / 2
    for _ in range(6):  # each grid a hundred times finer than the one before
        grid = np.linspace(low, high, 2001)
        best = grid[log_likelihood(grid).argmax()]
        step = grid[1] - grid[0]
        low, high = max(max(0.0, -drop), best - 10 * step), min((1 - drop) / 2, best + 10 * step)
    variance = n * (2 * best + drop - drop**2)
    distance = lost - won - n * drop
    nearer = math.copysign(max(0, abs(distance) - correction), distance)
    return float(nearer / math.sqrt(variance))


@pytest.mark.parametrize(
    ("lost", "won", "n"),
    [
        (0, 0, 360),
        (1, 0, 360),
        (0, 1, 360),
        (12, 2, 50),
        (2, 12, 50),
        (10, 10, 100),
        (30, 5, 515),
        (150, 100, 10_000),
        (3, 0, 10),
        (1, 1, 3),
        (40, 60, 100),
        (99, 1, 100),
    ],
)
@pytest.mark.parametrize("correction", [0, 0.5])
def test_at_both_limits_the_score_statistic_is_1_96(
    lost: int, won: int, n: int, correction: float
) -> None:
    low, high = drop_interval(lost, won, n, correction=correction)
    used = correction if lost + won else 0
    assert _score(lost, won, n, low, used) == pytest.approx(_Z95, abs=1e-3)
    assert _score(lost, won, n, high, used) == pytest.approx(-_Z95, abs=1e-3)


@given(_counts())
def test_the_correction_widens_on_both_sides_by_less_than_two_pictures(
    counts: tuple[int, int, int],
) -> None:
    lost, won, n = counts
    low, high = drop_interval(lost, won, n)
    plain_low, plain_high = drop_interval(lost, won, n, correction=0)
    if lost + won == 0:
        assert (low, high) == (plain_low, plain_high)
        return
    for wider in (plain_low - low, high - plain_high):
        assert -1e-9 <= wider <= 2 / n


def test_published_limits_come_out() -> None:
    # The airway measurements of Fagerland, Lydersen and Laake 2014: -0.517 to -0.026.
    low, high = drop_interval(1, 7, 21, correction=0)
    assert (low, high) == (pytest.approx(-0.517, abs=5e-4), pytest.approx(-0.026, abs=5e-4))


def test_no_discordant_picture_among_360_is_known_to_a_point() -> None:
    low, high = drop_interval(0, 0, 360)
    assert high == pytest.approx(3.8415 / (360 + 3.8415), rel=1e-4)
    assert 100 * high == pytest.approx(1.056, abs=1e-3)
    assert low == pytest.approx(-high)


@given(_counts())
def test_swapping_lost_and_won_mirrors_the_interval(counts: tuple[int, int, int]) -> None:
    lost, won, n = counts
    low, high = drop_interval(lost, won, n)
    mirrored = drop_interval(won, lost, n)
    assert mirrored == (pytest.approx(-high, abs=1e-9), pytest.approx(-low, abs=1e-9))


@given(_counts())
def test_the_interval_holds_the_observed_drop_and_stays_in_bounds(
    counts: tuple[int, int, int],
) -> None:
    lost, won, n = counts
    low, high = drop_interval(lost, won, n)
    assert -1 <= low <= (lost - won) / n <= high <= 1
    assert low < high


@pytest.mark.parametrize(("lost", "won", "n"), [(0, 0, 20), (1, 0, 20), (3, 2, 20), (8, 4, 40)])
def test_more_pictures_of_the_same_kind_narrow_the_interval(lost: int, won: int, n: int) -> None:
    widths = []
    for factor in (1, 2, 4, 8, 100):
        low, high = drop_interval(lost * factor, won * factor, n * factor)
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < widths[0] / 5


def test_a_lower_level_narrows_the_interval() -> None:
    low, high = drop_interval(8, 4, 100)
    assert low < drop_interval(8, 4, 100, z=1.0)[0] < 0.04 < drop_interval(8, 4, 100, z=1.0)[1]
    assert drop_interval(8, 4, 100, z=1.0)[1] < high


@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_where_all_pictures_are_alike_the_limits_are_known_in_closed_form(n: int) -> None:
    # None discordant: n d = z² (1 - d). All lost: n (1 - d) = z² (1 + d).
    none = _Z95**2 / (n + _Z95**2)
    everything = (n - _Z95**2) / (n + _Z95**2)
    assert drop_interval(0, 0, n) == (pytest.approx(-none), pytest.approx(none))
    assert drop_interval(n, 0, n, correction=0) == (pytest.approx(everything), pytest.approx(1))
    assert drop_interval(0, n, n, correction=0) == (pytest.approx(-1), pytest.approx(-everything))


@pytest.mark.parametrize(
    ("lost", "won", "n"),
    [(-1, 0, 10), (0, -1, 10), (0, 0, 0), (0, 0, -5), (6, 5, 10), (11, 0, 10)],
)
def test_impossible_counts_are_refused(lost: int, won: int, n: int) -> None:
    with pytest.raises(ValueError, match="is impossible"):
        drop_interval(lost, won, n)


@pytest.mark.parametrize(
    ("n", "drop", "other"),
    [
        *((50, 0.0, 0.05), (50, 0.02, 0.0), (100, 0.02, 0.05), (100, 0.05, 0.0), (200, 0.02, 0.0)),
        *((200, 0.02, 0.01), (360, 0.0, 0.02), (360, 0.02, 0.03), (1000, 0.003, 0.002)),
        *((1000, 0.01, 0.02), (2000, 0.003, 0.0), (10_000, 0.0, 0.0), (10_000, 0.003, 0.01)),
        *((10_000, 0.02, 0.05), (10_000, 0.05, 0.0)),
    ],
)
def test_the_true_drop_is_within_the_interval_as_often_as_promised(
    n: int, drop: float, other: float
) -> None:
    # A part of benchmarks/interval_coverage.py, whose whole table is in docs/validation.md.
    assert simulate(n, drop, other, draws=20_000, seed=1998).kept


def test_the_simulation_finds_an_interval_that_is_too_narrow() -> None:
    cell = simulate(200, 0.02, 0.01, draws=20_000, seed=1998, correction=0)
    assert cell.discordant == pytest.approx(6)
    assert not cell.kept
    assert cell.coverage < 0.94


def test_two_lost_points_on_fifty_pictures_prove_nothing() -> None:
    interval = drop_interval(1, 0, 50)
    low, high = 100 * interval[0], 100 * interval[1]
    for budget in (0, 0.5, 1, 2, 5, 10):
        assert judge((low, high), budget) == "inconclusive"
    needed = images_needed(1, 0, 50, 0.005)
    assert needed is not None
    assert needed > 200


@pytest.mark.parametrize(
    ("lost", "won"),
    [(0, 0), (1, 0), (0, 1), (1, 1), (5, 0), (0, 9), (12, 2), (2, 12), (50, 60), (300, 200)],
)
def test_mcnemar_is_the_binomial_test_of_scipy(lost: int, won: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="the extra [host] is not installed")
    expected = stats.binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert mcnemar_p(lost, won) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mcnemar_is_a_probability_that_does_not_care_who_won(lost: int, won: int) -> None:
    assert 0 <= mcnemar_p(lost, won) <= 1
    assert mcnemar_p(lost, won) == mcnemar_p(won, lost)


@pytest.mark.parametrize(("lost", "won"), [(-1, 0), (0, -1), (-1, 3)])
def test_mcnemar_refuses_negative_counts(lost: int, won: int) -> None:
    with pytest.raises(ValueError, match="is impossible"):
        mcnemar_p(lost, won)


@pytest.mark.parametrize(
    ("lost", "won", "n", "budget"),
    [
        (6, 3, 360, 0.02),
        (0, 0, 100, 0.02),
        (0, 0, 50, 0.005),
        (30, 10, 500, 0.03),
        (9, 1, 400, 0.01),
    ],
)
def test_the_pictures_it_asks_for_settle_it_and_fewer_do_not(
    lost: int, won: int, n: int, budget: float
) -> None:
    low, high = drop_interval(lost, won, n)
    assert low <= budget < high
    needed = images_needed(lost, won, n, budget)
    assert needed is not None
    assert needed > n

    def settled(pictures: float) -> bool:
        scale = pictures / n
        low, high = drop_interval(lost * scale, won * scale, pictures)
        return high <= budget or low > budget

    assert settled(needed)
    assert not settled(0.85 * needed)


def test_without_a_changed_answer_the_number_follows_from_the_formula() -> None:
    # The interval of no discordant pair among n ends at z^2 / (n + z^2).
    z2 = 1.959963984540054**2
    for budget in (0.002, 0.005, 0.01):
        exact = z2 * (1 - budget) / budget
        needed = images_needed(0, 0, 50, budget)
        assert needed is not None
        assert exact <= needed <= 1.1 * exact


def test_a_drop_equal_to_its_budget_is_never_settled() -> None:
    assert images_needed(4, 2, 100, 0.02) is None
