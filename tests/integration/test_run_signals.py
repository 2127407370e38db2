"""Signals and systemd, and a running ``edgecls run``."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk.loop.service import END_S
from tests.integration.run_process import ROOT, start, until, whole_lines

# What is promised is two seconds; the rest is for a machine that does other things as well.
_END_S = 2.0 + 2.0


def _camera(pictures: Path, fps: int = 200) -> tuple[str, str]:
    return "--camera", f"fake:{pictures}?fps={fps}"


def _ended(process: subprocess.Popen[str]) -> tuple[str, str, float]:
    began = time.monotonic()
    output, errors = process.communicate(timeout=60)
    return output, errors, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_sigterm_at_any_moment_ends_cleanly_and_tears_nothing(
    seed: int, int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    moment = random.Random(seed)
    runs = []
    for i in range(4):
        log = tmp_path / f"{i}.jsonl"
        words = ("run", int8_artifact, *_camera(digit_pictures), "--json", "--events")
        runs.append((start(*words, "--log-file", log), log))
    for process, log in runs:
        time.sleep(moment.uniform(0, 0.8))
        process.send_signal(signal.SIGTERM)
        output, errors, seconds = _ended(process)
        assert "Traceback" not in errors
        assert seconds < _END_S
        lines = whole_lines(output)
        logged = whole_lines(log.read_text("utf-8")) if log.exists() else []
        assert abs(len(lines) - len(logged)) <= 1
        if process.returncode == -signal.SIGTERM:  # before a line of ours had run
            assert lines == []
        else:
            assert process.returncode == 0, errors


def test_ctrl_c_is_130_with_a_summary(int8_artifact: Path, digit_pictures: Path) -> None:
    process = start("run", int8_artifact, *_camera(digit_pictures), "--json")
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output, errors, seconds = _ended(process)
    assert process.returncode == 130
    assert seconds < _END_S
    whole_lines(output)
    assert "Interrupted." in errors
    assert " frames in " in errors
    assert "Traceback" not in errors


def test_files_are_left_in_the_middle_too(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    for i in range(40):
        shutil.copytree(digit_pictures, tmp_path / str(i))
    process = start("run", int8_artifact, "--source", tmp_path, "--json", "--max-fps", "50")
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    output, errors, seconds = _ended(process)
    assert (process.returncode, "Traceback" in errors) == (0, False)
    assert seconds < _END_S
    assert len(whole_lines(output)) < 400


def test_sighup_reloads_the_model_and_a_replaced_one_takes_over(
    int8_artifact: Path, float16_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    model, log = tmp_path / "model.tflite", tmp_path / "log.jsonl"
    shutil.copy(int8_artifact, model)
    words = (*_camera(digit_pictures, 20), "--json", "--log-file", log)
    process = start("run", model, *words, stdout=subprocess.DEVNULL)

    def reported() -> list[str]:
        text = log.read_text("utf-8") if log.exists() else ""
        lines = whole_lines(text[: text.rfind("\n") + 1])
        return [line["what"] for line in lines if line["type"] == "health"]

    def frames() -> int:
        return log.read_text("utf-8").count('"type": "frame"') if log.exists() else 0

    try:
        until(frames)
        process.send_signal(signal.SIGHUP)
        until(lambda: reported() == ["model swapped"])
        (tmp_path / "garbage").write_bytes(b"garbage" * 1000)
        (tmp_path / "garbage").rename(model)
        until(lambda: reported() == ["model swapped", "model refused"])
        before = frames()
        until(lambda: frames() > before + 5)
        shutil.copy(float16_artifact, tmp_path / "good")
        (tmp_path / "good").rename(model)
        until(lambda: reported() == ["model swapped", "model refused", "model swapped"])
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors, _ = _ended(process)
    assert process.returncode == 0
    assert "Traceback" not in errors
    numbers = [
        line["frame"] for line in whole_lines(log.read_text("utf-8")) if line["type"] == "frame"
    ]
    assert numbers == sorted(set(numbers))


def test_a_model_that_is_refused_is_told_once(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    model, log = tmp_path / "model.tflite", tmp_path / "log.jsonl"
    shutil.copy(int8_artifact, model)
    process = start("run", model, *_camera(digit_pictures, 20), "--log-file", log)
    try:
        until(lambda: log.exists() and '"frame"' in log.read_text("utf-8"))
        (tmp_path / "garbage").write_bytes(b"garbage" * 1000)
        (tmp_path / "garbage").rename(model)
        process.send_signal(signal.SIGHUP)
        until(lambda: "model refused" in log.read_text("utf-8"))
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors, _ = _ended(process)
    assert process.returncode == 0
    assert errors.count("the old model stays active") == 1, errors


def test_a_model_that_was_refused_does_not_stop_the_next_start(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    model, log = tmp_path / "model.tflite", tmp_path / "log.jsonl"
    shutil.copy(int8_artifact, model)
    process = start("run", model, *_camera(digit_pictures, 20), "--log-file", log)
    try:
        until(lambda: log.exists() and '"frame"' in log.read_text("utf-8"))
        (tmp_path / "garbage").write_bytes(int8_artifact.read_bytes()[:50_000])
        (tmp_path / "garbage").rename(model)
        until(lambda: "model refused" in log.read_text("utf-8"))
    finally:
        process.kill()
        process.communicate()
    again = start("run", model, *_camera(digit_pictures, 20), "--json", "--limit", 3)
    lines, errors = again.communicate(timeout=60)
    assert again.returncode == 0
    assert "model.tflite: bad model, using the last good copy" in errors
    reported = whole_lines(lines)
    assert [line["what"] for line in reported if line["type"] == "health"] == ["last good model"]
    assert [line["label"] for line in reported if line["type"] == "frame"] == ["0", "1", "2"]
    refused = start("run", model, "--no-last-good", *_camera(digit_pictures, 20), "--limit", 3)
    refused.communicate(timeout=60)
    assert refused.returncode == 7


_STUCK = textwrap.dedent(
    """
    import ctypes, sys
    from edge_sdk.loop import service
    from edge_sdk.loop.service import Service

    service.END_S = {end_s}

    def work():
        print("started", flush=True)
        # As a driver does: within C, with Python's lock given back, deaf to everything.
        {how}

    Service(steps=lambda: 0).run(work)
    """
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    ["ctypes.CDLL(None).sleep(600)", "import time; time.sleep(600)", "open('/dev/stdin').read()"],
    ids=["driver", "sleep", "pipe"],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_work_that_is_stuck_is_left_within_two_seconds(
    how: str, number: signal.Signals, code: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _STUCK.format(how=how, end_s=END_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == code
    assert time.monotonic() - began < _END_S
    process.communicate()


def test_nobody_who_reads_standard_error_keeps_it_from_ending() -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _STUCK.format(how="import os; os.write(2, bytes(1 << 20))", end_s=END_S),
        ],
        stdout=subprocess.PIPE,
        stderr=writing,
        text=True,
        cwd=ROOT,
    )
    os.close(writing)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(0.2)  # the pipe is full now
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - began < _END_S
        process.communicate()
    finally:
        process.kill()
        os.close(reading)


def test_a_second_ctrl_c_ends_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _STUCK.format(how="import time; time.sleep(600)", end_s=60)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None  # it has a minute to end in
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    process.communicate()


# systemd


class _Systemd:
    """Listens as systemd does."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(30)

    def states(self, until_state: str) -> list[str]:
        """What is heard up to a state."""
        heard: list[str] = []
        while until_state not in heard:
            heard.append(self._socket.recv(4096).decode().split("\n")[0])
        return heard

    def silent_for(self, seconds: float) -> bool:
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(30)
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> object:
    listener = _Systemd(tmp_path)
    yield listener
    listener.close()


