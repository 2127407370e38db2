"""The webcam's driver with the real OpenCV, on a V4L2 device that a preloaded library plays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

_SHIM = Path(__file__).with_name("v4l2_shim.c")
_PROGRAM = """
import json, sys, time
from edge_sdk.errors import EdgeClsError
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from edge_sdk.sources.webcam import _webcam
from edge_sdk.sources.webcam import Webcam

device, size, said, seen = sys.argv[1], json.loads(sys.argv[2]), [], []
result = {"card": _webcam(device).card, "seen": seen, "said": said, "error": None}
try:
    camera = Webcam(device, size=size and tuple(size), note=said.append)
    result["size"] = camera.size
    for _ in range(20):
        frame = camera.read()
        age_ms = (time.monotonic_ns() - frame.timestamp_ns) / 1e6
        pixel = preprocess(frame, Preprocessing(4, 4))[1, 1].tolist()
        seen.append([frame.index, frame.format, list(frame.pixels.shape), age_ms, pixel])
    camera.close()
except EdgeClsError as error:
    result["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-Wall", "-o", str(library), str(_SHIM), "-ldl"]
    subprocess.run(command, check=True, timeout=120)
    return library


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "video0"
    path.touch()
    cv2.imwrite(str(tmp_path / "red.jpg"), np.full((720, 1280, 3), (10, 30, 200), np.uint8))
    return path


def _play(
    shim: Path, device: Path, size: tuple[int, int] | None = None, **settings: int
) -> dict[str, Any]:
    environment = {
        **os.environ,
        "LD_PRELOAD": f"./{shim.name}",  # a blank would end the name of its folder
        "SHIM_DEVICE": str(device),
        "SHIM_JPEG": str(device.with_name("red.jpg")),
        **{f"SHIM_{name.upper()}": str(value) for name, value in settings.items()},
    }
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(device), json.dumps(size)],
        env=environment,
        cwd=shim.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.stderr == ""
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def test_frames_come_in_colour_with_the_driver_s_time(shim: Path, device: Path) -> None:
    result = _play(shim, device)
    assert (result["card"], result["size"], result["error"]) == ("Shim Camera", [640, 480], None)
    for place, (index, format_, shape, age_ms, (red, green, blue)) in enumerate(result["seen"]):
        assert (index, format_, shape) == (place, "bgr", [480, 640, 3])
        assert 0 <= age_ms < 5000
        assert red > 200
        assert max(green, blue) < 60


def test_a_large_model_is_given_large_pictures_as_jpegs(shim: Path, device: Path) -> None:
    result = _play(shim, device, (700, 700))
    assert (result["size"], result["said"], result["error"]) == ([1280, 720], [], None)
    assert np.abs(np.subtract(result["seen"][-1][4], (200, 30, 10))).max() <= 4


def test_what_the_driver_makes_of_the_size_is_read_back(shim: Path, device: Path) -> None:
    result = _play(shim, device, (3000, 3000))
    assert result["size"] == [1280, 720]
    assert "less than the model's 3000 x 3000" in result["said"][0]


def test_a_camera_that_is_unplugged_while_it_runs_is_lost(shim: Path, device: Path) -> None:
    result = _play(shim, device, frames=10)
    assert 8 <= len(result["seen"]) <= 10
    assert result["error"].startswith("SourceLostError")


def test_a_camera_that_another_program_has_says_so(shim: Path, device: Path) -> None:
    result = _play(shim, device, busy=1)
    assert result["error"].startswith("CameraNotFoundError")
    assert "another program uses it" in result["error"]
