"""The webcam's driver, with OpenCV's capture replaced by one that goes wrong as real ones do."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.cli.group import exit_code
from edge_sdk.errors import (
    CameraNotFoundError,
    FrameError,
    NoFrameYetError,
    SourceLostError,
    UnreadableImageError,
)
from edge_sdk.sources import webcam
from edge_sdk.sources import webcam as webcam_module
from edge_sdk.sources.capture import on_monotonic_clock
from edge_sdk.sources.webcam import V4L2Device, Webcam, list_webcams
from edge_sdk.types import Frame
from edge_sdk.vision.preprocess import Preprocessing, preprocess

_Answer = tuple[bool, NDArray[Any] | None] | Exception


class _Capture:
    """Answers as scripted; beyond its script the device is gone."""

    def __init__(self, answers: list[_Answer], largest: tuple[int, int] = (1920, 1080)) -> None:
        self.answers, self.largest = answers, largest
        self.released = 0
        self.settings: dict[int, int] = {}
        self.stamp_ms = 0.0

    def open(self, target: str, backend: int, flat: list[int]) -> _Capture:
        assert backend == cv2.CAP_V4L2
        assert not flat  # it takes none at opening
        return self

    def set(self, key: int, value: int) -> bool:
        self.settings[key] = value
        return True

    def isOpened(self) -> bool:  # noqa: N802  # OpenCV's name
        return True

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_POS_MSEC:
            return self.stamp_ms
        place = {cv2.CAP_PROP_FRAME_WIDTH: 0, cv2.CAP_PROP_FRAME_HEIGHT: 1}[key]
        return float(min(self.settings[key], self.largest[place]))

    def read(self) -> tuple[bool, NDArray[Any] | None]:
        answer: _Answer = self.answers.pop(0) if self.answers else (False, None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def release(self) -> None:
        self.released += 1


_Plug = Callable[..., _Capture]


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> _Plug:
    """Plugs in a camera that gives these pictures."""

    def plugged(*pictures: Any, **more: Any) -> _Capture:
        answers = [p if isinstance(p, (tuple, Exception)) else (True, p) for p in pictures]
        capture = _Capture(answers, **more)
        monkeypatch.setattr(cv2, "VideoCapture", capture.open)
        return capture

    return plugged


@pytest.fixture
def device(tmp_path: Path) -> str:
    (tmp_path / "video0").touch()
    return str(tmp_path / "video0")


def _picture(*channels: int, value: tuple[int, ...] | int = 7) -> NDArray[np.uint8]:
    return np.full((48, 64, *channels), value, np.uint8)


def _read(camera: Webcam) -> Frame:
    frame = camera.read()
    assert frame is not None
    return frame


def test_frames_come_in_order(plug: _Plug, device: str) -> None:
    plug(_picture(3), _picture(3))
    camera = Webcam(device)
    frames = [_read(camera), _read(camera)]
    assert [(f.index, f.format, f.name) for f in frames] == [(0, "bgr", device), (1, "bgr", device)]


@pytest.mark.parametrize(
    ("picture", "format_"),
    [
        (_picture(), "gray"),
        (_picture(1), "gray"),
        (_picture(3, value=(10, 30, 200)), "bgr"),
        (_picture(4, value=(10, 30, 200, 255)), "bgr"),
    ],
    ids=["gray", "one-channel", "bgr", "bgra"],
)
def test_cameras_of_any_number_of_channels_are_taken(
    plug: _Plug, device: str, picture: NDArray[np.uint8], format_: str
) -> None:
    plug(picture)
    frame = _read(Webcam(device))
    assert frame.format == format_
    seen = preprocess(frame, Preprocessing(8, 8))[0, 0]
    assert seen.tolist() == ([200, 30, 10] if format_ == "bgr" else [7, 7, 7])


@pytest.mark.parametrize(
    "picture", [_picture(2), _picture(3).astype(np.uint16), np.zeros((0, 0, 3), np.uint8)]
)
def test_pictures_that_cannot_be_used_say_how_to_change_them(
    plug: _Plug, device: str, picture: NDArray[Any]
) -> None:
    plug(picture)
    with pytest.raises(FrameError, match="v4l2-ctl"):
        Webcam(device).read()


@pytest.mark.parametrize("empty", [(True, None), cv2.error("a broken JPEG")], ids=["none", "error"])
def test_one_empty_picture_is_waited_over(
    plug: _Plug, device: str, empty: tuple[bool, None] | Exception
) -> None:
    plug(_picture(3), empty, _picture(3))
    camera = Webcam(device)
    _read(camera)
    with pytest.raises(NoFrameYetError):
        camera.read()
    assert _read(camera).index == 1


def test_nothing_but_empty_pictures_is_a_lost_camera(plug: _Plug, device: str) -> None:
    plug(*[(True, None)] * 100)
    camera = Webcam(device)
    for _ in range(29):
        with pytest.raises(NoFrameYetError):
            camera.read()
    with pytest.raises(SourceLostError):
        camera.read()


def test_a_camera_that_dies_is_lost_for_good_and_given_back(plug: _Plug, device: str) -> None:
    capture = plug(_picture(3))
    camera = Webcam(device)
    _read(camera)
    for _ in range(3):
        with pytest.raises(SourceLostError, match="silent after 1 frames"):
            camera.read()
    assert capture.released == 1


def test_an_unplugged_camera_is_called_so(plug: _Plug, device: str) -> None:
    plug()
    camera = Webcam(device)
    Path(device).unlink()
    with pytest.raises(SourceLostError, match="unplugged"):
        camera.read()


@pytest.mark.parametrize(
    ("size", "asked", "as_jpeg"),
    [
        (None, (640, 480), False),
        ((224, 224), (640, 480), False),
        ((500, 500), (1280, 720), True),
        ((1024, 1024), (1920, 1080), True),
        ((3000, 2000), (3000, 2000), True),
    ],
)
def test_a_size_that_covers_the_model_s_is_asked_for(
    plug: _Plug,
    device: str,
    size: tuple[int, int] | None,
    asked: tuple[int, int],
    as_jpeg: bool,
) -> None:
    settings = plug(largest=(5000, 5000))
    Webcam(device, size=size)
    got = settings.settings
    assert (got[cv2.CAP_PROP_FRAME_WIDTH], got[cv2.CAP_PROP_FRAME_HEIGHT]) == asked
    assert got[cv2.CAP_PROP_BUFFERSIZE] == 1
    assert (cv2.CAP_PROP_FOURCC in got) == as_jpeg


def test_a_camera_that_gives_less_says_so(plug: _Plug, device: str) -> None:
    plug(largest=(320, 240))
    notes: list[str] = []
    assert Webcam(device, size=(512, 512), note=notes.append).size == (320, 240)
    assert "less than the model's 512 x 512" in notes[0]


def test_the_driver_s_time_is_used_where_it_is_ours(plug: _Plug, device: str) -> None:
    capture = plug(_picture(3), _picture(3))
    camera = Webcam(device)
    capture.stamp_ms = time.monotonic_ns() / 1e6 - 30
    age_ns = time.monotonic_ns() - (_read(camera).timestamp_ns or 0)
    assert 30_000_000 <= age_ns < 5_000_000_000
    capture.stamp_ms = 12.0
    assert _read(camera).timestamp_ns is None


def test_times_of_other_clocks_are_told_apart() -> None:
    now = time.monotonic_ns()
    asleep = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    assert on_monotonic_clock(now - 1_000_000) == now - 1_000_000
    booted = on_monotonic_clock(now + asleep - 1_000_000)
    assert booted is not None
    assert abs(booted - now) < 2_000_000
    for other in (None, 0, 5, time.time_ns(), now + 3_600_000_000_000, now - 3_600_000_000_000):
        assert on_monotonic_clock(other) is None


def test_a_missing_device_lists_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webcam, "list_webcams", lambda: [V4L2Device("/dev/video2", "C920")])
    with pytest.raises(CameraNotFoundError, match="/dev/video2 \\(C920\\)") as caught:
        Webcam(str(tmp_path / "video9"))
    assert exit_code(caught.value) == 5


def test_a_number_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webcam, "list_webcams", list)
    with pytest.raises(CameraNotFoundError, match="/dev/video97: there is no such device"):
        Webcam(97)


def test_a_device_that_may_not_be_opened_names_the_group(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CameraNotFoundError, match="usermod -aG video"):
        Webcam(device)


def test_a_device_that_does_not_open_is_busy_or_none(device: str) -> None:
    with pytest.raises(CameraNotFoundError, match=f"fuser -v {device}"):
        Webcam(device)  # a plain file, which the real OpenCV refuses


def test_without_any_webcam_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webcam, "list_webcams", list)
    with pytest.raises(CameraNotFoundError, match="there is no webcam"):
        Webcam()


def test_the_first_webcam_is_taken_and_named(
    plug: _Plug, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(_picture(3))
    monkeypatch.setattr(webcam, "list_webcams", lambda: [V4L2Device(device, "C920")])
    notes: list[str] = []
    assert _read(Webcam(note=notes.append)).name == device
    assert notes == [f"webcam: {device} (C920)"]


def test_what_is_no_v4l2_device_is_no_webcam(tmp_path: Path) -> None:
    for name in ("video0", "video10", "video2", "videofile"):
        (tmp_path / name).touch()
    assert list_webcams(str(tmp_path)) == []
    assert list_webcams(str(tmp_path / "nowhere")) == []


def _capability(driver: str, capabilities: int, device_caps: int) -> bytes:
    names = (driver.encode(), b"HD Pro Webcam", b"usb-1")
    return struct.pack("=16s32s32sIII12x", *names, 0x060100, capabilities, device_caps)


@pytest.mark.parametrize(
    ("driver", "capabilities", "device_caps", "is_webcam"),
    [
        ("uvcvideo", 0x84A00001, 0x04200001, True),
        ("uvcvideo", 0x84A00001, 0x04A00000, False),  # its second node, for metadata
        ("old", 0x00000001, 0, True),
        ("bcm2835-codec", 0x84200001, 0x04200001, False),
        ("unicam", 0x84A00001, 0x04200001, False),
        ("rp1-cfe", 0x84A00001, 0x04200001, False),
    ],
)
def test_webcams_are_told_from_the_other_devices(
    driver: str, capabilities: int, device_caps: int, is_webcam: bool
) -> None:
    answer = _capability(driver, capabilities, device_caps)
    device = webcam_module._read_capability("/dev/video0", answer)
    assert (device is not None) == is_webcam
    assert device is None or device.card == "HD Pro Webcam"


def test_the_ioctl_is_that_of_linux() -> None:
    assert (
        webcam_module._QUERYCAP == 0x80685600
    )  # VIDIOC_QUERYCAP in linux/videodev2.h, 64 and 32 bits


def test_a_jpeg_that_the_camera_sent_damaged_is_refused_and_the_next_one_read(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    whole = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8))[
        1
    ]
    half = np.concatenate([whole[: whole.size // 2], np.array([0xFF, 0xD9], np.uint8)])
    padded = np.concatenate([whole[:-2], np.full(8, 0x5A, np.uint8), whole[-2:]])

    class Motion(_Capture):
        def read(self) -> tuple[bool, NDArray[Any] | None]:
            _, answer = super().read()
            return True, cv2.imdecode(answer, cv2.IMREAD_COLOR)  # as OpenCV's V4L2 capture does

    capture = Motion([(True, whole), (True, half), (True, padded), (True, whole)])
    monkeypatch.setattr(cv2, "VideoCapture", capture.open)
    camera = Webcam(device)
    assert _read(camera).index == 0
    with pytest.raises(UnreadableImageError, match="damaged inside"):
        camera.read()
    assert [_read(camera).index, _read(camera).index] == [2, 3]


def test_a_camera_whose_frames_are_larger_than_allowed_is_refused(plug: _Plug, device: str) -> None:
    capture = plug(_picture(3))
    with pytest.raises(CameraNotFoundError, match="640 x 480 pixels are more than the limit"):
        Webcam(device, max_pixels=300_000)
    assert capture.released == 1
