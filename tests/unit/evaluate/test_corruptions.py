"""Corrupted pictures: the level's strength, reproducible, of the same shape; and their use."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from host_tools.evaluate import robustness as measured
from host_tools.evaluate.robustness import (
    ENOUGH,
    FEWEST,
    KINDS,
    LEVELS,
    MOST,
    Kind,
    Robustness,
    corrupted,
    robustness,
    sample,
)

pytestmark = pytest.mark.computes

_kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def digits() -> NDArray[np.uint8]:
    """Forty real digits, 32 x 32 gray."""
    datasets = pytest.importorskip("sklearn.datasets", reason="the extra [host] is not installed")
    images = np.round(datasets.load_digits().images[:40] * (255 / 16)).astype(np.uint8)
    return np.stack([cv2.resize(image, (32, 32)) for image in images])[..., None]


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    """A real photograph, 224 x 224 RGB."""
    datasets = pytest.importorskip("sklearn.datasets", reason="the extra [host] is not installed")
    return np.ascontiguousarray(datasets.load_sample_image("flower.jpg")[100:324, 200:424])


def _distance(pixels: NDArray[np.uint8], worse: NDArray[np.uint8]) -> float:
    return float(((worse.astype(float) - pixels) ** 2).mean())


@_kinds
def test_a_higher_level_is_farther_from_the_picture(
    kind: Kind, digits: NDArray[np.uint8], photograph: NDArray[np.uint8]
) -> None:
    for pictures in (digits, photograph[None]):
        away = [
            np.mean([_distance(p, corrupted(p, kind)[level]) for p in pictures])
            for level in range(LEVELS)
        ]
        assert away[0] > 0.2
        assert all(np.diff(away) > 0)


@_kinds
def test_gray_and_colour_keep_shape_and_dtype(
    kind: Kind, digits: NDArray[np.uint8], photograph: NDArray[np.uint8]
) -> None:
    odd = np.ascontiguousarray(photograph[:33, :47])
    for picture in (digits[0], photograph, odd, photograph[:20, :30]):
        before = picture.copy()
        worse = corrupted(picture, kind)
        assert worse.shape == (LEVELS, *picture.shape)
        assert worse.dtype == np.uint8
        assert np.array_equal(picture, before)


@_kinds
def test_the_same_picture_gives_the_same_pixels(kind: Kind, photograph: NDArray[np.uint8]) -> None:
    again = np.asfortranarray(photograph.copy())
    assert np.array_equal(corrupted(photograph, kind), corrupted(again, kind))


def test_another_picture_gets_other_noise(photograph: NDArray[np.uint8]) -> None:
    noise = KINDS[0]
    gray = np.full((32, 32, 1), 128, np.uint8)
    other = gray.copy()
    other[0, 0] = 129
    one, two = (corrupted(p, noise)[2].astype(int) - p for p in (gray, other))
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.2


def test_noise_has_the_deviation_that_the_table_says() -> None:
    noise = KINDS[0]
    worse = corrupted(np.full((200, 200, 3), 128, np.uint8), noise)
    for level in range(3):  # more is cut off at black and white
        assert worse[level].std() / 255 == pytest.approx(noise.levels[level], rel=0.03)


def test_low_light_halves_the_light_at_every_level() -> None:
    dark = KINDS[2]
    white = corrupted(np.full((200, 200, 3), 255, np.uint8), dark)
    light = (white.astype(float) / 255) ** 2.2
    assert light.mean(axis=(1, 2, 3)) == pytest.approx(dark.levels, rel=0.03)
    # Shot noise: of n photoelectrons the deviation is the root.
    counted = light[3] * 1000
    assert counted.std() == pytest.approx(np.sqrt(1000 / 16), rel=0.1)


def test_contrast_keeps_the_mean_of_every_channel(photograph: NDArray[np.uint8]) -> None:
    pale = corrupted(photograph, KINDS[4])
    for level in range(LEVELS):
        assert pale[level].mean(axis=(0, 1)) == pytest.approx(photograph.mean(axis=(0, 1)), abs=0.6)


def test_jpeg_keeps_red_red() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert corrupted(red, KINDS[3])[0].mean(axis=(0, 1)) == pytest.approx((200, 0, 0), abs=6)


# ---------------------------------------------------------------- which pictures, and the figures


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(1, 60))
@settings(deadline=None)
def test_any_first_part_holds_the_classes_in_proportion(labels: list[int], most: int) -> None:
    truth = np.array(labels)
    digests = [f"{i * 7919 % 100_003:06}" for i in range(len(truth))]
    chosen = sample(truth, digests, most)
    assert len(set(chosen.tolist())) == min(most, len(truth))
    for label, n in enumerate(np.bincount(truth)):
        expected = n * len(chosen) / len(truth)
        assert abs((truth[chosen] == label).sum() - expected) <= 1 + len(np.unique(truth)) / 2


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_the_same_pictures_are_drawn_whatever_their_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, 300)
    digests = np.array([f"{value:016x}" for value in random.integers(0, 2**60, 300)])
    mixed = random.permutation(300)
    one = digests[sample(truth, digests.tolist(), 50)]
    other = digests[mixed][sample(truth[mixed], digests[mixed].tolist(), 50)]
    assert one.tolist() == other.tolist()


def _by_brightness(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A model of two classes, dark and bright: darkness alone misleads it."""
    bright = pixels.mean(axis=(1, 2, 3), dtype=np.float32) / 255
    return np.stack([1 - bright, bright], axis=1)


