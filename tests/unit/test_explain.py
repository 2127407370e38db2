"""The arithmetic of heat maps, with models that are functions of known pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason="the extra [host] is not installed")
pytest.importorskip("shap", reason="the extra [shap] is not installed")

from host_tools.explain.explain import FileNames
from host_tools.explain.heat import (
    DIFFERENCE,
    SIGNED,
    agreement,
    cell_edges,
    enlarged,
    full_colour,
    overlay,
)
from host_tools.explain.occlusion import finest_step, occlusion, patches
from host_tools.explain.shapley import FEWEST_EVALUATIONS, MOST_EVALUATIONS, shapley
from host_tools.explain.subjects import _flips, _worst
from host_tools.predict import BATCH

pytestmark = pytest.mark.computes

_TOP, _BOTTOM, _LEFT, _RIGHT = 8, 14, 20, 26


class _Clock:
    """A clock that advances only during a model's work."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _RegionScorer:
    """Its first score is the brightness of one region."""

    def __init__(self, clock: _Clock | None = None, cost: float = 0.0) -> None:
        self.evaluations, self._clock, self._cost = 0, clock or _Clock(), cost

    def score(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert pixels.dtype == np.uint8
        self.evaluations += len(pixels)
        self._clock.now += self._cost * len(pixels)
        bright = pixels[:, _TOP:_BOTTOM, _LEFT:_RIGHT].mean(axis=(1, 2, 3)) / 255
        return np.stack([bright, 1 - bright], axis=1).astype(np.float32)

    def close(self) -> None:
        """No resources to release."""


def _picture(channels: int = 3) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(0).integers(0, 60, (32, 40, channels))
    pixels[_TOP:_BOTTOM, _LEFT:_RIGHT] += 180
    return pixels.astype(np.uint8)


@given(height=st.integers(1, 70), width=st.integers(1, 70))
@settings(deadline=None, max_examples=60)
def test_every_pixel_lies_under_equally_many_patches(height: int, width: int) -> None:
    for step in range(1, finest_step(height, width) + 1):
        covered = np.zeros((height, width), int)
        for patch in patches(height, width, step):
            covered[patch.top : patch.bottom, patch.left : patch.right] += 1
        assert (covered == step * step).all()
        assert set(patches(height, width, 1)) <= set(patches(height, width, step))


@given(side=st.integers(1, 500), cells=st.integers(1, 60), times=st.integers(1, 6))
def test_coarse_edges_are_fine_edges(side: int, cells: int, times: int) -> None:
    fine = cell_edges(side, cells * times)
    assert fine[0] == 0
    assert fine[-1] == side
    assert (np.diff(fine) >= 0).all()
    assert (fine[::times] == cell_edges(side, cells)).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method", [occlusion, shapley])
def test_a_map_peaks_where_the_answer_comes_from(method: object, channels: int) -> None:
    assert callable(method)
    (heat,) = method([_RegionScorer()], _picture(channels), 0, 20, ["it"])
    row, column = np.unravel_index(heat.values.argmax(), heat.values.shape)
    assert _TOP <= row < _BOTTOM
    assert _LEFT <= column < _RIGHT
    (against,) = method([_RegionScorer()], _picture(channels), 1, 20, ["it"])
    assert np.allclose(against.values, -heat.values, atol=1e-6)


def test_shap_values_and_the_base_add_up_to_the_score() -> None:
    picture = _picture()
    score = _RegionScorer().score(picture[np.newaxis])[0, 0]
    for seconds in (0.001, 20):
        clock = _Clock()
        (heat,) = shapley([_RegionScorer(clock, 0.01)], picture, 0, seconds, ["it"], clock)
        assert heat.base_score is not None
        assert heat.base_score + heat.values.sum() == pytest.approx(score, abs=1e-5)


def test_the_same_picture_gives_the_same_map_and_leaves_random_numbers_alone() -> None:
    np.random.seed(7)  # noqa: NPY002
    first, second = (
        shapley([_RegionScorer()], _picture(), 0, 20, ["it"])[0].values for _ in range(2)
    )
    assert (first == second).all()
    drawn = np.random.rand()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    assert drawn == np.random.rand()  # noqa: NPY002


@given(cost=st.floats(1e-4, 2.0), seconds=st.floats(0.5, 60))
@settings(deadline=None, max_examples=12)
def test_the_time_is_kept(cost: float, seconds: float) -> None:
    clock = _Clock()
    scorer = _RegionScorer(clock, cost)
    (heat,) = occlusion([scorer], _picture(), 0, seconds, ["it"], clock)
    fewest = 1 + len(patches(32, 40, 1))
    assert heat.evaluations == scorer.evaluations
    assert heat.seconds == pytest.approx(clock.now)
    assert heat.seconds <= max(seconds, fewest * cost) + 1e-6
    if seconds > 2000 * cost:
        assert heat.evaluations == 1 + len(patches(32, 40, finest_step(32, 40)))

    clock = _Clock()
    scorer = _RegionScorer(clock, cost)
    (heat,) = shapley([scorer], _picture(), 0, seconds, ["it"], clock)
    assert heat.evaluations == scorer.evaluations <= MOST_EVALUATIONS + BATCH
    assert clock.now <= max(seconds, (FEWEST_EVALUATIONS + BATCH) * cost) + 2 * cost


def test_two_models_get_the_same_patches_though_one_is_slow() -> None:
    clock = _Clock()
    fast, slow = _RegionScorer(clock, 1e-5), _RegionScorer(clock, 0.02)
    first, second = occlusion([fast, slow], _picture(), 0, 5, ["a", "b"], clock)
    assert first.evaluations == second.evaluations < 300
    assert (first.values == second.values).all()
    first, second = shapley([fast, slow], _picture(), 0, 5, ["a", "b"], clock)
    assert first.evaluations == second.evaluations < 300


def test_agreement() -> None:
    rising = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert agreement(rising, rising**3) == pytest.approx(1)
    assert agreement(rising, -rising) == pytest.approx(-1)
    assert agreement(rising, np.zeros((3, 4), np.float32)) is None


def test_a_map_without_heat_leaves_the_picture_gray() -> None:
    nothing = np.zeros((32, 40), np.float32)
    assert full_colour([nothing]) > 0
    drawn = overlay(_picture(), nothing, full_colour([nothing]), SIGNED)
    assert (drawn[:, :, 0] == drawn[:, :, 1]).all()
    assert (drawn[:, :, 1] == drawn[:, :, 2]).all()


def test_for_is_red_and_against_is_blue() -> None:
    gray = np.full((2, 2, 1), 128, np.uint8)
    values = np.array([[1, -1], [0, 9]], np.float32)
    drawn = overlay(gray, values, 1.0, SIGNED).astype(int)
    assert drawn[0, 0, 0] > drawn[0, 0, 2] + 30
    assert drawn[0, 1, 2] > drawn[0, 1, 0] + 30
    assert (drawn[1, 1] == drawn[0, 0]).all()  # beyond the scale is the end of the scale
    assert overlay(gray, values, 1.0, DIFFERENCE).shape == (2, 2, 3)


def test_small_pictures_are_enlarged_in_whole_pixels() -> None:
    picture = _picture(1)
    large = enlarged(picture)
    times = large.shape[0] // 32
    assert large.shape == (32 * times, 40 * times, 3)
    assert large.shape[1] >= 200
    assert (large[::times, ::times, 0] == picture[:, :, 0]).all()
    assert enlarged(np.zeros((600, 500, 3), np.uint8)).shape == (600, 500, 3)


@given(st.lists(st.text(max_size=60), min_size=2, max_size=8))
def test_file_names_are_safe_and_differ(texts: list[str]) -> None:
    names = FileNames()
    given_out = [names.new(text, "m", ending=".png") for text in texts + texts]
    assert len({name.casefold() for name in given_out}) == len(given_out)
    for name in given_out:
        assert Path(name).name == name
        assert not name.startswith(".")
        assert len(name.encode()) < 255


def test_parts_that_meet_differently_do_not_overwrite() -> None:
    names = FileNames()
    assert names.new("a", "b_c") != names.new("a_b", "c")


def test_mistakes_come_by_their_scores() -> None:
    scores = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], np.float32)
    other = np.array([[0.6, 0.4], [0.9, 0.1], [0.4, 0.6], [0.9, 0.1]], np.float32)
    truth = np.array([1, 1, 0, 1])
    assert _worst(scores, truth).tolist() == [1, 2, 0]
    assert _flips(scores, other, truth).tolist() == [3]
