"""What every source of frames promises, and what the folder promises besides."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.errors import SourceNotFoundError, UnreadableImageError
from edge_sdk.ports import FrameSource
from edge_sdk.sources.folder import FolderSource, list_images
from edge_sdk.testing import FakeSource
from edge_sdk.types import Frame

# Every source below has three frames; the second picture of the broken ones cannot be read.
_FRAMES = 3
_Make = Callable[[bool], FrameSource]


def _picture(value: int) -> NDArray[np.uint8]:
    return np.full((6, 8, 3), value, np.uint8)


@pytest.fixture(params=["folder", "fake"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> _Make:
    def folder(broken: bool) -> FrameSource:
        for i in range(_FRAMES):
            cv2.imwrite(str(tmp_path / f"{i}.png"), _picture(i))
        if broken:
            (tmp_path / "0a.png").write_bytes(b"no picture")
        return FolderSource(tmp_path)

    def fake(broken: bool) -> FrameSource:
        script: list[Frame | Exception] = [Frame(_picture(i), index=i) for i in range(_FRAMES)]
        if broken:
            script.insert(1, UnreadableImageError("0a.png", "no picture"))
        return FakeSource(script)

    makes: dict[str, _Make] = {"folder": folder, "fake": fake}
    return makes[request.param]


def test_it_is_a_frame_source(make: _Make) -> None:
    assert isinstance(make(False), FrameSource)


def test_frames_come_in_order_and_then_none_forever(make: _Make) -> None:
    source = make(False)
    for i in range(_FRAMES):
        frame = source.read()
        assert frame is not None
        assert (frame.index, frame.format) == (i, "rgb")
        np.testing.assert_array_equal(frame.pixels, _picture(i))
    assert [source.read() for _ in range(5)] == [None] * 5


def test_after_close_there_are_no_more_frames(make: _Make) -> None:
    source = make(False)
    assert source.read() is not None
    source.close()
    assert [source.read() for _ in range(3)] == [None] * 3


def test_closing_twice_is_closing_once(make: _Make) -> None:
    source = make(False)
    source.close()
    source.close()
    assert source.read() is None


def test_closing_at_the_end_changes_nothing(make: _Make) -> None:
    source = make(False)
    while source.read() is not None:
        pass
    source.close()
    assert source.read() is None


def test_a_picture_that_cannot_be_read_does_not_end_the_source(make: _Make) -> None:
    source = make(True)
    assert source.read() is not None
    with pytest.raises(UnreadableImageError, match=r"0a\.png"):
        source.read()
    assert [source.read() is None for _ in range(3)] == [False, False, True]


def _names(source: FolderSource) -> list[str]:
    names = []
    while (frame := source.read()) is not None:
        names.append(Path(frame.name).name)
    return names


@pytest.fixture
def pictures(tmp_path: Path, digit_pictures: Path) -> Path:
    """A folder as people have them; only those called seen-... count."""
    digit = next((digit_pictures / "7").glob("*.png"))
    for name in (
        "seen-2.PNG",
        "seen-1.png",
        "within/deeper/seen-4.png",
        ".hidden.png",
        ".thumbnails/small.png",
        "no-picture.txt",
        "named-like.png/seen-3.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(digit, tmp_path / name)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    return tmp_path


def test_a_folder_is_searched_to_the_bottom_for_what_is_named_like_a_picture(
    pictures: Path,
) -> None:
    source = FolderSource(pictures)
    assert len(source) == 4
    assert sorted(_names(source)) == ["seen-1.png", "seen-2.PNG", "seen-3.png", "seen-4.png"]


def test_the_order_is_that_of_the_paths(pictures: Path) -> None:
    found = list_images(pictures)
    assert found == sorted(found)
    assert _names(FolderSource(pictures)) == [path.name for path in found]


def test_a_hidden_parent_does_not_hide_its_pictures(pictures: Path) -> None:
    assert _names(FolderSource(pictures / ".thumbnails")) == ["small.png"]


def test_a_file_is_taken_whatever_its_name(pictures: Path) -> None:
    source = FolderSource(pictures / "no-picture.txt", str(pictures / ".hidden.png"))
    assert _names(source) == ["no-picture.txt", ".hidden.png"]


@pytest.mark.parametrize("path", ["nowhere", "dangling.png"])
def test_a_path_that_leads_nowhere_is_named(path: str, pictures: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=path):
        FolderSource(pictures, pictures / path)


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(SourceNotFoundError, match="no pictures there"):
        FolderSource(tmp_path)


def test_pictures_above_the_limit_are_refused_one_by_one(pictures: Path) -> None:
    cv2.imwrite(str(pictures / "aaa-large.png"), np.zeros((100, 100, 3), np.uint8))
    source = FolderSource(pictures, max_pixels=32 * 32)
    with pytest.raises(UnreadableImageError, match="aaa-large"):
        source.read()
    assert len(_names(source)) == 4
