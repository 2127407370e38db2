"""The names of sources: what is understood, what is refused, and what is never printed."""

from __future__ import annotations

import contextlib
import copy
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.cli.group import exit_code
from edge_sdk.errors import CameraNotFoundError, SourceNotFoundError, SourceSpecError
from edge_sdk.redaction import redact
from edge_sdk.sources import specification
from edge_sdk.sources.faults import Fault, Replay
from edge_sdk.sources.folder import FolderSource
from edge_sdk.sources.specification import SourceSpec, open_source, parse_source
from edge_sdk.testing import FakeSource

_PASSWORD = "hunter2"
_SECRET_URLS = (
    f"rtsp://admin:{_PASSWORD}@camera.local:554/stream",
    f"http://admin:{_PASSWORD}@10.0.0.7/video.mjpg",
    f"https://{_PASSWORD}@10.0.0.7/video.mjpg",
    f"rtsp://admin:pa@ss/{_PASSWORD}@camera.local/stream",
    f"rtsp://admin:pass?{_PASSWORD}@camera.local/stream",
    f"http://camera.local/video?user=admin&pwd={_PASSWORD}&channel=1",
    f"http://camera.local/video?access_token={_PASSWORD}",
    f"RTSP://admin:{_PASSWORD}@camera.local/stream",
)


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("auto", "auto", ""),
        ("picamera", "picamera", ""),
        ("picamera:1", "picamera", "1"),
        ("webcam", "webcam", ""),
        ("webcam:2", "webcam", "2"),
        ("/dev/video4", "webcam", "/dev/video4"),
        ("/dev/v4l/by-id/usb-cam", "webcam", "/dev/v4l/by-id/usb-cam"),
        ("rtsp://camera:8554/a?b=c", "stream", "rtsp://camera:8554/a?b=c"),
        ("http://camera/video", "stream", "http://camera/video"),
        ("https://camera/video", "stream", "https://camera/video"),
        ("RTSP://camera/a", "stream", "RTSP://camera/a"),
    ],
)
def test_every_form_is_understood(text: str, kind: str, target: str) -> None:
    spec = parse_source(text)
    assert (spec.kind, spec.target, str(spec)) == (kind, target, text)
    assert spec.live


def test_paths_are_folders_pictures_or_videos(tmp_path: Path, digit_pictures: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"anything")
    picture = next(digit_pictures.rglob("*.png"))
    kinds = [parse_source(str(path)).kind for path in (digit_pictures, picture, video)]
    assert kinds == ["folder", "folder", "video"]
    assert not parse_source(str(video)).live


def test_a_fake_camera_has_its_rate_and_faults(tmp_path: Path) -> None:
    spec = parse_source(f"fake:{tmp_path}?fps=20&stall@100&freeze@200+60&unplug@400+2s&size=64x48")
    assert spec.target == str(tmp_path)
    assert spec.replay == Replay(
        fps=20.0,
        size=(64, 48),
        faults=(Fault("stall", 100), Fault("freeze", 200, 60.0), Fault("unplug", 400, 2.0)),
    )


def test_a_fake_camera_without_options_plays_at_thirty(tmp_path: Path) -> None:
    assert parse_source(f"fake:{tmp_path}").replay == Replay(fps=30.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "trash_int8.tflite",
        "cam",
        "webcam:",
        "webcam:front",
        "webcam:-1",
        "picamera:one",
        "picamera:1:2",
        "ftp://camera/video",
        "rtsp://",
        "rtsp:///stream",
        "http://camera/with space",
        "http://camera/with\nnewline",
        "fake:",
        "fake:nowhere",
        "nowhere/at/all.mp4",
        "\0",
        "a" * 5000,
        "Auto",
    ],
)
def test_anything_else_is_a_usage_error(text: str) -> None:
    with pytest.raises(SourceSpecError) as caught:
        parse_source(text)
    assert exit_code(caught.value) == 2


