"""The recipes for images and containers: their syntax, and the commands in them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from edge_sdk.cli.run import run
from edge_sdk.cli.service import install
from host_tools.cli import main

_ROOT = Path(__file__).parents[2]
_DEPLOY = _ROOT / "docs" / "deploy"
_DOCUMENTS = (_ROOT / "docs" / "raspberry-pi.md", _DEPLOY / "README.md")


def _understood(command: click.Command, words: list[str]) -> dict[str, Any]:
    """What the command line makes of these words; raises where it does not understand them."""
    # Below its group: click remembers with the command which options are its help.
    return command.make_context(
        "command", list(words), parent=click.Context(main, **main.context_settings)
    ).params


@pytest.fixture(scope="module")
def user_data() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="the extra [host] is not installed")
    text = (_DEPLOY / "user-data").read_text("utf-8")
    assert text.splitlines()[0] == "#cloud-config"  # or cloud-init takes it for something else
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def test_cloud_init_runs_a_script_that_is_written_before(user_data: dict[str, Any]) -> None:
    known = {"hostname", "manage_etc_hosts", "timezone", "ssh_pwauth", "users", "package_update"}
    assert set(user_data) == known | {"write_files", "runcmd"}
    (file,) = user_data["write_files"]
    assert user_data["runcmd"] == [[file["path"]]]
    assert file["permissions"] == "0755"
    (user,) = user_data["users"]
    assert user["lock_passwd"] is True
    assert user_data["ssh_pwauth"] is False


def test_the_script_is_sound_and_its_commands_are_ours(
    user_data: dict[str, Any], tmp_path: Path
) -> None:
    script = user_data["write_files"][0]["content"]
    path = tmp_path / "setup"
    path.write_text(script)
    shell = shutil.which("sh")
    assert shell is not None
    subprocess.run([shell, "-n", path], check=True, timeout=20)
    assert "set -eu" in script
    assert "--system-site-packages" in script
    (line,) = [line for line in script.splitlines() if "service install" in line]
    words = shlex.split(line)
    given = _understood(install, words[3:])
    assert (str(given["model"]), given["camera"]) == ("/opt/edgecls/model.tflite", "auto")
    _understood(run, [str(given["model"]), *given["options"]])


def _instructions() -> list[tuple[str, str]]:
    text = (_DEPLOY / "Containerfile").read_text("utf-8")
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def test_the_container_file_copies_what_is_there_and_starts_what_we_have() -> None:
    found = _instructions()
    known = {"FROM", "COPY", "RUN", "USER", "WORKDIR", "VOLUME", "ENV", "STOPSIGNAL"}
    assert {name for name, _ in found} == known | {"ENTRYPOINT", "CMD"}
    assert found[0][0] == "FROM"
    for source in [word for name, rest in found if name == "COPY" for word in rest.split()[:-1]]:
        assert (_ROOT / source).exists(), source
    words = {name: rest for name, rest in found if name in ("ENTRYPOINT", "CMD", "USER")}
    entry, command = json.loads(words["ENTRYPOINT"]), json.loads(words["CMD"])
    assert entry[:2] == ["edgecls", "run"]
    assert _understood(run, [*entry[2:], *command])["camera"] == "auto"
    assert words["USER"] == "edgecls"  # not root


def test_the_commands_of_the_documents_are_understood() -> None:
    commands = [
        shlex.split(line, comments=True)
        for document in _DOCUMENTS
        for block in re.findall(r"^```\n(.*?)^```", document.read_text("utf-8"), re.M | re.S)
        for line in block.splitlines()
    ]
    installs = [
        words[words.index("install") + 1 :]
        for words in commands
        if "service" in words[:4] and "install" in words
    ]
    assert len(installs) >= 3
    for words in installs:
        given = _understood(install, words)
        _understood(run, ["model.tflite", *given["options"]])
