"""The Pi camera's driver against a picamera2 that behaves as the real one, the parts that are used.

The modes are those that real sensors report; sizes and formats are adjusted without a word, arrays
lie in memory as libcamera's names say, a request must be given back, two openings clash.
"""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.cli.group import exit_code
from edge_sdk.errors import CameraNotFoundError, SourceLostError
from edge_sdk.preprocess import Preprocessing, preprocess
from edge_sdk.sources.picamera import PiCamera, choose_mode, covering
from edge_sdk.sources.specification import open_source
from edge_sdk.types import Frame

# As sensor_modes gives them, shortened: Camera Module 2 (IMX219) and 3 (IMX708).
_IMX219 = (
    ((640, 480), (1000, 752, 1280, 960), 206.65),
    ((1640, 1232), (0, 0, 3280, 2464), 41.85),
    ((1920, 1080), (680, 692, 1920, 1080), 47.57),
    ((3280, 2464), (0, 0, 3280, 2464), 21.19),
)
_IMX708 = (
    ((1536, 864), (768, 432, 3072, 1728), 120.13),
    ((2304, 1296), (0, 0, 4608, 2592), 56.03),
    ((4608, 2592), (0, 0, 4608, 2592), 14.35),
)
_RED = (200, 30, 10)


def _modes(table: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [
        {"format": "SRGGB10_CSI2P", "bit_depth": 10, "size": size, "crop_limits": crop, "fps": fps}
        for size, crop, fps in table
    ]


def _memory(format_: str, width: int, height: int) -> NDArray[np.uint8]:
    """A red picture as it lies in memory, after the manual's table of formats."""
    red, green, blue = _RED
    order = {
        "RGB888": (blue, green, red),
        "BGR888": (red, green, blue),
        "XBGR8888": (red, green, blue, 255),
        "XRGB8888": (blue, green, red, 255),
    }
    if format_ == "YUV420":
        stride = -(-width // 64) * 64
        planes = np.zeros((height * 3 // 2, stride), np.uint8)
        planes[:height, :width] = 82  # the limited-range BT.601 values of a pure red
        chroma = planes[height:].reshape(height, stride // 2)
        chroma[: height // 2, : width // 2], chroma[height // 2 :, : width // 2] = 90, 240
        return planes
    if format_ == "MJPEG":
        return np.zeros(1000, np.uint8)
    return np.full((height, width, len(order[format_])), order[format_], np.uint8)


class _Request:
    def __init__(self, camera: Picamera2) -> None:
        self.camera = camera
        camera.requests_out += 1

    def make_array(self, name: str) -> NDArray[np.uint8]:
        assert name == "main"
        if self.camera.broken_shape:
            return np.zeros((5, 5, 3), np.uint8)
        return _memory(self.camera.format, *self.camera.size)

    def get_metadata(self) -> dict[str, Any]:
        full = max(self.camera.modes, key=lambda m: m["crop_limits"][2])["crop_limits"]
        crop = (0, 0, full[2] // 2, full[3] // 2) if self.camera.cropped else full
        return {"SensorTimestamp": time.monotonic_ns() - 20_000_000, "ScalerCrop": crop}

    def release(self) -> None:
        self.camera.requests_out -= 1


class Picamera2:
    cameras: ClassVar[list[dict[str, Any]]] = []
    modes: ClassVar[list[dict[str, Any]]] = []
    answers_with: ClassVar[str] = "RGB888"
    largest: ClassVar[tuple[int, int]] = (10_000, 10_000)
    in_use: ClassVar[set[int]] = set()
    fails_to_start: ClassVar[bool] = False
    cropped: ClassVar[bool] = False
    broken_shape: ClassVar[bool] = False
    unplugged: ClassVar[bool] = False
    last: ClassVar[Picamera2]

    sensor_resolution = (4608, 2592)

    def __init__(self, number: int = 0) -> None:
        if number in self.in_use:
            raise RuntimeError("Camera __init__ sequence did not complete.")
        self.in_use.add(number)
        self.number, self.requests_out, self.started = number, 0, False
        type(self).last = self

    @classmethod
    def global_camera_info(cls) -> list[dict[str, Any]]:
        return cls.cameras

    @property
    def sensor_modes(self) -> list[dict[str, Any]]:
        return self.modes

    def create_video_configuration(
        self,
        main: dict[str, Any] | None = None,
        sensor: dict[str, Any] | None = None,
        buffer_count: int = 6,
    ) -> dict[str, Any]:
        return {"main": main, "sensor": sensor, "buffer_count": buffer_count}

    def configure(self, configuration: dict[str, Any]) -> None:
        if any(side % 2 for side in configuration["main"]["size"]):
            raise RuntimeError("width and height should be even")
        self.asked = configuration
        width, height = configuration["main"]["size"]
        self.size = (min(width, self.largest[0]), min(height, self.largest[1]))
        self.format = self.answers_with

    def camera_configuration(self) -> dict[str, Any]:
        return {"main": {"size": self.size, "format": self.format}}

    def start(self) -> None:
        if self.fails_to_start:
            raise RuntimeError("Failed to start camera: Device or resource busy")
        self.started = True

    def capture_request(self) -> _Request:
        if self.unplugged:
            raise RuntimeError("camera has gone")
        assert self.started
        return _Request(self)

    def stop(self) -> None:
        self.started = False

    def close(self) -> None:
        self.in_use.discard(self.number)


class OldPicamera2(Picamera2):
    """Before 0.3.12 there was no ``sensor`` argument."""

    def create_video_configuration(  # type: ignore[override]
        self,
        main: dict[str, Any] | None = None,
        raw: dict[str, Any] | None = None,
        buffer_count: int = 6,
    ) -> dict[str, Any]:
        return {"main": main, "raw": raw}


@pytest.fixture
def pi(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Picamera2]]:
    class Fresh(Picamera2):
        cameras: ClassVar = [{"Model": "imx708", "Id": "/base/axi/i2c@88000/imx708@1a"}]
        modes: ClassVar = _modes(_IMX708)
        in_use: ClassVar = set()

    _install(monkeypatch, Fresh)
    yield Fresh
    if hasattr(Fresh, "last"):
        assert Fresh.last.requests_out == 0


def _install(monkeypatch: pytest.MonkeyPatch, camera: type[Picamera2]) -> None:
    module = types.ModuleType("picamera2")
    module.Picamera2 = camera  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)


def _read(camera: PiCamera) -> Frame:
    frame = camera.read()
    assert frame is not None
    return frame


@pytest.mark.parametrize("format_", ["RGB888", "BGR888", "XBGR8888", "XRGB8888", "YUV420"])
def test_red_is_red_in_whatever_format_it_comes(pi: type[Picamera2], format_: str) -> None:
    pi.answers_with = format_
    frame = _read(PiCamera(size=(70, 70)))
    seen = preprocess(frame, Preprocessing(16, 16)).reshape(-1, 3).astype(int)
    expected = (255, 0, 0) if format_ == "YUV420" else _RED
    assert np.abs(seen - expected).max() <= 3


def test_frames_have_the_sensor_s_time(pi: type[Picamera2]) -> None:
    camera = PiCamera()
    frames = [_read(camera) for _ in range(3)]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert frames[0].name == "picamera:0"
    age_ns = time.monotonic_ns() - (frames[-1].timestamp_ns or 0)
    assert 20_000_000 <= age_ns < 5_000_000_000


@pytest.mark.parametrize(
    ("table", "size", "mode", "asked"),
    [
        (_IMX708, (224, 224), (2304, 1296), (400, 224)),
        (_IMX219, (224, 224), (1640, 1232), (300, 224)),
        (_IMX219, (640, 480), (1640, 1232), (640, 482)),
        (_IMX219, (2000, 1000), (3280, 2464), (2000, 1504)),
        (_IMX708, (5000, 5000), (4608, 2592), (8890, 5000)),
    ],
)
def test_the_whole_field_of_view_is_asked_for(
    pi: type[Picamera2],
    table: tuple[Any, ...],
    size: tuple[int, int],
    mode: tuple[int, int],
    asked: tuple[int, int],
) -> None:
    pi.modes = _modes(table)
    camera = PiCamera(size=size)
    assert pi.last.asked["sensor"] == {"output_size": mode, "bit_depth": 10}
    assert pi.last.asked["main"] == {"size": asked, "format": "RGB888"}
    assert camera.size[0] >= size[0]
    assert camera.size[1] >= size[1]


def test_an_older_picamera2_is_asked_in_its_own_way(
    pi: type[Picamera2], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old(OldPicamera2):
        cameras, modes, in_use = pi.cameras, pi.modes, set()

    _install(monkeypatch, Old)
    _read(PiCamera(size=(224, 224)))
    assert Old.last.asked["raw"] == {"size": (2304, 1296), "format": "SRGGB10_CSI2P"}


def test_a_camera_without_modes_is_asked_for_its_own_shape(pi: type[Picamera2]) -> None:
    pi.modes = [{"format": "YUYV"}]
    PiCamera(size=(224, 224)).close()
    assert pi.last.asked["main"]["size"] == (400, 224)
    assert pi.last.asked["sensor"] is None


def test_the_size_that_came_of_it_is_what_counts(pi: type[Picamera2]) -> None:
    pi.largest = (320, 240)
    said: list[str] = []
    camera = PiCamera(size=(512, 512), say=said.append)
    assert camera.size == (320, 240)
    assert _read(camera).pixels.shape == (240, 320, 3)
    assert any("less than the model's" in sentence for sentence in said)


def test_a_cropped_view_is_said(pi: type[Picamera2]) -> None:
    pi.cropped = True
    said: list[str] = []
    camera = PiCamera(say=said.append)
    _read(camera), _read(camera)
    assert len(said) == 1
    assert "not its whole field of view" in said[0]


def test_a_whole_view_is_not_worth_a_word(pi: type[Picamera2]) -> None:
    said: list[str] = []
    _read(PiCamera(size=(224, 224), say=said.append))
    assert said == []


def test_a_format_that_is_no_picture_is_refused_and_the_camera_given_back(
    pi: type[Picamera2],
) -> None:
    pi.answers_with = "MJPEG"
    with pytest.raises(CameraNotFoundError, match="MJPEG"):
        PiCamera()
    assert pi.in_use == set()


def test_a_picture_of_another_shape_than_configured_is_refused(pi: type[Picamera2]) -> None:
    camera = PiCamera()
    pi.broken_shape = True
    with pytest.raises(SourceLostError, match="configured"):
        camera.read()


def test_an_unplugged_camera_is_lost(pi: type[Picamera2]) -> None:
    camera = PiCamera()
    _read(camera)
    pi.unplugged = True
    for _ in range(2):
        with pytest.raises(SourceLostError):
            camera.read()
    assert pi.in_use == set()


def test_a_camera_in_use_says_so(pi: type[Picamera2]) -> None:
    first = PiCamera()
    with pytest.raises(CameraNotFoundError, match="another program"):
        PiCamera()
    first.close()
    PiCamera().close()


def test_a_camera_that_does_not_start_is_given_back(pi: type[Picamera2]) -> None:
    pi.fails_to_start = True
    with pytest.raises(CameraNotFoundError, match="cannot be started"):
        PiCamera()
    assert pi.in_use == set()


def test_without_a_camera_it_says_what_to_do(pi: type[Picamera2]) -> None:
    pi.cameras = []
    with pytest.raises(CameraNotFoundError, match="list-cameras") as caught:
        PiCamera()
    assert exit_code(caught.value) == 5


def test_a_number_that_is_not_there_lists_those_that_are(pi: type[Picamera2]) -> None:
    with pytest.raises(CameraNotFoundError, match="0 \\(imx708\\)"):
        PiCamera(3)


def test_usb_cameras_are_for_the_webcam(pi: type[Picamera2]) -> None:
    usb = {"Model": "C920", "Id": "/base/scb/pcie@7d500000/usb@0,0-1:1.0-046d"}
    pi.cameras = [usb, *pi.cameras]
    with pytest.raises(CameraNotFoundError, match="--camera webcam"):
        PiCamera(0)
    camera = open_source("picamera")
    assert isinstance(camera, PiCamera)
    assert camera.name == "picamera:1"


def test_after_close_there_are_no_more_frames(pi: type[Picamera2]) -> None:
    camera = PiCamera()
    _read(camera)
    camera.close()
    camera.close()
    assert camera.read() is None


def test_auto_takes_the_pi_camera_and_says_so(pi: type[Picamera2]) -> None:
    said: list[str] = []
    assert isinstance(open_source("auto", say=said.append), PiCamera)
    assert said == ["camera: picamera:0"]


def test_without_picamera2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraNotFoundError) as caught:
        PiCamera()
    assert "sudo apt install -y python3-picamera2" in str(caught.value)
    assert "--system-site-packages" in str(caught.value)
    assert exit_code(caught.value) == 5


def test_a_picamera2_that_does_not_fit_its_neighbours_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    with pytest.raises(CameraNotFoundError, match=r"dtype size changed.*edgecls\[pi\]"):
        PiCamera()


def test_a_camera_that_does_not_tell_its_modes_is_used_all_the_same(
    pi: type[Picamera2], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Picamera2) -> None:
        raise RuntimeError("no raw stream")

    monkeypatch.setattr(pi, "sensor_modes", property(fail))
    said: list[str] = []
    assert _read(PiCamera(size=(224, 224), say=said.append)).pixels.shape == (224, 400, 3)
    assert "no raw stream" in said[0]


_side = st.integers(1, 3000)


@given(st.tuples(_side, _side), st.sampled_from([(2304, 1296), (1640, 1232), (640, 480)]))
def test_a_covering_size_covers_and_keeps_the_shape(
    size: tuple[int, int], shape: tuple[int, int]
) -> None:
    width, height = covering(size, shape)
    assert width >= size[0]
    assert height >= size[1]
    assert width % 2 == height % 2 == 0
    assert abs(width * shape[1] - height * shape[0]) <= 4 * max(shape)


def test_no_mode_is_no_choice() -> None:
    assert choose_mode([], (1, 1)) is None
