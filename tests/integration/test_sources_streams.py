"""Network cameras: a server on loopback that ends, stops sending, and comes back."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk.errors import (
    CameraNotFoundError,
    NoFrameYetError,
    SourceLostError,
    UnreadableImageError,
)
from edge_sdk.sources.camera import open_camera
from edge_sdk.sources.latest import LatestFrame
from edge_sdk.sources.network import NetworkStream
from edge_sdk.sources.specification import open_source
from edge_sdk.types import Frame
from edge_sdk.vision.preprocess import Preprocessing, preprocess

_HERE = Path(__file__).parent
_SYSTEM_PYTHON = "/usr/bin/python3"
_PASSWORD = "hunter2"


@contextlib.contextmanager
def _serving(*command: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server and the port that it prints when it listens; killed at the end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process
    finally:
        process.kill()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def _mjpeg(port: int = 0) -> contextlib.AbstractContextManager[tuple[int, subprocess.Popen[str]]]:
    return _serving(sys.executable, str(_HERE / "mjpeg_server.py"), str(port))


def _rtsp(port: int = 0) -> contextlib.AbstractContextManager[tuple[int, subprocess.Popen[str]]]:
    return _serving(_SYSTEM_PYTHON, str(_HERE / "rtsp_server.py"), str(port))


@pytest.fixture(scope="module")
def mjpeg_port() -> Iterator[int]:
    with _mjpeg() as (port, _):
        yield port


@pytest.fixture(scope="module")
def _gst_rtsp_server() -> None:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
    with contextlib.suppress(OSError):
        ran = subprocess.run([_SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False)
        if ran.returncode == 0:
            return
    pytest.skip("gst-rtsp-server is not installed")


def _frame(source: NetworkStream) -> Frame:
    frame = source.read()
    assert frame is not None
    return frame


def _open(url: str) -> NetworkStream:
    stream = open_source(url)
    assert isinstance(stream, NetworkStream)
    return stream


def _read_until_lost(stream: NetworkStream) -> int:
    read = 0
    with contextlib.suppress(SourceLostError):
        while True:
            _frame(stream)
            read += 1
    return read


def test_frames_of_a_camera_over_http_come_in_order(mjpeg_port: int) -> None:
    stream = _open(f"http://127.0.0.1:{mjpeg_port}/")
    frames = [(_frame(stream).index, int(_frame(stream).pixels.mean())) for _ in range(10)]
    assert [index for index, _ in frames] == list(range(0, 20, 2))
    assert frames == sorted(frames)
    last = _frame(stream)
    assert (last.format, last.pixels.shape, last.timestamp_ns) == ("rgb", (48, 64, 3), None)
    stream.close()
    stream.close()
    assert stream.read() is None


@pytest.mark.parametrize("damage", ["half", "half-ended", "zeros", "head", "noise"])
def test_a_damaged_frame_of_a_stream_is_refused_and_the_next_one_read(
    mjpeg_port: int, damage: str
) -> None:
    stream = _open(f"http://127.0.0.1:{mjpeg_port}/{damage}")
    good, damaged = [], []
    for _ in range(40):
        try:
            good.append(_frame(stream).index)
        except UnreadableImageError as error:
            damaged.append(error.name)
    assert len(damaged) in (6, 7)  # of numbers 8, 13, 18, ..., less one where the first was missed
    assert set(damaged) == {stream.name}
    assert len(good) == 40 - len(damaged)
    stream.close()


def test_a_part_without_a_picture_does_not_end_a_stream(mjpeg_port: int) -> None:
    stream = _open(f"http://127.0.0.1:{mjpeg_port}/nothing")
    assert [_frame(stream).index for _ in range(30)] == list(range(30))
    stream.close()


def test_frames_that_are_too_large_are_refused_one_by_one_or_at_the_start(mjpeg_port: int) -> None:
    url = f"http://127.0.0.1:{mjpeg_port}/large"
    stream = NetworkStream(url, max_pixels=5000)
    with pytest.raises(UnreadableImageError, match="640 x 480 pixels are more than the limit"):  # noqa: PT012
        for _ in range(30):
            _frame(stream)
    stream.close()
    with pytest.raises(CameraNotFoundError, match="64 x 48 pixels are more than the limit"):
        NetworkStream(url, max_pixels=3000)


def test_a_camera_counts_damaged_frames_and_goes_on(mjpeg_port: int) -> None:
    with open_camera(f"http://127.0.0.1:{mjpeg_port}/half", changed_s=None) as camera:
        read = 0
        while read < 40:
            with contextlib.suppress(NoFrameYetError):
                assert camera.read() is not None
                read += 1
        assert camera.reopenings == 0
        assert camera.damaged >= 5
        (health,) = [h for h in camera.take_health() if h.what == "damaged"]
    assert health.detail.startswith("1 frame dropped, 1 in all: ")
    assert health.detail.endswith("the stream continues")


def test_a_camera_whose_frames_are_larger_than_allowed_is_refused(mjpeg_port: int) -> None:
    with pytest.raises(CameraNotFoundError, match="raise it with --max-megapixels"):
        open_camera(f"http://127.0.0.1:{mjpeg_port}/", max_pixels=3000)


def test_a_server_that_is_killed_is_a_lost_camera_and_can_be_opened_again() -> None:
    with _mjpeg() as (port, process):
        stream = _open(f"http://127.0.0.1:{port}/")
        _frame(stream)
        process.kill()
        before = time.monotonic()
        _read_until_lost(stream)
        assert time.monotonic() - before < 10
        for _ in range(2):
            with pytest.raises(SourceLostError, match="was lost after"):
                stream.read()
        with pytest.raises(CameraNotFoundError):
            _open(f"http://127.0.0.1:{port}/")
    with _mjpeg(port):
        assert _frame(_open(f"http://127.0.0.1:{port}/")).index == 0


def test_a_stream_that_ends_is_a_lost_camera(mjpeg_port: int) -> None:
    assert _read_until_lost(_open(f"http://127.0.0.1:{mjpeg_port}/short")) == 60


def test_a_stream_that_falls_silent_is_lost_after_the_timeout(mjpeg_port: int) -> None:
    stream = NetworkStream(f"http://127.0.0.1:{mjpeg_port}/silent", read_timeout_ms=1000)
    before = time.monotonic()
    assert _read_until_lost(stream) >= 55
    assert 1.0 <= time.monotonic() - before < 15


def test_an_address_that_takes_the_call_and_says_nothing_is_given_up(mjpeg_port: int) -> None:
    before = time.monotonic()
    with pytest.raises(CameraNotFoundError):
        NetworkStream(f"http://127.0.0.1:{mjpeg_port}/hang", open_timeout_ms=1000)
    assert 0.9 <= time.monotonic() - before < 10


def test_an_address_that_drips_is_given_up(mjpeg_port: int) -> None:
    with pytest.raises(CameraNotFoundError, match="cannot be opened"):
        NetworkStream(
            f"http://127.0.0.1:{mjpeg_port}/drip", open_timeout_ms=1000, read_timeout_ms=1000
        )


def test_a_user_and_password_in_the_url_are_used_and_not_shown(mjpeg_port: int) -> None:
    stream = _open(f"http://admin:{_PASSWORD}@127.0.0.1:{mjpeg_port}/locked")
    assert _frame(stream).name == stream.name == f"http://***@127.0.0.1:{mjpeg_port}/locked"


@pytest.mark.parametrize("used_before", [False, True], ids=["first use", "FFmpeg was in use"])
def test_nothing_that_is_written_holds_the_password(mjpeg_port: int, used_before: bool) -> None:
    first = "cv2.VideoCapture('nowhere.mp4', cv2.CAP_FFMPEG)" if used_before else ""
    code = (
        "import cv2, logging, sys, traceback\n"
        f"logging.basicConfig(level=0); {first}\n"
        "from edge_sdk import open_source\n"
        "for url in sys.argv[1:]:\n"
        "    try:\n"
        "        source = open_source(url)\n"
        "        while source.read(): pass\n"
        "    except Exception: traceback.print_exc()"
    )
    secret = f"admin:{_PASSWORD}%40x"
    urls = [
        f"http://{secret}@127.0.0.1:{mjpeg_port}/locked",
        f"http://{secret}@127.0.0.1:{mjpeg_port}/short?token={_PASSWORD}",
        f"http://{secret}@127.0.0.1:1/",
        f"rtsp://{secret}@127.0.0.1:{mjpeg_port}/",
        f"rtsp://{secret}@127.0.0.1:1/",
        f"http://{secret}@no-such-host.invalid/",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", code, *urls],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    printed = ran.stdout + ran.stderr
    assert printed.count("Error: ") >= len(urls)
    assert _PASSWORD not in printed


def test_the_newest_frame_of_a_stream_can_be_had(mjpeg_port: int) -> None:
    with LatestFrame(_open(f"http://127.0.0.1:{mjpeg_port}/")) as latest:
        first = latest.read()
        time.sleep(0.5)
        second = latest.read()
        assert first is not None
        assert second is not None
        assert second.index > first.index + 1
        assert latest.dropped == second.index - 1  # of all before it, one was read


@pytest.mark.usefixtures("_gst_rtsp_server")
def test_an_rtsp_camera_is_read_killed_and_read_again() -> None:
    with _rtsp() as (port, process):
        stream = _open(f"rtsp://admin:{_PASSWORD}@127.0.0.1:{port}/camera")
        for index in range(10):
            frame = _frame(stream)
            assert (frame.index, frame.pixels.shape) == (index, (120, 160, 3))
        red, green, blue = preprocess(frame, Preprocessing(8, 8))[4, 4].tolist()
        assert blue > 200
        assert max(red, green) < 60
        process.kill()
        before = time.monotonic()
        _read_until_lost(stream)
        assert time.monotonic() - before < 15
        with pytest.raises(CameraNotFoundError):
            _open(f"rtsp://127.0.0.1:{port}/camera")
    with _rtsp(port):
        assert _frame(_open(f"rtsp://127.0.0.1:{port}/camera")).index == 0
