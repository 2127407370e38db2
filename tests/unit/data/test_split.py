"""Splits: copies and groups on one side, and without groups the same on every version."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.vision.images import MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.data.cache import CachePlace
from host_tools.data.layouts import find_pictures
from host_tools.data.load import Loading, load_dataset
from host_tools.data.pictures import Decoded, Picture, PictureFolder, Split, Unreadable
from host_tools.data.split import SplitRule, decoded_parts, decoded_split, keys_of, splits_of
from host_tools.scores.gather import half_of

pytest.importorskip("filelock", reason="the extra [host] is not installed")

_RULE = SplitRule(0.3, 0.3, 5)
_DIGESTS = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(60)]


def _picture(number: int, group: str | None = None, split: Split | None = None) -> Picture:
    return Picture(Path(f"{number}.png"), number % 2, split, group)


def _letters(splits: Sequence[Split]) -> str:
    """tRain, vAlidation, tEst."""
    return "".join(split[1] for split in splits)


def test_without_groups_splits_are_those_of_earlier_versions() -> None:
    # Recorded when a picture's split was drawn by its own digest alone.
    pictures = [_picture(i) for i in range(60)]
    assert _letters(splits_of(pictures, _DIGESTS, frozenset(), SplitRule(0.2, 0.2, 7))) == (
        "eaarrrrrraarerrearrerrarrraeearrrrrreererrrraraererreearerer"
    )
    pictures = [_picture(i, split="train") for i in range(60)]
    ready: frozenset[Split] = frozenset(("train", "test"))
    assert _letters(splits_of(pictures, _DIGESTS, ready, SplitRule(0.3, 0.2, 1))) == (
        "rrararaarrarrarrraraaaraararrrrrarrrrrrrrrarrrrarrrraarrrrar"
    )


def test_groups_without_copies_are_split_as_in_earlier_versions() -> None:
    pictures = [_picture(i, f"p{i // 4}") for i in range(60)]
    assert _letters(splits_of(pictures, _DIGESTS, frozenset(), SplitRule(0.2, 0.2, 7))) == (
        "rrrrrrrreeeerrrrrrrrrrrrrrrreeeerrrraaaaaaaarrrrrrrrrrrrrrrr"
    )


@given(
    st.lists(
        st.tuples(
            st.integers(0, 8), st.sampled_from([None, "", *"abcdefgh"]), st.sampled_from("ntve")
        ),
        max_size=40,
    ),
    st.integers(0, 99),
    st.randoms(use_true_random=False),
)
def test_nothing_that_belongs_together_is_separated(
    rows: list[tuple[int, str | None, str]], seed: int, random: object
) -> None:
    own: dict[str, Split | None] = {"n": None, "t": "train", "v": "validation", "e": "test"}
    pictures = [_picture(i, group, own[split]) for i, (_, group, split) in enumerate(rows)]
    digests = [_DIGESTS[pixels] for pixels, _, _ in rows]
    splits = splits_of(pictures, digests, frozenset(), SplitRule(0.3, 0.3, seed))
    cut = [i for i, picture in enumerate(pictures) if picture.split in (None, "train")]
    sides: dict[str, set[Split]] = defaultdict(set)
    for i in cut:
        sides[f"pixels {digests[i]}"].add(splits[i])
        if pictures[i].group:
            sides[f"group {pictures[i].group}"].add(splits[i])
    assert all(len(side) == 1 for side in sides.values())
    assert all(splits[i] == p.split for i, p in enumerate(pictures) if i not in cut)
    # In any order of the pictures.
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = splits_of(
        [pictures[i] for i in order],
        [digests[i] for i in order],
        frozenset(),
        SplitRule(0.3, 0.3, seed),
    )
    assert again == [splits[i] for i in order]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, *"abcdefgh"])), max_size=30))
def test_a_key_names_exactly_one_connected_component(
    rows: list[tuple[int, str | None]],
) -> None:
    pictures = [_picture(i, group) for i, (_, group) in enumerate(rows)]
    keys = keys_of(pictures, [_DIGESTS[pixels] for pixels, _ in rows])
    # The components, by spreading until nothing changes.
    component = list(range(len(rows)))
    changed = True
    while changed:
        changed = False
        for i, (pixels, group) in enumerate(rows):
            for j, (other_pixels, other_group) in enumerate(rows):
                linked = pixels == other_pixels or (group is not None and group == other_group)
                if linked and component[j] > component[i]:
                    component[j], changed = component[i], True
    for i in range(len(rows)):
        for j in range(len(rows)):
            assert (keys[i] == keys[j]) == (component[i] == component[j])


@pytest.fixture
def patients(tmp_path: Path) -> PictureFolder:
    """Forty patients with three pictures each; a picture of each second one is the next one's, too."""
    random = np.random.default_rng(1)
    lines = ["image,label,patient"]
    for patient in range(40):
        for number in range(3):
            name = f"{patient}_{number}"
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
            lines.append(f"{name},{'ab'[patient % 4 // 2]},p{patient:02}")
            if number == 0 and patient % 2:
                copy = tmp_path / f"{name}_copy.png"
                copy.write_bytes((tmp_path / f"{patient - 1}_0.png").read_bytes())
                lines.append(f"{name}_copy,{'ab'[patient % 4 // 2]},p{patient:02}")
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    return find_pictures(tmp_path)


