"""Ranges from observed values: everything, all but the tails, or the least squared error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from host_tools.quantize.activations import RANGE_METHODS, Observed

pytestmark = pytest.mark.computes


def _observed(values: np.ndarray) -> Observed:  # type: ignore[type-arg]
    one = np.asarray(values, np.float32)
    return Observed(
        np.array([one.min()]), np.array([one.max()]), np.abs(one[:1]), one[:1].astype(float), one
    )


@pytest.mark.parametrize("method", RANGE_METHODS)
@given(
    values=hnp.arrays(
        np.float32, st.integers(2, 50), elements=st.floats(-1e3, 1e3, width=32, allow_nan=False)
    )
)
def test_a_range_holds_zero_and_nothing_that_was_not_seen(
    method: str,
    values: np.ndarray,  # type: ignore[type-arg]
) -> None:
    low, high = _observed(values).range(method)  # type: ignore[arg-type]
    assert low <= 0 <= high
    assert low >= min(0.0, float(values.min()))
    assert high <= max(0.0, float(values.max()))


def test_minmax_takes_everything() -> None:
    values = np.array([-1.0, 2.0, 100.0])
    assert _observed(values).range("minmax") == (-1.0, 100.0)


def test_percentile_leaves_out_a_lonely_extreme() -> None:
    values = np.append(np.random.default_rng(0).uniform(-1, 1, 50_000), [30.0, 30.0])
    observed = _observed(values)
    assert observed.range("percentile")[1] < 1.1
    low, high = observed.range("minmax")
    assert (low, high) == (pytest.approx(-1, abs=0.01), 30.0)


def test_no_shrunken_range_has_less_error_than_the_one_of_least_squared_error() -> None:
    values = np.random.default_rng(0).standard_t(3, 20_000).astype(np.float32)
    observed = _observed(values)

    def error(low: float, high: float) -> float:
        scale = (high - low) / 255
        stored = np.clip(np.round((values - low) / scale), 0, 255)
        return float(np.square(stored * scale + low - values).mean())

    least = error(*observed.range("mse"))
    low, high = observed.range("minmax")
    assert least < error(low, high)
    for share in np.linspace(0.3, 1, 8):
        assert least <= error(low * share, high * share) * (1 + 1e-9)
