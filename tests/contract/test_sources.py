"""What every source of frames promises, and what the folder promises besides."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.errors import (
    NoFrameYetError,
    SourceLostError,
    SourceNotFoundError,
    UnreadableImageError,
)
from edge_sdk.ports import FrameSource
from edge_sdk.sources.camera import open_camera
from edge_sdk.sources.fake import FakeCamera
from edge_sdk.sources.folder import FolderSource, list_images
from edge_sdk.sources.latest import LatestFrame
from edge_sdk.sources.network import NetworkStream
from edge_sdk.sources.picamera import PiCamera
from edge_sdk.sources.video import VideoSource
from edge_sdk.sources.webcam import Webcam
from edge_sdk.testing import FakeSource
from edge_sdk.types import Frame
from edge_sdk.vision.preprocess import Preprocessing, preprocess

# Every source below has three frames; the second picture of the broken ones cannot be read.
_FRAMES = 3
_SIZE = (48, 64)


def _picture(value: int) -> NDArray[np.uint8]:
    return np.full((*_SIZE, 3), 10 * value, np.uint8)


@dataclass(frozen=True)
class _Case:
    """A source of three frames.

    Attributes:
        make: opens it.
        ends: after its frames it ends; otherwise it is lost.
    """

    make: Callable[[], FrameSource]
    ends: bool = True


def _folder(folder: Path) -> Path:
    for i in range(_FRAMES):
        cv2.imwrite(str(folder / f"{i}.png"), _picture(i))
    return folder


def _video(folder: Path) -> Path:
    path = folder / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 25, _SIZE[::-1])
    for i in range(_FRAMES):
        writer.write(_picture(i))
    writer.release()
    return path


def _script(broken: bool = False) -> FakeSource:
    script: list[Frame | Exception] = [Frame(_picture(i), index=i) for i in range(_FRAMES)]
    if broken:
        script.insert(1, UnreadableImageError("0a.png", "no picture"))
    return FakeSource(script)


class _InStep:
    """``LatestFrame`` over a source that gives the next frame when the last one has been read."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._wanted = threading.Semaphore(0)
        self._latest = LatestFrame(_Waiting(source, self._wanted))

    def read(self) -> Frame | None:
        self._wanted.release()
        while True:
            with contextlib.suppress(NoFrameYetError):
                return self._latest.read()

    def close(self) -> None:
        self._wanted.release()
        self._latest.close()


class _Waiting:
    def __init__(self, source: FrameSource, wanted: threading.Semaphore) -> None:
        self._source, self._wanted = source, wanted

    def read(self) -> Frame | None:
        self._wanted.acquire()
        return self._source.read()

    def close(self) -> None:
        self._source.close()


class _Patient:
    """Asks again where a source has nothing yet."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self.close = source.close

    def read(self) -> Frame | None:
        while True:
            with contextlib.suppress(NoFrameYetError):
                return self._source.read()


class _Capture:
    """OpenCV's capture of a camera that is unplugged after three frames."""

    def __init__(self, *_: object) -> None:
        self._given = 0

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, _: int) -> float:
        return 0.0

    def set(self, *_: int) -> bool:
        return True

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        self._given += 1
        return (True, _picture(self._given - 1)) if self._given <= _FRAMES else (False, None)

    def release(self) -> None:
        pass


class _Picamera2:
    """As much of picamera2 as a camera needs that is unplugged after three frames."""

    sensor_modes: ClassVar[list[dict[str, Any]]] = []
    sensor_resolution = (640, 480)

    def __init__(self, _: int) -> None:
        self._given = 0

    @staticmethod
    def global_camera_info() -> list[dict[str, str]]:
        return [{"Model": "imx708", "Id": "/base/i2c/imx708@1a"}]

    def create_video_configuration(self, **_: object) -> dict[str, Any]:
        return {}

    def camera_configuration(self) -> dict[str, Any]:
        return {"main": {"size": _SIZE[::-1], "format": "RGB888"}}

    def configure(self, _: object) -> None: ...

    start = stop = close = release = lambda self: None

    def capture_request(self) -> _Picamera2:
        if self._given == _FRAMES:
            raise RuntimeError("the camera is gone")
        self._given += 1
        return self

    def make_array(self, _: str) -> NDArray[np.uint8]:
        return _picture(self._given - 1)

    def get_metadata(self) -> dict[str, Any]:
        return {}


