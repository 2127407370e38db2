"""Installing, removing and asking: on a machine in a folder, with a systemctl that plays along."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edge_sdk.device import unit, unit_install
from edge_sdk.device.unit import UnitPlan, unit_text, visible_folders, why_unreadable
from edge_sdk.device.unit_install import CommandResult, Host, install, remove
from edge_sdk.device.unit_state import UnitState, unit_state
from edge_sdk.errors import SystemctlError, SystemdNotFoundError, UnitAccessError, UnitNotFoundError

_TEXT = unit_text(UnitPlan("edgecls", ("/bin/true",), Path("/opt/edgecls/trash_int8.tflite")))
_FOLDERS = ("var/lib/private/edgecls", "var/cache/private/edgecls")


class _Systemctl:
    """Writes down what it was asked for; fails where it is told to."""

    def __init__(self, **failing: str) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.failing = failing

    def __call__(self, words: Sequence[str]) -> CommandResult:
        self.asked.append(tuple(words))
        told = self.failing.get(words[0].replace("-", "_"))
        return CommandResult(0, "") if told is None else CommandResult(1, told)


def _host(
    folder: Path, systemctl: Callable[[Sequence[str]], CommandResult], *, booted: bool
) -> Host:
    (folder / "etc/systemd/system").mkdir(parents=True)
    if booted:
        (folder / "run/systemd/system").mkdir(parents=True)
    return Host(folder, systemctl)


def _everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_install_starts_it_and_remove_leaves_the_data(tmp_path: Path) -> None:
    systemctl = _Systemctl()
    host = _host(tmp_path, systemctl, booted=True)
    before = _everything(tmp_path)
    assert install(host, "edgecls", _TEXT)
    path = tmp_path / "etc/systemd/system/edgecls.service"
    assert path.read_text() == _TEXT
    assert systemctl.asked == [
        ("daemon-reload",),
        ("enable", "edgecls.service"),
        ("reset-failed", "edgecls.service"),
        ("restart", "edgecls.service"),
    ]
    for name in _FOLDERS:  # as systemd makes them
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name.replace("private/", "")).symlink_to("private/edgecls")
        (tmp_path / name / "spool").write_text("results")
    systemctl.asked.clear()
    left = remove(host, "edgecls")
    assert systemctl.asked[:2] == [("disable", "--now", "edgecls.service"), ("daemon-reload",)]
    assert left == tuple(tmp_path / name for name in _FOLDERS)
    assert all((tmp_path / name / "spool").exists() for name in _FOLDERS)
    assert not path.exists()

    install(host, "edgecls", _TEXT)
    assert remove(host, "edgecls", purge=True) == ()
    empty = {"var", "var/lib", "var/lib/private", "var/cache", "var/cache/private"}
    assert _everything(tmp_path) == before | empty


def test_a_link_that_leads_elsewhere_is_taken_away_and_not_followed(tmp_path: Path) -> None:
    host = _host(tmp_path, _Systemctl(), booted=False)
    install(host, "edgecls", _TEXT)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "picture").write_text("x")
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "var/lib/edgecls").symlink_to(tmp_path / "precious")
    remove(host, "edgecls", purge=True)
    assert (tmp_path / "precious" / "picture").exists()
    assert not (tmp_path / "var/lib/edgecls").is_symlink()


def test_without_systemd_running_it_is_written_and_switched_on_only(tmp_path: Path) -> None:
    systemctl = _Systemctl()
    host = _host(tmp_path, systemctl, booted=False)
    assert not install(host, "edgecls", _TEXT)
    assert systemctl.asked == [("enable", "edgecls.service")]
    remove(host, "edgecls")
    assert systemctl.asked[1:] == [("disable", "edgecls.service")]


def test_the_real_systemctl_switches_it_on_and_off(tmp_path: Path) -> None:
    program = shutil.which("systemctl")
    if program is None:
        pytest.skip("systemd is not installed")

    def systemctl(words: Sequence[str]) -> CommandResult:
        done = subprocess.run(
            [program, f"--root={tmp_path}", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return CommandResult(done.returncode, done.stderr)

    host = _host(tmp_path, systemctl, booted=False)
    install(host, "edgecls", _TEXT)
    link = tmp_path / "etc/systemd/system/multi-user.target.wants/edgecls.service"
    assert link.is_symlink()
    remove(host, "edgecls")
    assert not link.is_symlink()
    assert not any(path.name == "edgecls.service" for path in tmp_path.rglob("*"))


def test_where_systemd_refuses_all_is_as_it_was(tmp_path: Path) -> None:
    host = _host(tmp_path, _Systemctl(enable="Unit is masked"), booted=True)
    before = _everything(tmp_path)
    with pytest.raises(SystemctlError, match="failed: Unit is masked"):
        install(host, "edgecls", _TEXT)
    assert _everything(tmp_path) == before
    path = host.unit("edgecls")
    path.write_text(f"{_TEXT}# an earlier one\n")
    with pytest.raises(SystemctlError):
        install(host, "edgecls", _TEXT)
    assert path.read_text().endswith("# an earlier one\n")


def test_a_start_that_fails_leaves_it_installed(tmp_path: Path) -> None:
    host = _host(tmp_path, _Systemctl(restart="Job failed."), booted=True)
    with pytest.raises(SystemctlError, match="restart"):
        install(host, "edgecls", _TEXT)
    assert host.unit("edgecls").exists()


def test_units_of_others_are_left_alone(tmp_path: Path) -> None:
    host = _host(tmp_path, _Systemctl(), booted=False)
    path = host.unit("nginx")
    path.write_text("[Service]\n")
    for attempt in (lambda: install(host, "nginx", _TEXT), lambda: remove(host, "nginx")):
        with pytest.raises(UnitNotFoundError, match="was not written by edgecls"):
            attempt()
    assert path.read_text() == "[Service]\n"
    with pytest.raises(
        UnitNotFoundError, match=r"there is no .*gate\.service; type: edgecls service install"
    ):
        remove(host, "gate")


def test_changes_of_the_administrator_stay_and_are_told(tmp_path: Path) -> None:
    host = _host(tmp_path, _Systemctl(), booted=False)
    install(host, "edgecls", _TEXT)
    changes = tmp_path / "etc/systemd/system/edgecls.service.d"
    changes.mkdir()
    assert remove(host, "edgecls") == (changes,)


def test_whoever_is_not_root_is_told_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = _host(tmp_path, _Systemctl(), booted=False)
    host.check_root("sudo x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UnitAccessError, match="Type: sudo x"):
        host.check_root("sudo x")


def test_a_machine_without_systemctl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemdNotFoundError, match="no systemctl on this machine"):
        Host().systemctl(("show",))


def test_a_systemctl_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(unit_install, "_SECONDS", 0.2)
    with pytest.raises(SystemctlError, match="did not end within"):
        Host().systemctl(("restart",))


# What systemctl show prints, property by property.
_RUNNING = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "Result": "success",
    "NRestarts": "0",
    "ExecMainStatus": "0",
    "ActiveEnterTimestamp": "Sat 2026-11-21 10:00:00 GMT",
    "StatusText": "29.8 per second, bottle 0.93",
    "MemoryCurrent": "83886080",
}


def _state(**changed: str) -> UnitState:
    known = _RUNNING | changed

    def systemctl(words: Sequence[str]) -> CommandResult:
        assert words[:2] == ("show", "edgecls.service")
        asked = words[3::2]
        return CommandResult(0, "\n".join(f"{key}={known[key]}" for key in asked))

    return unit_state(Host(systemctl=systemctl), "edgecls")


def test_a_running_service_in_words() -> None:
    state = _state()
    assert state.is_running
    assert state.sentences() == [
        "edgecls is running since Sat 2026-11-21 10:00:00 GMT",
        "status: 29.8 per second, bottle 0.93",
        "memory: 84 MB",
        "it starts at boot",
    ]
    assert state.to_json() == {
        "schema": 1,
        "type": "service",
        "name": "edgecls",
        "installed": True,
        "state": "running",
        "at_boot": True,
        "since": "Sat 2026-11-21 10:00:00 GMT",
        "restarts": 0,
        "exit_code": 0,
        "reason": "",
        "says": "29.8 per second, bottle 0.93",
        "memory_bytes": 83886080,
    }


@pytest.mark.parametrize(
    ("changed", "state", "words"),
    [
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}
            | {"ExecMainStatus": "5", "NRestarts": "4"},
            "waiting",
            "restarts within 30 s: exit code 5, a package, the Edge TPU or the camera",
        ),
        (
            {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}
            | {"ExecMainStatus": "7"},
            "failed",
            "not restarted: exit code 7, the model file is bad",
        ),
        (
            {"ActiveState": "failed", "SubState": "failed", "Result": "start-limit-hit"}
            | {"ExecMainStatus": "5"},
            "failed",
            "too often in a short time (exit code 5",
        ),
        (
            {"ActiveState": "failed", "SubState": "failed", "Result": "watchdog"},
            "failed",
            "it hung",
        ),
        ({"ActiveState": "inactive", "SubState": "dead"}, "stopped", "edgecls is stopped"),
        ({"ActiveState": "activating", "SubState": "start"}, "starting", "not open yet"),
        (
            {"LoadState": "bad-setting", "ActiveState": "inactive"},
            "stopped",
            "systemd cannot read the unit (bad-setting)",
        ),
        (
            {"LoadState": "not-found", "ActiveState": "inactive"},
            "stopped",
            "is not installed; type",
        ),
    ],
)
def test_a_service_in_trouble_in_words(changed: dict[str, str], state: str, words: str) -> None:
    found = _state(**changed)
    assert found.state == state
    assert not found.is_running
    sentences = "\n".join(found.sentences())
    assert words in sentences
    if changed.get("LoadState") != "not-found":
        assert "journalctl -u edgecls" in sentences
        assert "sudo systemctl start edgecls" in sentences


def test_what_is_unknown_is_not_said() -> None:
    state = _state(MemoryCurrent=str(2**64 - 1), UnitFileState="disabled", NRestarts="[not set]")
    assert state.memory_bytes is None
    assert state.sentences()[-1] == (
        "it does not start at boot; type: sudo systemctl enable edgecls"
    )


def test_a_machine_that_systemd_did_not_start() -> None:
    host = Host(systemctl=_Systemctl(show="System has not been booted with systemd"))
    with pytest.raises(SystemdNotFoundError, match="not been booted with systemd"):
        unit_state(host, "edgecls")


def test_what_everybody_may_read_and_what_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    models = home / "models"
    models.mkdir(parents=True)
    model = models / "m.tflite"
    model.write_bytes(b"x")
    for path in (*reversed(model.relative_to(tmp_path).parents), model.relative_to(tmp_path)):
        (tmp_path / path).chmod(0o755)
    home.chmod(0o700)
    assert why_unreadable(model, (models,)) is None  # shown to it, whatever stands above
    assert why_unreadable(model, (home,)) == home
    assert why_unreadable(models, (models,)) is None
    models.chmod(0o710)
    assert why_unreadable(model, (models,)) == models
    models.chmod(0o755)
    model.chmod(0o640)
    assert why_unreadable(model, (models,)) == model


def test_hidden_folders_are_shown_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit, "_HIDDEN", (tmp_path,))  # wherever temporary files lie
    models = tmp_path / "models"
    inner = models / "inner"
    inner.mkdir(parents=True)
    (models / "m.tflite").write_bytes(b"x")
    paths = (models / "m.tflite", inner, Path("/usr/bin/env"))
    assert visible_folders(paths) == (models,)
    link = tmp_path / "link"
    link.symlink_to(inner)
    assert visible_folders((link / "x",)) == tuple(sorted((inner, link)))
