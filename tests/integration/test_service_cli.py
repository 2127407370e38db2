"""``edgecls service``: from what is typed to the unit, and what its process asks of the kernel."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_sdk.device import unit, unit_install
from edge_sdk.device.unit_install import CommandResult, Host
from tests.integration.host import edgecls
from tests.integration.run_process import ROOT

# Its package has the command itself under this name.
_CLI = importlib.import_module("edge_sdk.cli.service")


@pytest.fixture(autouse=True)
def _readable_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this checkout lies is no part of the tests."""
    monkeypatch.setattr(unit_install, "program_folders", lambda: ())


@pytest.fixture
def model(int8_artifact: Path, tmp_path: Path) -> Path:
    """A model in a folder that everybody may read."""
    folder = tmp_path / "my models"
    folder.mkdir(mode=0o755)
    path = folder / "50 % of all.tflite"
    shutil.copy(int8_artifact, path)
    path.chmod(0o644)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine in a folder, whose systemctl says that the service runs."""
    root = tmp_path / "machine"
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "run/systemd/system").mkdir(parents=True)
    state = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}
    gone = {"LoadState": "not-found", "ActiveState": "inactive"}

    def systemctl(words: Sequence[str]) -> CommandResult:
        if words[0] != "show":
            return CommandResult(0, "")
        there = (root / "etc/systemd/system" / words[1]).exists()
        return CommandResult(
            0, "\n".join(f"{k}={v}" for k, v in (state if there else gone).items())
        )

    monkeypatch.setattr(_CLI, "this_host", lambda: Host(root, systemctl))
    return root


def _unit(*words: object) -> list[str]:
    result = edgecls("service", "install", "--dry-run", *words)
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


def _command(lines: list[str]) -> str:
    return next(line for line in lines if line.startswith("ExecStart="))


def test_the_dry_run_prints_a_unit_that_systemd_takes(model: Path, tmp_path: Path) -> None:
    lines = _unit(model, "--camera", "--name", "gate", "--", "--events", "--log-file", "log.jsonl")
    escaped = str(model).replace("%", "%%")
    starts, _, words = _command(lines).partition(" run ")
    assert "edgecls" in starts
    assert words == f'"{escaped}" --camera auto --events --log-file log.jsonl'
    assert "StateDirectory=gate" in lines
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    path = tmp_path / "gate.service"
    path.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [analyze, "verify", "--man=no", path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_relative_paths_become_absolute(
    model: Path, digit_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model.parent
    shutil.copytree(digit_pictures, folder / "pictures")
    (folder / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    monkeypatch.chdir(folder)
    lines = _unit(
        *(model.name, "--camera", "fake:pictures/?fps=5&loop=no"),
        *("--", "--labels", "labels.txt"),
    )
    escaped = str(folder).replace("%", "%%")
    assert f'"{escaped}/50 %% of all.tflite"' in _command(lines)
    assert f'"fake:{escaped}/pictures?fps=5&loop=no"' in _command(lines)
    assert f'--labels "{escaped}/labels.txt"' in _command(lines)


def test_a_folder_that_services_do_not_see_is_shown_to_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In place of /tmp and homes, since the tests' own folders and the checkout may lie anywhere.
    monkeypatch.setattr(unit, "_HIDDEN", (tmp_path,))
    monkeypatch.setattr(unit_install, "_EMPTIED", (tmp_path,))
    monkeypatch.setattr(unit_install, "program", lambda: ("/usr/bin/env", "edgecls"))
    result = edgecls("service", "install", model, "--dry-run")
    assert f'BindReadOnlyPaths="{model.parent}"' in result.stdout.splitlines()
    assert f"{model.parent} is emptied at boot" in result.stderr


def test_run_keeps_its_short_help_after_its_options_were_read(model: Path) -> None:
    _unit(model, "--", "--events")
    assert edgecls("run", "-h").exit_code == 0


def test_a_camera_with_a_password_goes_into_a_file(model: Path, tmp_path: Path) -> None:
    url = "rtsp://gate:s3cret@camera.local/stream"
    refused = edgecls("service", "install", model, "--camera", url, "--dry-run")
    assert refused.exit_code == 2
    assert "s3cret" not in refused.output
    assert "EDGECLS_CAMERA=URL" in refused.stderr
    secret = tmp_path / "camera.url"
    secret.write_text(url, "utf-8")
    secret.chmod(0o600)
    at = edgecls("service", "install", model, "--camera", f"@{secret}", "--dry-run")
    assert at.exit_code == 2
    assert "--environment-file" in at.stderr
    file = tmp_path / "environment"
    file.write_text(f"EDGECLS_CAMERA={url}\n")
    lines = _unit(model, "--environment-file", file)
    assert "--camera" not in _command(lines)
    assert f"EnvironmentFile={file}" in lines
    assert "After=network-online.target" in lines
    file.write_text("EDGECLS_DEVICE=gate\n")
    assert "--camera auto" in _command(_unit(model, "--environment-file", file))


def test_credentials_are_handed_over_by_systemd(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "mqtt"
    file.write_text("camera\ns3cret\n")
    file.chmod(0o600)
    url = "mqtts://broker.local/gate"
    lines = _unit(
        *(model, "--mqtt-credentials", file, "--web-token", file),
        *("--", f"--mqtt={url}?discovery=off", "--web", "0.0.0.0:8080"),
    )
    assert f"LoadCredential=mqtt:{file}" in lines
    assert (
        f'"--mqtt={url}?discovery=off&credentials=/run/credentials/edgecls.service/mqtt"'
        in _command(lines)
    )
    assert "Environment=EDGECLS_WEB_TOKEN_FILE=/run/credentials/edgecls.service/web-token" in lines
    lines = _unit(model, "--mqtt-credentials", file, "--", "--mqtt", url)
    assert f'--mqtt "{url}?credentials=/run/credentials/edgecls.service/mqtt"' in _command(lines)


def test_a_broken_model_is_refused(model: Path, tmp_path: Path) -> None:
    assert edgecls("service", "install", tmp_path / "none.tflite", "--dry-run").exit_code == 2
    model.write_bytes(model.read_bytes()[:5000])
    assert edgecls("service", "install", model, "--dry-run").exit_code == 7


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_model_that_the_service_could_not_read_is_refused(what: str, model: Path) -> None:
    closed = model if what == "file" else model.parent
    closed.chmod(0o600 if what == "file" else 0o700)
    result = edgecls("service", "install", model, "--dry-run")
    assert result.exit_code == 1
    assert f"may not read {closed}" in result.stderr
    assert "chmod o+r" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--camera", "nonsense"), 2, "--camera"),
        (("--", "--nonsense"), 2, "--nonsense"),
        (("--", "--threshold", "2"), 2, "--threshold"),
        (("--", "--camera", "webcam"), 2, "before it"),
        (("--name", "My Gate"), 2, "lower-case letters"),
        (("--", "--mqtt", "mqtt://me:pass@broker"), 2, "--mqtt-credentials FILE"),
        (("--", "--mqtt", "mqtt://broker?credentials=/etc/x"), 2, "--mqtt-credentials FILE"),
        (("--", "--webhook", "https://host/hook?token=abc"), 2, "EDGECLS_WEBHOOK_TOKEN"),
        (("--mqtt-credentials", "/etc/hostname"), 2, "add -- --mqtt"),
        (("--environment-file", "/nonexistent"), 1, "no such file"),
        (("--", "--log-file", "/data/log.jsonl"), 1, "a path relative to it"),
        (("--", "--save-frames", "/data/frames"), 1, "a path relative to it"),
        (("--", "--deny", "a\nb"), 2, "line break"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(
    words: tuple[str, ...], code: int, message: str, model: Path, machine: Path
) -> None:
    result = edgecls("service", "install", model, *words)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert not any(path.is_file() for path in machine.rglob("*"))


def test_installed_asked_and_removed(model: Path, machine: Path) -> None:
    status = edgecls("service", "status")
    assert (status.exit_code, "is not installed" in status.stdout) == (1, True)
    result = edgecls("service", "install", model, "--camera")
    assert result.exit_code == 0, result.output
    assert "edgecls is running" in result.stdout
    path = machine / "etc/systemd/system/edgecls.service"
    assert path.stat().st_mode & 0o777 == 0o644
    assert edgecls("service", "install", model, "--", "--events").exit_code == 0
    assert "--events" in path.read_text()
    status = edgecls("service", "status", "--json")
    assert status.exit_code == 0
    assert json.loads(status.stdout)["state"] == "running"
    (machine / "var/lib/private/edgecls").mkdir(parents=True)
    result = edgecls("service", "remove")
    assert result.exit_code == 0
    assert f"kept: {machine}/var/lib/private/edgecls" in result.stderr
    assert not path.exists()
    result = edgecls("service", "remove")
    assert result.exit_code == 2
    assert "there is no" in result.stderr


def test_a_service_that_does_not_start_is_explained(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"LoadState": "loaded", "ActiveState": "activating", "SubState": "auto-restart"}
    state |= {"Result": "exit-code", "ExecMainStatus": "5"}

    def systemctl(words: Sequence[str]) -> CommandResult:
        if words[0] == "show":
            return CommandResult(0, "\n".join(f"{key}={value}" for key, value in state.items()))
        return CommandResult(1, "Job failed.") if words[0] == "restart" else CommandResult(0, "")

    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    monkeypatch.setattr(_CLI, "this_host", lambda: Host(tmp_path, systemctl))
    result = edgecls("service", "install", model, "--camera", "webcam")
    assert result.exit_code == 1
    assert "a package, the Edge TPU or the camera is missing" in result.stderr
    assert "restart edgecls.service failed: Job failed." in result.stderr
    assert (tmp_path / "etc/systemd/system/edgecls.service").exists()


def test_who_is_not_root_gets_the_command_to_type(
    model: Path, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr("sys.argv", ["edgecls", "service", "install", str(model)])
    result = edgecls("service", "install", model)
    assert result.exit_code == 1
    words = shlex.join(("sudo", *unit_install.program(), "service", "install", str(model)))
    assert f"Type: {words}" in result.stderr
    assert not any(path.is_file() for path in machine.rglob("*"))


def test_a_program_of_one_user_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "site.getusersitepackages", lambda: str(Path(unit_install.__file__).parents[2])
    )
    result = edgecls("service", "install", model, "--dry-run")
    assert result.exit_code == 1
    assert "the service runs as another user" in result.stderr


def test_run_takes_the_camera_from_the_environment_unless_it_is_told(
    int8_artifact: Path, digit_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECLS_CAMERA", f"fake:{digit_pictures}/?fps=50")
    words = ("run", int8_artifact, "--json", "--limit", "2")
    lines = [json.loads(line) for line in edgecls(*words).stdout.splitlines()]
    assert len(lines) == 2
    assert all(line["source"].startswith("fake:") for line in lines)
    reported = edgecls(*words, "--source", digit_pictures)
    assert json.loads(reported.stdout.splitlines()[0])["source"].endswith(".png")
    monkeypatch.setenv("EDGECLS_CAMERA", "")
    assert edgecls(*words).exit_code == 2


# The rest runs the loop itself under what the unit forbids it.
_LOOP = ("--limit", "20", "--threads", "2", "--json", "--log-file", "log.jsonl", "--web", "0")


def _loop(int8_artifact: Path, digit_pictures: Path) -> list[str]:
    camera = f"fake:{digit_pictures}/?fps=50"
    return ["run", str(int8_artifact), "--camera", camera, *_LOOP]


def test_the_loop_asks_the_kernel_for_nothing_that_the_unit_forbids(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    strace, analyze = shutil.which("strace"), shutil.which("systemd-analyze")
    if strace is None or analyze is None:
        pytest.skip("strace or systemd is not installed")
    script = "from host_tools.cli import main; main()"
    subprocess.run(
        [
            *(strace, "-f", "-o", tmp_path / "calls", sys.executable, "-c", script),
            *_loop(int8_artifact, digit_pictures),
        ],
        check=True,
        capture_output=True,
        timeout=200,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    calls = re.findall(
        r"^\d+ +([a-z0-9_]+)\(", (tmp_path / "calls").read_text("utf-8", "replace"), re.M
    )
    assert len(set(calls)) > 40
    reported = subprocess.run(
        [analyze, "syscall-filter", "--no-pager"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    sets: dict[str, list[str]] = {}
    for line in reported.splitlines():
        if line.startswith("@"):
            sets[line.strip()] = members = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            members.append(line.strip())

    def calls_of(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return set().union(*(calls_of(member) for member in sets[name]))

    allowed = calls_of("@system-service") | calls_of("@default")
    forbidden = set(calls) - (allowed - calls_of("@privileged"))
    assert forbidden <= {"fchown"}  # SQLite, where root runs it


def test_the_loop_makes_no_memory_that_it_may_both_write_and_run(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    # prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN), as systemd does it where the kernel can; it is
    # inherited by the camera's process.
    script = (
        "import ctypes, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n"
        "from host_tools.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *_loop(int8_artifact, digit_pictures)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    if done.returncode == 77:
        pytest.skip("this kernel cannot deny memory to be written and run")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 20