@pytest.mark.parametrize("text", ["cam", "ftp://camera/video"])
def test_the_error_lists_the_forms(text: str) -> None:
    with pytest.raises(SourceSpecError) as caught:
        parse_source(text)
    for form in (
        "auto",
        "picamera[:N]",
        "webcam[:N]",
        "/dev/videoN",
        "rtsp://",
        "http://",
        "fake:",
    ):
        assert form in str(caught.value)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ("fsp=30", "fps="),
        ("stal@3", "stall@"),
        ("stall=3", "no option"),
        ("fps@3", "no option"),
        ("stall@", "KIND@FRAME"),
        ("stall@-1", "KIND@FRAME"),
        ("freeze@3+2m", "KIND@FRAME"),
        ("fps=0", "above 0"),
        ("fps=-1", "above 0"),
        ("fps=nan", "above 0"),
        ("fps=inf", "above 0"),
        ("fps=fast", "above 0"),
        ("loop=maybe", "loop=yes"),
        ("size=640", "WIDTHxHEIGHT"),
        ("size=0x480", "WIDTHxHEIGHT"),
        ("repeat=0", "number of frames"),
        ("repeat=10&stall@10", "restarts before"),
        ("fps=max&freeze@1+2s", "frames, as in"),
        ("fps=max&stall@1+2", "seconds, as in"),
    ],
)
def test_a_wrong_option_of_a_fake_camera_is_named(options: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(SourceSpecError) as caught:
        parse_source(f"fake:{tmp_path}?{options}")
    assert hint in str(caught.value)


@given(st.text(max_size=40))
def test_no_text_is_more_than_a_usage_error(text: str) -> None:
    for prefix in ("", "fake:.?", "rtsp://", "webcam:"):
        with contextlib.suppress(SourceSpecError):
            parse_source(prefix + text)


def _everything_printed(spec: SourceSpec) -> str:
    return "".join([str(spec), repr(spec), f"{spec}", str([spec])])


@pytest.mark.parametrize("url", _SECRET_URLS)
def test_a_password_is_not_printed_with_its_specification(url: str) -> None:
    spec = parse_source(url)
    assert spec.target == url
    assert _PASSWORD not in _everything_printed(spec)
    assert _PASSWORD not in _everything_printed(pickle.loads(pickle.dumps(spec)))


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://admin:{_PASSWORD}@camera/",
        f"rtsp://admin:{_PASSWORD}@camera/with space",
        f"rtsp://admin:{_PASSWORD} @camera/",
        f"rtmp://camera/?key={_PASSWORD}",
    ],
)
def test_a_password_is_not_printed_with_a_usage_error(url: str) -> None:
    with pytest.raises(SourceSpecError) as caught:
        parse_source(url)
    printed = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value)
    assert _PASSWORD not in printed


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_password_is_not_printed_when_a_stream_cannot_be_opened(
    scheme: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    url = f"{scheme}://admin:{_PASSWORD}@127.0.0.1:1/stream?token={_PASSWORD}"
    with pytest.raises(CameraNotFoundError) as caught:
        open_source(url)
    assert exit_code(caught.value) == 5
    chain = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value)
    outputs = "".join(capfd.readouterr())
    assert _PASSWORD not in chain + outputs + caplog.text
    assert caught.value.__cause__ is None


@given(
    st.text(st.characters(exclude_characters="*", exclude_categories=["Cs", "Z", "C"]), min_size=4),
    st.sampled_from(["rtsp", "http", "https"]),
)
def test_whatever_stands_for_a_password_is_left_out(password: str, scheme: str) -> None:
    url = f"{scheme}://user:{password}@camera.local/stream"
    assert redact(url) == f"{scheme}://***@camera.local/stream"


@pytest.mark.parametrize(
    "text", ["rtsp:/me:s3cret@host/x", "me:s3cret@host", "rtsp:me:s3cret@host"]
)
def test_a_password_in_what_is_no_url_is_not_printed_either(text: str) -> None:
    with pytest.raises(SourceSpecError) as caught:
        parse_source(text)
    assert "s3cret" not in str(caught.value)


def test_a_url_without_secrets_is_printed_as_it_is() -> None:
    url = "rtsp://camera.local:554/realmonitor?channel=1&subtype=0"
    assert redact(url) == url


def test_specifications_are_values(tmp_path: Path) -> None:
    text = f"fake:{tmp_path}?fps=20&stall@3"
    spec = parse_source(text)
    assert spec == parse_source(text)
    assert hash(spec) == hash(parse_source(text))
    assert pickle.loads(pickle.dumps(spec)) == spec == copy.copy(spec)
    assert pickle.loads(pickle.dumps(spec)).memory == spec.memory != parse_source(text).memory


def test_parsing_does_not_load_opencv(tmp_path: Path) -> None:
    code = (
        "import sys; from edge_sdk import parse_source, SourceSpec\n"
        f"parse_source('auto'), parse_source('fake:{tmp_path}?stall@3'), parse_source('rtsp://a/b')\n"
        "sys.exit('cv2' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_folder_is_opened(digit_pictures: Path) -> None:
    assert isinstance(open_source(str(digit_pictures)), FolderSource)


def test_an_empty_folder_cannot_be_opened(tmp_path: Path) -> None:
    for text in (str(tmp_path), f"fake:{tmp_path}"):
        with pytest.raises(SourceNotFoundError):
            open_source(text)


class _Named(FakeSource):
    name = "/dev/video3"


def _cameras(monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...]) -> None:
    real = open_source

    def fake_open(spec: SourceSpec, *arguments: object, **more: object) -> object:
        if spec.kind not in ("picamera", "webcam"):
            return real(spec, *arguments, **more)  # type: ignore[arg-type]
        if spec.kind in present:
            return _Named([])
        raise CameraNotFoundError(f"there is no {spec.kind}; plug one in")

    monkeypatch.setattr(specification, "open_source", fake_open)


def test_auto_takes_a_webcam_where_there_is_no_pi_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    _cameras(monkeypatch, ("webcam",))
    notes: list[str] = []
    assert isinstance(open_source("auto", note=notes.append), FakeSource)
    assert notes == ["camera: /dev/video3"]


def test_auto_without_any_camera_says_why_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    _cameras(monkeypatch, ())
    with pytest.raises(CameraNotFoundError) as caught:
        open_source("auto")
    assert "there is no picamera" in str(caught.value)
    assert "there is no webcam" in str(caught.value)
    assert exit_code(caught.value) == 5