def _environment(systemd: _Systemd, seconds: float) -> dict[str, str]:
    return {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": str(int(seconds * 1e6))}


def test_systemd_hears_ready_alive_and_stopping(
    systemd: _Systemd, int8_artifact: Path, digit_pictures: Path
) -> None:
    environment = _environment(systemd, 1)
    process = start("run", int8_artifact, *_camera(digit_pictures, 20), "--json", **environment)
    try:
        assert systemd.states("READY=1") == ["READY=1"]  # and nothing before it
        for _ in range(3):
            assert systemd.states("WATCHDOG=1") == ["WATCHDOG=1"]
    finally:
        process.send_signal(signal.SIGTERM)
        _ended(process)
    assert systemd.states("STOPPING=1")[-1] == "STOPPING=1"
    assert process.returncode == 0


def test_a_camera_that_is_away_for_a_while_is_waited_for(
    systemd: _Systemd, int8_artifact: Path, digit_pictures: Path
) -> None:
    spec = f"fake:{digit_pictures}?fps=20&unplug@5+60s"
    process = start("run", int8_artifact, "--camera", spec, "--json", **_environment(systemd, 1))
    try:
        systemd.states("READY=1")
        for _ in range(6):
            systemd.states("WATCHDOG=1")
    finally:
        process.send_signal(signal.SIGTERM)
        output, _, _ = _ended(process)
    assert any(line["type"] == "health" for line in whole_lines(output))


_HANGS = textwrap.dedent(
    """
    import threading, time
    from edge_sdk.loop.service import Service

    steps = 0
    def work():
        global steps
        service.ready()
        for _ in range(20):
            steps += 1
            time.sleep(0.1)
        service.stop.wait(600)  # no steps any more: a loop that hangs

    service = Service(steps=lambda: steps)
    service.run(work)
    """
)


def test_the_watchdog_is_not_fed_by_a_loop_that_hangs(systemd: _Systemd) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _HANGS], cwd=ROOT, env={**os.environ, **_environment(systemd, 0.9)}
    )
    try:
        systemd.states("READY=1")
        systemd.states("WATCHDOG=1")
        until(lambda: systemd.silent_for(1.5), 20)
        assert systemd.silent_for(1.0)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_outside_the_main_thread_the_work_is_simply_done() -> None:
    import threading

    from edge_sdk.loop.service import Service

    done: list[int] = []
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    work: Callable[[], None] = lambda: done.append(1)  # noqa: E731
    thread = threading.Thread(target=lambda: Service(steps=lambda: 0).run(work))
    thread.start()
    thread.join(30)
    assert done == [1]
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