def _gray_pictures(n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    random = np.random.default_rng(1)
    truth = np.arange(n) % 2
    pixels = np.clip(
        random.normal(0, 25, (n, 16, 16, 3)) + np.where(truth, 190, 65)[:, None, None, None], 0, 255
    )
    return pixels.astype(np.uint8), truth, [f"{i * 7919 % 100_003:06}" for i in range(n)]


def _borne(
    pixels: NDArray[np.uint8], truth: NDArray[np.int64], digests: list[str], trained_s: float = 0.0
) -> Robustness:
    found = robustness(
        _by_brightness, lambda rows: pixels[rows], truth, digests, trained_s=trained_s
    )
    assert found is not None
    return found


def test_only_what_misleads_the_model_costs_accuracy() -> None:
    found = _borne(*_gray_pictures(90))
    kinds = {one.kind: one.accuracy for one in found.kinds}
    assert (found.n, found.clean) == (90, 1.0)
    for kind in ("noise", "blur", "jpeg", "contrast"):
        assert kinds[kind] == (1.0,) * LEVELS
    assert kinds["low light"][0] == 1.0
    assert kinds["low light"][-1] == 0.5  # all of them are dark by then
    assert found.mean == pytest.approx(np.mean([one.accuracy for one in found.kinds]))
    assert found.relative == pytest.approx(found.mean)


def test_the_order_of_the_pictures_does_not_change_a_figure() -> None:
    pixels, truth, digests = _gray_pictures(90)
    mixed = np.random.default_rng(3).permutation(90)
    names = [digests[i] for i in mixed]
    assert _borne(pixels, truth, digests) == _borne(pixels[mixed], truth[mixed], names)


@pytest.mark.parametrize(
    ("each_s", "trained_s", "n"),
    [
        (1.0, 1e9, FEWEST),
        (1e-9, 0.0, ENOUGH),
        (60 / 250.5, 0.0, 250),
        (0.06, 300.0, 500),
        (0.06, 1e9, MOST),
        (1e-9, 1e9, MOST),
    ],
)
def test_as_many_pictures_as_the_time_allows(
    each_s: float, trained_s: float, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "_seconds_each", lambda *_: each_s)
    monkeypatch.setattr(measured, "_all_corrupted", lambda pixels, _: np.stack([pixels] * LEVELS))
    found = _borne(*_gray_pictures(1100), trained_s)
    assert (found.n, found.mean) == (n, 1.0)


def test_nothing_right_to_begin_with_has_no_ratio() -> None:
    pixels, truth, digests = _gray_pictures(20)
    found = _borne(pixels, 1 - truth, digests)
    assert (found.clean, found.relative) == (0, None)


def test_without_pictures_nothing_is_measured() -> None:
    pixels, truth, _ = _gray_pictures(0)
    assert robustness(_by_brightness, lambda _: pixels, truth, [], trained_s=9) is None