@pytest.fixture(
    params=[
        *("folder", "script", "video", "fake-folder", "fake-video", "fake-lost"),
        *("latest", "latest-lost", "webcam", "stream", "picamera", "supervised"),
    ]
)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Case:
    once = "fps=max&loop=no"
    if request.param in ("webcam", "stream"):
        monkeypatch.setattr(cv2, "VideoCapture", _Capture)
        (tmp_path / "video0").touch()
    if request.param == "picamera":
        module = types.ModuleType("picamera2")
        module.Picamera2 = _Picamera2  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "picamera2", module)

    def lost() -> FrameSource:
        return FakeCamera(_folder(tmp_path), f"fps=max&unplug@{_FRAMES}")

    cases = {
        "folder": _Case(lambda: FolderSource(_folder(tmp_path))),
        "script": _Case(_script),
        "video": _Case(lambda: VideoSource(_video(tmp_path))),
        "fake-folder": _Case(lambda: FakeCamera(_folder(tmp_path), once)),
        "fake-video": _Case(lambda: FakeCamera(_video(tmp_path), once)),
        "fake-lost": _Case(lost, ends=False),
        "latest": _Case(lambda: _InStep(VideoSource(_video(tmp_path)))),
        "latest-lost": _Case(lambda: _InStep(lost()), ends=False),
        "webcam": _Case(lambda: Webcam(str(tmp_path / "video0")), ends=False),
        "stream": _Case(lambda: NetworkStream("http://127.0.0.1/camera"), ends=False),
        "picamera": _Case(PiCamera, ends=False),
        "supervised": _Case(lambda: _Patient(open_camera(str(_video(tmp_path))))),
    }
    return cases[request.param]


@pytest.fixture
def source(case: _Case) -> Iterator[FrameSource]:
    source = case.make()
    yield source
    source.close()


def test_it_is_a_frame_source(source: FrameSource) -> None:
    assert isinstance(source, FrameSource)


def test_frames_come_in_order_and_then_it_has_ended_or_is_lost_forever(
    case: _Case, source: FrameSource
) -> None:
    for i in range(_FRAMES):
        frame = source.read()
        assert frame is not None
        assert frame.index == i
        assert frame.pixels.dtype == np.uint8
        assert frame.format in ("rgb", "bgr")  # gray pictures, the same in both
        np.testing.assert_array_equal(frame.pixels, _picture(i))
    for _ in range(4):
        if case.ends:
            assert source.read() is None
        else:
            with pytest.raises(SourceLostError):
                source.read()


def test_a_frame_can_be_preprocessed_and_is_left_as_it_is(source: FrameSource) -> None:
    source.read()
    frame = source.read()
    assert frame is not None
    kept = frame.pixels.copy()
    pixels = preprocess(frame, Preprocessing(16, 16))
    assert (pixels == 10).all()
    np.testing.assert_array_equal(frame.pixels, kept)


def test_after_close_there_are_no_more_frames(source: FrameSource) -> None:
    assert source.read() is not None
    source.close()
    assert [source.read() for _ in range(3)] == [None] * 3


def test_closing_twice_is_closing_once(source: FrameSource) -> None:
    source.close()
    source.close()
    assert source.read() is None


def test_closing_at_the_end_changes_nothing(case: _Case, source: FrameSource) -> None:
    with contextlib.suppress(SourceLostError):
        while source.read() is not None:
            pass
    source.close()
    if case.ends:
        assert source.read() is None


def _broken_folder(folder: Path) -> FrameSource:
    (_folder(folder) / "0a.png").write_bytes(b"no picture")
    return FolderSource(folder)


_BROKEN: dict[str, Callable[[Path], FrameSource]] = {
    "folder": _broken_folder,
    "script": lambda _: _script(broken=True),
    "latest": lambda folder: _InStep(_broken_folder(folder)),
}


@pytest.mark.parametrize("make", _BROKEN.values(), ids=_BROKEN)
def test_a_picture_that_cannot_be_read_does_not_end_the_source(
    make: Callable[[Path], FrameSource], tmp_path: Path
) -> None:
    source = make(tmp_path)
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
