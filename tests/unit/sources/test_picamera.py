"""The Pi camera's driver against a picamera2 that behaves as the real one, see fake_picamera2."""

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

from edge_sdk.cli.group import exit_code
from edge_sdk.errors import CameraNotFoundError, SourceLostError
from edge_sdk.sources import picamera
from edge_sdk.sources.picamera import PiCamera, choose_mode, covering
from edge_sdk.sources.specification import open_source
from edge_sdk.types import Frame
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from tests.unit.sources.fake_picamera2 import IMX219 as _IMX219
from tests.unit.sources.fake_picamera2 import IMX708 as _IMX708
from tests.unit.sources.fake_picamera2 import RED as _RED
from tests.unit.sources.fake_picamera2 import OldPicamera2, Picamera2
from tests.unit.sources.fake_picamera2 import modes as _modes


@pytest.fixture
def pi(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Picamera2]]:
    monkeypatch.setattr(
        Picamera2, "cameras", [{"Model": "imx708", "Id": "/base/axi/i2c@88000/imx708@1a"}]
    )

    class Fresh(Picamera2):
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
        modes, in_use = pi.modes, set()

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
    notes: list[str] = []
    camera = PiCamera(size=(512, 512), note=notes.append)
    assert camera.size == (320, 240)
    assert _read(camera).pixels.shape == (240, 320, 3)
    assert any("less than the model's" in sentence for sentence in notes)


def test_a_cropped_view_is_said(pi: type[Picamera2]) -> None:
    pi.cropped = True
    notes: list[str] = []
    camera = PiCamera(note=notes.append)
    _read(camera), _read(camera)
    assert len(notes) == 1
    assert "not its whole field of view" in notes[0]


def test_a_whole_view_is_not_worth_a_word(pi: type[Picamera2]) -> None:
    notes: list[str] = []
    _read(PiCamera(size=(224, 224), note=notes.append))
    assert notes == []


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


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("Failed to acquire camera: Device or resource busy", "fuser -v /dev/media"),
        ("Failed to open /dev/video0: Permission denied", "sudo usermod -aG video"),
        ("Operation not permitted", "sudo usermod -aG video"),
        ("Initialization failed.", "rpicam-hello --camera 0"),
    ],
)
def test_the_reason_behind_picamera2_s_words_decides_the_advice(
    reason: str, advice: str, pi: type[Picamera2]
) -> None:
    pi.fails_to_open = reason
    with pytest.raises(CameraNotFoundError) as caught:
        PiCamera()
    assert reason in str(caught.value)
    assert advice in str(caught.value)
    assert exit_code(caught.value) == 5


def test_devices_that_may_not_be_opened_are_why_there_is_no_camera(
    pi: type[Picamera2], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dev" / "dma_heap").mkdir(parents=True)
    for name in ("media0", "media1", "video0", "dma_heap/linux,cma", "null"):
        (tmp_path / "dev" / name).touch()
    monkeypatch.setattr(picamera.os, "access", lambda path, _: "media1" not in str(path))
    assert picamera._forbidden(tmp_path) == [str(tmp_path / "dev" / "media1")]
    monkeypatch.setattr(picamera, "_forbidden", lambda: ["/dev/media1"])
    Picamera2.cameras = []
    with pytest.raises(CameraNotFoundError, match=r"/dev/media1 is forbidden.*usermod -aG video"):
        PiCamera()


@pytest.mark.parametrize("format_", ["RGB888", "BGR888", "XBGR8888", "XRGB8888", "YUV420"])
@pytest.mark.parametrize("size", [(70, 70), (250, 250)], ids=str)
def test_no_padding_of_a_row_is_in_the_picture(
    size: tuple[int, int], format_: str, pi: type[Picamera2]
) -> None:
    pi.answers_with = format_
    camera = PiCamera(size=size)
    width, height = camera.size
    assert pi.last.configured["stride"] != width * (1 if format_ == "YUV420" else len("rgb"))
    pixels = _read(camera).pixels
    assert pixels.shape[:2] == ((height * 3 // 2 if format_ == "YUV420" else height), width)
    assert 77 not in np.unique(pixels)  # what the padding holds


def test_a_size_that_the_driver_adjusts_is_read_back(pi: type[Picamera2]) -> None:
    pi.multiple_of = (64, 16)
    notes: list[str] = []
    camera = PiCamera(size=(230, 230), note=notes.append)
    assert pi.last.asked["main"]["size"] == (410, 230)
    assert camera.size == (448, 240)
    assert _read(camera).pixels.shape == (240, 448, 3)
    assert notes == []  # it covers the model: no note


def test_a_camera_that_does_not_start_is_given_back(pi: type[Picamera2]) -> None:
    pi.fails_to_start = True
    with pytest.raises(CameraNotFoundError, match="cannot be started"):
        PiCamera()
    assert pi.in_use == set()


def test_without_a_camera_it_says_what_to_do(pi: type[Picamera2]) -> None:
    Picamera2.cameras = []
    with pytest.raises(CameraNotFoundError, match="list-cameras") as caught:
        PiCamera()
    assert exit_code(caught.value) == 5


def test_a_number_that_is_not_there_lists_those_that_are(pi: type[Picamera2]) -> None:
    with pytest.raises(CameraNotFoundError, match="0 \\(imx708\\)"):
        PiCamera(3)


def test_usb_cameras_are_for_the_webcam(pi: type[Picamera2]) -> None:
    usb = {"Model": "C920", "Id": "/base/scb/pcie@7d500000/usb@0,0-1:1.0-046d"}
    Picamera2.cameras = [usb, *pi.cameras]
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
    notes: list[str] = []
    assert isinstance(open_source("auto", note=notes.append), PiCamera)
    assert notes == ["camera: picamera:0"]


def test_without_picamera2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraNotFoundError) as caught:
        PiCamera()
    assert "sudo apt install -y python3-picamera2" in str(caught.value)
    assert "--system-site-packages" in str(caught.value)
    assert exit_code(caught.value) == 5


@pytest.mark.parametrize("missing", ["libcamera", "pykms", "prctl"])
def test_a_picamera2_without_what_it_stands_on_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "picamera2").mkdir()
    (tmp_path / "picamera2" / "__init__.py").write_text(f"import {missing}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(CameraNotFoundError) as caught:
        PiCamera()
    assert missing in str(caught.value)
    assert "--system-site-packages, since libcamera comes from apt alone" in str(caught.value)
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
    notes: list[str] = []
    assert _read(PiCamera(size=(224, 224), note=notes.append)).pixels.shape == (224, 400, 3)
    assert "no raw stream" in notes[0]


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
