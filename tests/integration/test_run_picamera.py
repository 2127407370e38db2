"""``edgecls run --camera picamera``, with the fake picamera2 in its capture process."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from edge_sdk import open_camera
from edge_sdk.errors import NoFrameYetError
from edge_sdk.ports import FrameSource, SizedSource
from edge_sdk.types import Frame
from tests.integration.host import edgecls
from tests.integration.run_process import whole_lines

_PACKAGE = """
import time
from tests.unit.sources import fake_picamera2
from tests.unit.sources.fake_picamera2 import IMX708, CompletedRequest, Picamera2, modes

Picamera2.cameras = [{"Model": "imx708", "Id": "/base/axi/i2c@88000/imx708@1a", "Num": 0}]
Picamera2.modes = modes(IMX708)
take = Picamera2.capture_request

def capture_request(self):
    time.sleep(0.02)
    return take(self)

Picamera2.capture_request = capture_request
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that ``import picamera2`` finds, also in the capture process."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "picamera2.py"
    file.write_text(_PACKAGE, "utf-8")
    return file


@pytest.mark.parametrize("spec", ["picamera", "picamera:0", "auto"])
def test_frames_of_a_pi_camera_are_classified(
    spec: str, package: Path, int8_artifact: Path
) -> None:
    result = edgecls("run", int8_artifact, "--camera", spec, "--json", "--limit", "5")
    assert result.exit_code == 0, result.stderr
    lines = whole_lines(result.stdout)
    assert [line["type"] for line in lines] == ["frame"] * 5
    assert {line["source"] for line in lines} == {"picamera:0"}
    assert all(15 < line["age_ms"] < 5000 for line in lines)  # 20 ms old when the driver gives it


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "raise ImportError(\"No module named 'libcamera'\")",
            "sudo apt install -y python3-picamera2",
        ),
        ("Picamera2.in_use = {0}", "Device or resource busy): another program has it"),
        ("Picamera2.fails_to_open = 'open: Permission denied'", "sudo usermod -aG video $USER"),
        ("Picamera2.cameras = []", "libcamera finds: none"),
        ("Picamera2.answers_with = 'MJPEG'", "use --camera webcam"),
        ("Picamera2.fails_to_start = True", "cannot be started (Failed to start camera"),
    ],
)
def test_what_goes_wrong_with_a_pi_camera_is_exit_5_with_what_to_do(
    change: str, said: str, package: Path, int8_artifact: Path
) -> None:
    package.write_text(f"{_PACKAGE}\n{change}\n", "utf-8")
    result = edgecls("run", int8_artifact, "--camera", "picamera", "--json")
    assert result.exit_code == 5
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_size_that_was_adjusted_is_told_where_it_is_too_small(
    package: Path, int8_artifact: Path
) -> None:
    package.write_text(f"{_PACKAGE}\nPicamera2.largest = (6, 4)\n", "utf-8")
    result = edgecls("run", int8_artifact, "--camera", "picamera", "--json", "--limit", "2")
    assert result.exit_code == 0, result.stderr
    assert "picamera:0 delivers 6 x 4 pixels, less than the model's" in result.stderr


def test_a_pi_camera_that_goes_is_opened_anew(package: Path, int8_artifact: Path) -> None:
    marker = package.with_name("gone")
    change = f"""
from pathlib import Path

def capture_once(self):
    if self.requests_out == 0 and getattr(self, "count", 0) == 5 and not Path({str(marker)!r}).exists():
        Path({str(marker)!r}).touch()
        raise RuntimeError("Camera frontend has timed out!")
    self.count = getattr(self, "count", 0) + 1
    return capture_request(self)

Picamera2.capture_request = capture_once
"""
    package.write_text(_PACKAGE + change, "utf-8")
    result = edgecls("run", int8_artifact, "--camera", "picamera", "--json", "--limit", "12")
    assert result.exit_code == 0, result.stderr
    lines = whole_lines(result.stdout)
    reported = [line["what"] for line in lines if line["type"] == "health"]
    assert reported[:2] == ["lost", "reopened"]
    (lost,) = [line for line in lines if line.get("what") == "lost"]
    assert "timed out" in lost["detail"]


def test_a_larger_model_makes_the_camera_give_larger_pictures(package: Path) -> None:
    with open_camera("picamera", size=(32, 32)) as camera:
        assert isinstance(camera, SizedSource)
        small = _next(camera).size
        assert camera.ask_for((16, 16)) is False
        assert _next(camera).size == small
        assert camera.ask_for((300, 224)) is True
        large = _next(camera).size
        assert small < (300, 224) <= large
        assert large[1] >= 224
        assert [health.what for health in camera.take_health()] == ["resized", "reopened"]
        assert camera.ask_for((300, 224)) is False


def test_a_camera_that_cannot_give_more_is_asked_once(package: Path) -> None:
    package.write_text(f"{_PACKAGE}\nPicamera2.largest = (64, 48)\n", "utf-8")
    with open_camera("picamera", size=(32, 32)) as camera:
        _next(camera)
        assert isinstance(camera, SizedSource)
        assert camera.ask_for((300, 224)) is True
        assert max(_next(camera).size) < 224
        assert camera.ask_for((300, 224)) is False


def _next(camera: FrameSource) -> Frame:
    give_up_s = time.monotonic() + 30
    while time.monotonic() < give_up_s:
        with contextlib.suppress(NoFrameYetError):
            frame = camera.read()
            assert frame is not None
            return frame
    pytest.fail("no frame in half a minute")
