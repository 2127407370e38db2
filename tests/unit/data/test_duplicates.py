"""Copies of pictures: the search against brute force, and what counts as alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from host_tools.data.audit import duplicates
from host_tools.data.audit import duplicates as duplicates_module
from host_tools.data.audit.duplicates import (
    close_pairs,
    exact_copies,
    least_likeness,
    near_copies,
    perceptual_hashes,
)

pytestmark = pytest.mark.computes

_MANY = 60


def _scenes(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random scenes with details of every size, as photographs have them."""
    rng = np.random.default_rng(seed)
    scenes = np.zeros((n, 32, 32))
    for side in (2, 4, 8, 16, 32):
        coarse = rng.normal(0, 40 / side**0.5, (n, side, side))
        scenes += coarse.repeat(32 // side, axis=1).repeat(32 // side, axis=2)
    return np.clip(scenes + 128, 0, 255).astype(np.uint8)


def _variants(n: int) -> NDArray[np.uint8]:
    """One coarse shape, and fine edges that are another picture's every time."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 5, (n, 32, 32))
    noise -= np.stack([cv2.blur(one, (9, 9)) for one in noise])
    shape = cv2.GaussianBlur(rng.normal(0, 600, (32, 32)), (0, 0), 3)
    return np.clip(128 + shape + noise, 0, 255).astype(np.uint8)


def _near(thumbnails: NDArray[np.uint8], bits: int = 10) -> duplicates.NearCopies:
    labels = np.zeros(len(thumbnails), np.int64)
    return near_copies(thumbnails, labels, [t.tobytes().hex() for t in thumbnails], bits)


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=0, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.sets(st.integers(0, 63), max_size=12)), max_size=20),
    st.integers(0, 20),
)
@settings(deadline=None)
def test_the_blocked_search_finds_what_brute_force_finds(
    values: list[int], flips: list[tuple[int, set[int]]], bits: int
) -> None:
    for index, flipped in flips:  # neighbours of existing hashes, so that there are pairs to find
        if index < len(values):
            values.append(values[index] ^ sum(1 << bit for bit in flipped))
    expected = {
        (i, j)
        for j in range(len(values))
        for i in range(j)
        if bin(values[i] ^ values[j]).count("1") <= bits
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_ROWS", 4)  # many blocks, and blocks cut short
        patch.setattr(duplicates, "_COLUMNS", 7)
        found = [
            (int(i), int(j))
            for first, second in close_pairs(np.array(values, np.uint64), bits)
            for i, j in zip(first, second, strict=True)
        ]
    assert len(found) == len(set(found))
    assert set(found) == expected


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=10))
def test_bits_are_counted_without_numpy_2_as_well(values: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(np, "bitwise_count", raising=False)
        counted = duplicates._bit_counts(np.array([values], np.uint64))
    assert counted.tolist() == [[bin(value).count("1") for value in values]]


def test_exact_copies_are_grouped_in_order() -> None:
    groups = exact_copies(["b", "a", "b", "c", "a", "b"])
    assert [group.members for group in groups] == [(0, 2, 5), (1, 4)]


def test_a_hash_does_not_see_brightness_and_contrast() -> None:
    scenes = _scenes(20)
    paler = (scenes * 0.6 + 50).astype(np.uint8)
    distance = np.bitwise_count(perceptual_hashes(scenes) ^ perceptual_hashes(paler))
    assert distance.max() <= 4
    assert len(set(perceptual_hashes(scenes).tolist())) == 20


def test_copies_that_were_compressed_brightened_and_blurred_are_found() -> None:
    scenes = _scenes(_MANY)
    copies = scenes[:5].copy()
    _, data = cv2.imencode(".jpg", scenes[0], [cv2.IMWRITE_JPEG_QUALITY, 50])
    copies[0] = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    copies[1] = np.clip(scenes[1] * 1.2, 0, 255)
    copies[2] = np.clip(scenes[2].astype(int) + 25, 0, 255)
    copies[3] = 255 * (scenes[3] / 255) ** 1.3
    copies[4] = cv2.GaussianBlur(scenes[4], (3, 3), 0.4)
    found = _near(np.concatenate([scenes, copies]))
    assert [group.members for group in found.groups] == [(k, _MANY + k) for k in range(5)]
    assert found.complete


def test_scenes_of_their_own_are_no_copies() -> None:
    assert _near(_scenes(400), bits=16).groups == ()


def test_copies_of_copies_are_one_group_and_exact_copies_come_along() -> None:
    scenes = _scenes(_MANY)
    brighter, darker = scenes[:1] // 10 * 11, scenes[:1] // 10 * 9
    found = _near(np.concatenate([scenes, brighter, scenes[:1], darker]))
    (group,) = found.groups
    assert group.members == (0, _MANY, _MANY + 1, _MANY + 2)
    assert len(group.links) == 2  # what holds three different pictures together
    assert all(link.first < link.second for link in group.links)


def test_exact_copies_alone_are_no_near_copies() -> None:
    scenes = _scenes(_MANY)
    assert _near(np.concatenate([scenes, scenes[:5]])).groups == ()


def test_flat_and_evenly_fading_pictures_are_not_distinguished_by_noise() -> None:
    rng = np.random.default_rng(0)
    fade = np.linspace(60, 90, 32)[None, :, None] + np.linspace(0, 20, 32)[None, None, :]
    flat = np.clip(fade * rng.uniform(0.8, 1.2, (50, 1, 1)), 0, 255).astype(np.uint8)
    assert _near(np.concatenate([flat, np.full((1, 32, 32), 7, np.uint8)])).groups == ()


def test_the_same_coarse_shape_with_other_edges_is_no_copy() -> None:
    alike = _variants(_MANY)
    hashes = perceptual_hashes(alike)
    proposed = sum(len(first) for first, _ in close_pairs(hashes, 10))
    assert proposed > 50  # the hash alone takes many of them for copies
    assert _near(alike).groups == ()


def test_where_pictures_are_alike_copies_need_a_higher_likeness() -> None:
    scenes = _scenes(_MANY)
    labels = np.zeros(_MANY, np.int64)
    assert least_likeness(scenes, labels) == pytest.approx(duplicates_module._ALIKE)
    assert least_likeness(_variants(_MANY), labels) > 0.8


def test_the_comparison_ends_where_all_pictures_share_their_hash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 100)
    monkeypatch.setattr(duplicates, "_ROWS", 8)
    assert not _near(_variants(_MANY), bits=32).complete


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_pictures_are_no_trouble(n: int) -> None:
    assert _near(_scenes(n)).groups == ()
