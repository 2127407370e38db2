"""The representative dataset: stratified, seeded, without copies, and anchored at black and white."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_sdk.errors import ConversionError
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.data.cache import PictureCache
from host_tools.data.load import Subset
from host_tools.data.pictures import Picture
from host_tools.quantize.calibrate import CalibrationSet, drawn, read_folder

pytestmark = pytest.mark.computes

_NAMES = tuple("abcdefgh")
_OTHERS = 7


def _subset(*per_class: int, digests: dict[int, str] | None = None) -> Subset:
    """Pictures whose every pixel is their running number, behind some of another split."""
    labels = np.repeat(np.arange(len(per_class)), per_class)
    pixels = np.empty((_OTHERS + len(labels), 4, 4, 3), np.uint8)
    pixels[:_OTHERS] = 254
    pixels[_OTHERS:] = np.arange(1, len(labels) + 1)[:, None, None, None]
    pictures = tuple(Picture(Path(f"{i}.png"), 0, None) for i in range(len(pixels)))
    names = [(digests or {}).get(i - _OTHERS, str(i)) for i in range(len(pixels))]
    cache = PictureCache(pixels, pixels, pictures, tuple(names), ())
    return Subset(cache, _OTHERS + np.arange(len(labels)), labels)


def _numbers(calibration: CalibrationSet) -> list[int]:
    """Running numbers, from 0, of the pictures."""
    return [int(value) - 1 for value in calibration.pixels[:, 0, 0, 0]]


def test_classes_are_drawn_evenly_however_unequal_they_are() -> None:
    subset = _subset(100, 5, 40)
    calibration = drawn(subset, _NAMES, 12, seed=0)
    numbers = _numbers(calibration)
    assert np.bincount(subset.labels[numbers]).tolist() == [4, 4, 4]
    assert len(set(numbers)) == 12
    assert calibration.labels == tuple(_NAMES[label] for label in subset.labels[numbers])
    assert calibration.digests == tuple(subset.digests[number] for number in numbers)


def test_the_first_half_is_spread_over_the_classes_too() -> None:
    labels = drawn(_subset(100, 100), _NAMES, 40, seed=0).labels
    assert labels is not None
    assert labels[:20].count("a") == labels[:20].count("b") == 10


def test_a_small_class_is_used_up_and_the_others_fill_in() -> None:
    subset = _subset(100, 2)
    numbers = _numbers(drawn(subset, _NAMES, 20, seed=0))
    assert np.bincount(subset.labels[numbers]).tolist() == [18, 2]


def test_the_last_two_are_black_and_white() -> None:
    pixels = drawn(_subset(5, 5), _NAMES, 4, seed=0).anchored()
    assert len(pixels) == 6
    assert (pixels[-2] == 0).all()
    assert (pixels[-1] == 255).all()


def test_the_draw_depends_on_the_seed_alone() -> None:
    subset = _subset(50, 50)
    first, again, other = (_numbers(drawn(subset, _NAMES, 10, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_more_than_there_are_is_all_there_are() -> None:
    assert len(drawn(_subset(3, 4), _NAMES, 500, seed=0)) == 7


def test_no_picture_is_drawn_twice() -> None:
    calibration = drawn(
        _subset(6, 6, digests={1: "same", 2: "same", 8: "same"}), _NAMES, 12, seed=0
    )
    assert len(calibration) == 10
    assert calibration.left_out == 2
    assert len(set(calibration.digests)) == 10


def test_a_picture_with_a_copy_in_another_split_is_not_drawn() -> None:
    subset = _subset(6, 6, digests={0: "known", 7: "also"})
    calibration = drawn(subset, _NAMES, 12, seed=0, others={"known", "also", "of no account"})
    assert sorted(_numbers(calibration)) == [n for n in range(12) if n not in (0, 7)]
    assert calibration.left_out == 2


def test_no_training_pictures_is_an_error_and_never_random_data() -> None:
    with pytest.raises(ConversionError, match="no training pictures to calibrate with; int8"):
        drawn(_subset(), _NAMES, 10, seed=0)


def test_training_pictures_that_are_all_known_from_the_test_split_are_an_error() -> None:
    subset = _subset(2, 2)
    with pytest.raises(ConversionError, match="that no other split has a copy of"):
        drawn(subset, _NAMES, 10, seed=0, others=set(subset.digests))


def _folder(root: Path, **counts: int) -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((6, 8, 3), 3 * number + len(name), np.uint8)
            assert cv2.imwrite(str(root / name / f"{number}.png"), pixels)
    return root


def _read(folder: Path, count: int = 100) -> tuple[CalibrationSet, list[str]]:
    said: list[str] = []
    how = Preprocessing(4, 4)
    return read_folder(folder, how, ("cat", "dog"), count, 0, note=said.append), said


def test_a_folder_with_a_sub_folder_per_label_is_drawn_from_evenly(tmp_path: Path) -> None:
    calibration, said = _read(_folder(tmp_path, cat=40, dog=5), 8)
    assert calibration.pixels.shape == (8, 4, 4, 3)
    assert calibration.labels is not None
    assert sorted(calibration.labels) == ["cat"] * 4 + ["dog"] * 4
    assert calibration.split is None
    assert said == []


def test_a_folder_without_labels_is_read_whole(tmp_path: Path) -> None:
    calibration, said = _read(_folder(tmp_path, monday=3, tuesday=4))
    assert len(calibration) == 7
    assert calibration.labels is None
    assert len(said) == 1
    assert "not named like the labels" in said[0]


def test_pictures_beside_the_sub_folders_are_not_lost(tmp_path: Path) -> None:
    folder = _folder(tmp_path, cat=3, dog=2)
    assert cv2.imwrite(str(folder / "stray.png"), np.zeros((5, 5, 3), np.uint8))
    calibration, _ = _read(folder)
    assert len(calibration) == 6
    assert calibration.labels is None


def test_a_folder_called_as_a_label_holds_pictures_of_that_class(tmp_path: Path) -> None:
    calibration, said = _read(_folder(tmp_path, cat=3) / "cat")
    assert calibration.labels == ("cat",) * 3
    assert said == []


def test_an_unreadable_picture_is_left_out_and_reported(tmp_path: Path) -> None:
    folder = _folder(tmp_path, cat=3, dog=2)
    (folder / "cat" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    calibration, said = _read(folder)
    assert len(calibration) == 5
    assert len(said) == 1
    assert "bad.png" in said[0]


@pytest.mark.parametrize("what", ["empty", "only text", "missing", "a file"])
def test_a_folder_without_pictures_is_an_error(what: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    if what == "a file":
        folder.write_text("x")
    elif what != "missing":
        folder.mkdir()
    if what == "only text":
        (folder / "notes.txt").write_text("x")
    expected = "no pictures in it to calibrate with" if folder.is_dir() else "cannot be read"
    with pytest.raises(ConversionError, match=expected) as error:
        _read(folder)
    assert str(folder) in str(error.value)


def test_a_folder_of_which_nothing_can_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    with pytest.raises(ConversionError, match="none of its 1 pictures can be read"):
        _read(tmp_path)


def test_a_data_set_with_splits_is_refused(tmp_path: Path) -> None:
    _folder(tmp_path / "train", cat=3, dog=2)
    _folder(tmp_path / "test", cat=3, dog=2)
    with pytest.raises(ConversionError, match=r"a data set with splits \(test, train\)"):
        _read(tmp_path)