def _groups_and_pixels(items: Sequence[Decoded | Unreadable]) -> tuple[set[str], set[str]]:
    readable = [item for item in items if isinstance(item, Decoded)]
    return {item.picture.group or "" for item in readable}, {item.digest for item in readable}


def test_a_data_set_keeps_patients_and_copies_on_one_side(
    patients: PictureFolder, tmp_path: Path
) -> None:
    loading = Loading(
        Preprocessing(8, 8, 3), _RULE, place=CachePlace(tmp_path / "cache", 10**9, ())
    )
    dataset = load_dataset(patients, loading)
    groups: dict[str, set[str]] = defaultdict(set)
    pixels: dict[str, set[str]] = defaultdict(set)
    for name, subset in dataset.splits.items():
        assert len(subset)
        for picture, digest in zip(subset.pictures, subset.digests, strict=True):
            groups[picture.group or ""].add(name)
            pixels[digest].add(name)
    assert len(groups) == 40
    assert {len(sides) for sides in groups.values()} == {1}
    assert {len(sides) for sides in pixels.values()} == {1}


def test_what_reads_pictures_one_by_one_finds_the_same_splits(
    patients: PictureFolder, tmp_path: Path
) -> None:
    loading = Loading(
        Preprocessing(8, 8, 3), _RULE, place=CachePlace(tmp_path / "cache", 10**9, ())
    )
    dataset = load_dataset(patients, loading)
    for name, subset in dataset.splits.items():
        items = list(decoded_split(patients, name, _RULE, MAX_PIXELS, "reading"))
        assert tuple(item.picture for item in items) == subset.pictures
    everything = list(decoded_split(patients, "all", None, MAX_PIXELS, "reading"))
    assert tuple(item.picture for item in everything) == patients.pictures


def test_an_unreadable_picture_among_groups_is_passed_on_once(
    patients: PictureFolder, tmp_path: Path
) -> None:
    (tmp_path / "0_1.png").write_bytes(b"no picture")
    items = list(decoded_split(patients, "test", _RULE, MAX_PIXELS, "reading"))
    assert [i.picture.path.name for i in items if isinstance(i, Unreadable)] == ["0_1.png"]


def test_halves_keep_patients_and_copies_together(patients: PictureFolder) -> None:
    parts = list(
        decoded_parts(
            patients.pictures,
            lambda pictures, digests: [half_of(key) for key in keys_of(pictures, digests)],
            MAX_PIXELS,
            "reading",
        )
    )
    sides = [
        _groups_and_pixels([item for item, side in parts if side == wanted])
        for wanted in ("fit", "report")
    ]
    (groups, pixels), (other_groups, other_pixels) = sides
    assert groups
    assert other_groups
    assert not groups & other_groups
    assert not pixels & other_pixels
