"""Every program to copy runs from its README's own command, on fakes and a real broker."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.host import edgecls
from tests.integration.receivers import Broker, Subscriber, until

_EXAMPLES = Path(__file__).parents[2] / "firmware_examples"
_NAMES = sorted(folder.parent.name for folder in _EXAMPLES.glob("*/main.py"))


def _commands(name: str) -> list[list[str]]:
    """The lines of a README's code blocks that start its main.py, each as words."""
    text = (_EXAMPLES / name / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words for words in lines if "main.py" in words]


class _Run:
    """An example's process, and what it has printed so far."""

    def __init__(self, words: list[str], cwd: Path) -> None:
        at = words.index("python")
        settings = dict(word.split("=", 1) for word in words[:at])
        assert words[at + 1] == "main.py"
        self._process = subprocess.Popen(
            [sys.executable, "main.py", *words[at + 2 :]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, **settings, "PYTHONPATH": str(_EXAMPLES.parent)},
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    def says(self, pattern: str) -> str:
        """Waits for a line that matches."""

        def found() -> list[str]:
            return [line for line in self.lines if re.search(pattern, line)]

        until(lambda: bool(found()) or self._process.poll() is not None, 60, pattern)
        self._reader.join(0 if self._process.poll() is None else 10)
        assert found(), (pattern, self.lines, self._process.poll())
        return found()[0]

    def ends(self, number: int | None = None, code: int = 0) -> tuple[str, str]:
        """Sends a signal, or waits; standard output and error."""
        if number is not None:
            self._process.send_signal(number)
        assert self._process.stderr is not None
        errors = self._process.stderr.read()
        got = self._process.wait(60)
        self._reader.join(10)
        self._process.stderr.close()
        assert "Traceback" not in errors, errors
        assert got == code, (got, self.lines, errors)
        return "\n".join(self.lines), errors

    def stop(self) -> None:
        """In case a test has failed."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(10)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdout.close()
        self._process.stderr.close()


@contextlib.contextmanager
def _started(
    name: str, folder: Path, instead: Mapping[str, str], *more: str, line: int = 0
) -> Iterator[_Run]:
    """The README's command, with these words replaced, each of which must stand there."""
    words = _commands(name)[line]
    assert set(instead) <= set(words), words
    shutil.copytree(_EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    process = _Run([*(instead.get(word, word) for word in words), *more], folder / name)
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture
def seven(digit_pictures: Path, tmp_path: Path) -> str:
    """A camera that shows a seven, and then nothing for a while, again and again."""
    folder = tmp_path / "sevens"
    shutil.copytree(digit_pictures / "7", folder)
    return f"fake:{folder}/?fps=25&black@25+25&repeat=50"


def test_every_example_has_a_command_and_a_row_in_the_table() -> None:
    table = (_EXAMPLES / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[`(\w+)`\]\((\w+)/\)", table, re.MULTILINE)
    assert sorted(rows) == [(name, name) for name in _NAMES]
    assert all(_commands(name) for name in _NAMES)
    tested = set(re.findall(r'_started\(\s*"(\w+)"', Path(__file__).read_text("utf-8")))
    assert tested == set(_NAMES)


def test_folder_replay(tmp_path: Path, int8_artifact: Path, digit_pictures: Path) -> None:
    instead = {"digits_int8.tflite": str(int8_artifact), "pictures/": str(digit_pictures)}
    with _started("folder_replay", tmp_path, instead) as run:
        printed, _ = run.ends()
    assert [line.split(": ")[1][0] for line in printed.splitlines()] == list("0123456789")


@pytest.mark.parametrize("line", [0, 1])
def test_camera_events(line: int, tmp_path: Path, int8_artifact: Path, seven: str) -> None:
    camera = ("auto", "fake:photos/?fps=10")[line]
    instead = {"trash_int8.tflite": str(int8_artifact), camera: seven}
    with _started("camera_events", tmp_path, instead, line=line) as run:
        run.says("^7 appeared")
        run.says(r"^7 left after \d+\.\d s")
        run.ends(signal.SIGTERM)


def test_pi_camera(tmp_path: Path, int8_artifact: Path, digit_pictures: Path) -> None:
    camera = f"fake:{digit_pictures}/?fps=25"
    instead = {"trash_int8.tflite": str(int8_artifact), "picamera": camera}
    with _started("pi_camera", tmp_path, instead) as run:
        run.says(r"^(\d|unknown) [01]\.\d\d  \d+\.\d per second, \d+ dropped, \d+ ms old$")
        printed, _ = run.ends(signal.SIGTERM)
    assert re.search(r"^\d+ frames in \d+\.\d s, \d+ dropped$", printed, re.MULTILINE)


def test_pi_camera_without_a_camera_says_what_to_do(tmp_path: Path, int8_artifact: Path) -> None:
    with _started("pi_camera", tmp_path, {"trash_int8.tflite": str(int8_artifact)}) as run:
        _, errors = run.ends(code=1)
    assert "picamera" in errors


@pytest.mark.parametrize(
    ("compiled", "message"), [(True, "libedgetpu"), (False, "not compiled for the Edge TPU")]
)
def test_coral_usb_without_a_coral_never_takes_the_cpu(
    compiled: bool,
    message: str,
    tmp_path: Path,
    digit_pictures: Path,
    request: pytest.FixtureRequest,
) -> None:
    if compiled:
        models = request.getfixturevalue("public_data") / "models"
        model = models / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    else:
        model = request.getfixturevalue("int8_artifact")
    instead = {"trash_int8_edgetpu.tflite": str(model), "photos/": str(digit_pictures)}
    with _started("coral_usb", tmp_path, instead) as run:
        printed, errors = run.ends(code=5)
    assert printed == ""
    assert message in errors


def test_mqtt_alert(
    tmp_path: Path, int8_artifact: Path, seven: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    broker = Broker("amqtt", tmp_path)
    broker.start()
    subscriber = Subscriber(broker)
    url = f"mqtt://127.0.0.1:{broker.port}/garden/gate"
    instead = {
        "trash_int8.tflite": str(int8_artifact),
        "auto": seven,
        "mqtt://broker.local/garden/gate": url,
        "glass": "7",
    }
    try:
        with _started("mqtt_alert", tmp_path, instead) as run:
            run.says("^7 left")
            until(lambda: len(subscriber.bodies("event")) >= 2, 30, "delivery")
            run.ends(signal.SIGTERM)
        events = subscriber.bodies("event")
        assert [(event["label"], event["what"]) for event in events[:2]] == [
            ("7", "appeared"),
            ("7", "left"),
        ]
        assert not subscriber.bodies("frame")
        assert {topic for topic, _, _ in subscriber.messages} >= {"garden/gate/event"}
    finally:
        subscriber.close()
        broker.stop()


def test_gpio_trigger(tmp_path: Path, int8_artifact: Path, seven: str) -> None:
    pytest.importorskip("gpiozero", reason="the extra [host] is not installed")
    instead = {"trash_int8.tflite": str(int8_artifact), "auto": seven, "glass": "7"}
    with _started("gpio_trigger", tmp_path, instead) as run:
        run.says("^GPIO17 on: 7$")
        run.says("^GPIO17 off: 7$")
        run.ends(signal.SIGTERM)


def test_timelapse_low_power(tmp_path: Path, int8_artifact: Path, digit_pictures: Path) -> None:
    camera = f"fake:{digit_pictures / '7'}/?fps=50"
    instead = {"trash_int8.tflite": str(int8_artifact), "10": "0.001", "auto": camera}
    with _started("timelapse_low_power", tmp_path, instead, "2") as run:
        printed, _ = run.ends()
    assert printed.count("asleep for") == 1
    lines = (tmp_path / "timelapse_low_power" / "timelapse.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["7", "7"]


def test_timelapse_sleeps_on_when_the_camera_is_away_and_wakes_upon_a_signal(
    tmp_path: Path, int8_artifact: Path
) -> None:
    instead = {"trash_int8.tflite": str(int8_artifact), "auto": "/dev/video97"}
    with _started("timelapse_low_power", tmp_path, instead) as run:
        run.says("asleep for")
        _, errors = run.ends(signal.SIGTERM)
    assert "/dev/video97" in errors


def test_embedded_in_a_web_app(tmp_path: Path, int8_artifact: Path, digit_pictures: Path) -> None:
    instead = {"trash_int8.tflite": str(int8_artifact), "8000": "0"}
    picture = next((digit_pictures / "7").iterdir()).read_bytes()

    def post(url: str, data: bytes | None) -> tuple[int, dict[str, object]]:
        try:
            with urllib.request.urlopen(url, data, timeout=20) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    with _started("embedded_in_a_web_app", tmp_path, instead) as run:
        url = run.says("^http://127.0.0.1")
        status, answer = post(url, picture)
        assert (status, answer["label"]) == (200, "7")
        assert post(url, picture[:-50])[0] == 400
        assert post(url, b"no picture")[0] == 400
        assert post(url, b"")[0] == 413
        assert post(url, None)[0] == 404
        assert post(url, picture)[0] == 200
        run.ends(signal.SIGINT)


def test_two_models(
    tmp_path: Path, int8_artifact: Path, float16_artifact: Path, digit_pictures: Path
) -> None:
    instead = {
        "edge-tiny_int8.tflite": str(int8_artifact),
        "edge-mobilenet_int8.tflite": str(float16_artifact),
        "auto": f"fake:{digit_pictures}/?fps=25&loop=no",
        "0.9": "1.01",
    }
    with _started("two_models", tmp_path, instead) as run:
        printed, _ = run.ends()
    counts = re.search(r"(\d+) frames, (\d+) asked again, (\d+) agreed", printed)
    assert counts is not None
    seen, asked, agreed = map(int, counts.groups())
    assert 0 < seen == asked == agreed


def test_collect_and_retrain(tmp_path: Path, int8_artifact: Path, digit_pictures: Path) -> None:
    instead = {
        "trash_int8.tflite": str(int8_artifact),
        "auto": f"fake:{digit_pictures}/?fps=2&loop=no",
        "0.6": "1.0",
    }
    with _started("collect_and_retrain", tmp_path, instead) as run:
        printed, _ = run.ends()
    kept = sorted((tmp_path / "collect_and_retrain" / "uncertain").glob("*/*.jpg"))
    assert len(kept) >= 2
    assert f"{len(kept)} kept in uncertain/" in printed
    readme = (_EXAMPLES / "collect_and_retrain" / "README.md").read_text("utf-8")
    assert "edgecls data check uncertain/" in readme
    assert edgecls("data", "check", kept[0].parents[1]).exit_code in (
        0,
        1,
    )  # few pictures: it says so
    assert "edgecls build retrain.toml --data photos/ --out retrained" in readme
    recipe = _EXAMPLES / "collect_and_retrain" / "retrain.toml"
    assert edgecls("recipe", "check", recipe).exit_code == 0
