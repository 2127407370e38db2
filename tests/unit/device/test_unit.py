"""The unit's text, as systemd itself reads it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.device.unit import UnitPlan, check_name, command, file_name, unit_text, value, word
from edge_sdk.errors import UnitTextError

_SYSTEMD = Path("/lib/systemd/systemd")
_ANALYZE = shutil.which("systemd-analyze")
_NOBODY = 65534
_MOST_EXPOSED = 4.0
_LETTERS = st.one_of(
    st.sampled_from("%$\"'\\;: \u00a0`*?{}|&#=-@+!~ü"),
    st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co")),
)
_TEXTS = st.text(_LETTERS, min_size=1, max_size=12)
_PLAN = UnitPlan("edgecls", ("/bin/true",), Path("/opt/edgecls/trash_int8.tflite"))


class _Reader:
    """systemd, which reads a unit and dumps what it understood; it starts nothing.

    It will not do so for root, so it is somebody else in folders of their own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._units = folder / "units"
        self._units.mkdir()
        for name in ("basic", "sysinit"):
            (self._units / f"{name}.target").write_text("[Unit]\n")
        (folder / "run").mkdir()
        for path in (folder, folder / "run", self._units):
            path.chmod(0o777)

    def read(self, text: str) -> list[str]:
        """The lines of the dump that are about the unit."""
        (self._units / "t.service").write_text(text, "utf-8")
        someone = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        done = subprocess.run(
            [_SYSTEMD, "--test", "--user", "--unit=t.service"],
            capture_output=True,
            check=False,
            timeout=60,
            cwd="/",
            env={
                "SYSTEMD_UNIT_PATH": str(self._units),
                "HOME": str(self._folder / "run"),
                "XDG_RUNTIME_DIR": str(self._folder / "run"),
                "SYSTEMD_LOG_LEVEL": "debug",
                "LANG": "C.UTF-8",
                "PATH": os.environ["PATH"],
            },
            **(someone if os.geteuid() == 0 else {}),  # type: ignore[call-overload]
        )
        printed = (done.stdout + done.stderr).decode()
        _, found, rest = printed.partition("-> Unit t.service:")
        assert found, printed
        return [line.strip(" \t\r") for line in rest.split("-> Unit ")[0].split("\n")]

    def values(self, text: str, key: str) -> list[str]:
        """What the dump has for a key."""
        return [
            line.removeprefix(f"{key}: ") for line in self.read(text) if line.startswith(f"{key}:")
        ]


@pytest.fixture(scope="module")
def systemd() -> Iterator[_Reader]:
    if not _SYSTEMD.exists():
        pytest.skip("systemd is not installed")
    with tempfile.TemporaryDirectory(prefix="edgecls-units-") as folder:
        yield _Reader(Path(folder))


def _unquoted(line: str) -> tuple[str, ...]:
    """systemd's dump quotes words as a shell would."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|([^ ]+)', line)
    return tuple(re.sub(r"\\(.)", r"\1", quoted) if quoted else plain for quoted, plain in found)


def _service(*lines: str) -> str:
    return "\n".join(("[Service]", "Type=oneshot", "ExecStart=/bin/true", *lines, ""))


@settings(max_examples=12)
@given(commands=st.lists(st.lists(_TEXTS, max_size=4), min_size=20, max_size=40))
def test_systemd_gives_the_program_every_word_as_it_was(
    commands: list[list[str]], systemd: _Reader
) -> None:
    lines = [f"ExecStart={command(('/bin/echo', *words))}" for words in commands]
    read = systemd.values(_service(*lines), "Command Line")
    assert [_unquoted(line)[1:] for line in read[1:]] == [tuple(words) for words in commands]


@settings(max_examples=6)
@given(names=st.lists(_TEXTS.filter(lambda t: "/" not in t and t.strip(". ")), min_size=10))
def test_systemd_sees_every_folder_as_it_was(names: list[str], systemd: _Reader) -> None:
    folders = [f"/home/x{name}x" for name in names]
    lines = [f"BindReadOnlyPaths={' '.join(map(word, folders))}"]
    read = systemd.values(_service(*lines), "BindReadOnlyPaths")
    assert read == [f"{folder}:{folder}:rbind" for folder in folders]


@settings(max_examples=6)
@given(names=st.lists(_TEXTS.filter(lambda t: "/" not in t), min_size=10))
def test_systemd_starts_the_program_in_a_folder_of_any_name(
    names: list[str], systemd: _Reader
) -> None:
    programs = [f"/opt/x{name}x/edgecls" for name in names if not set(name) & set("\"'\\")]
    lines = [f"ExecStart={command((program, 'run'))}" for program in programs]
    read = systemd.values(_service(*lines), "Command Line")
    assert [_unquoted(line) for line in read[1:]] == [(program, "run") for program in programs]


def test_whole_values_and_the_environment_reach_systemd_as_they_were(systemd: _Reader) -> None:
    plan = replace(
        _PLAN,
        model=Path('/opt/a b/50 % of "all"; $HOME.tflite'),
        environment_file=Path('/etc/my own %h "x'),
        environment=(("EDGECLS_WEB_TOKEN_FILE", "/run/a b%c"),),
    )
    lines = systemd.read(unit_text(plan))
    assert 'Description: edgecls run 50 % of "all"; $HOME.tflite' in lines
    assert 'EnvironmentFile: /etc/my own %h "x' in lines
    assert "Environment: EDGECLS_WEB_TOKEN_FILE=/run/a b%c" in lines
    (line,) = [line for line in lines if "Command Line" in line and "kill" not in line]
    assert _unquoted(line.removeprefix("Command Line: ")) == plan.command


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\nb", "line break"), ("", "empty argument"), ("\x7f", "control"), ("\udcff", "UTF-8")],
)
def test_what_no_unit_can_say_is_refused(text: str, expected: str) -> None:
    for say in (word, value, lambda text: command(("/bin/true", text))):
        with pytest.raises(UnitTextError, match=expected):
            say(text)


def test_paths_that_systemd_would_misread_are_refused() -> None:
    with pytest.raises(UnitTextError, match="quote or a backslash"):
        command(("/opt/pat's/edgecls", "run"))
    for text in ("/etc/x ", "/etc/x\\"):
        with pytest.raises(UnitTextError, match="at its end"):
            value(text)
    with pytest.raises(UnitTextError, match="pattern"):
        file_name(Path("/etc/edgecls/[gate]"))


@pytest.mark.parametrize("name", ["Edgecls", "", "a b", "../x", "1st", "x" * 32, "a.service"])
def test_a_name_must_do_for_a_user_as_well(name: str) -> None:
    with pytest.raises(UnitTextError, match="--name"):
        check_name(name)


_PLANS = {
    "plain": _PLAN,
    "everything": UnitPlan(
        "edgecls-gate",
        ("/bin/true", "-c", "x; y"),
        Path("/home/pi/my models/50 % $x.tflite"),
        None,
        ("--mqtt", "mqtts://broker.local/a?ca=/etc/ssl/ca.pem", "--deny", "it's"),
        ("video", "plugdev"),
        (Path("/home/pi/my models"), Path("/home/pi/a:b")),
        Path("/etc/edgecls/environment"),
        (("mqtt", Path("/etc/edgecls/mq tt")), ("web-token", Path("/etc/edgecls/50%"))),
        (("EDGECLS_WEB_TOKEN_FILE", "/run/credentials/edgecls-gate.service/web-token"),),
        needs_network=True,
    ),
}


def _analyze(words: Sequence[str | Path]) -> str:
    if _ANALYZE is None:
        pytest.skip("systemd is not installed")
    done = subprocess.run(
        [_ANALYZE, *words], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("plan", _PLANS.values(), ids=_PLANS)
def test_systemd_has_nothing_to_say_against_the_unit(plan: UnitPlan, tmp_path: Path) -> None:
    path = tmp_path / f"{plan.name}.service"
    path.write_text(unit_text(plan), "utf-8")
    assert _analyze(["verify", "--man=no", path]) == ""
    path.write_text(unit_text(plan) + "[Service]\nWathcdogSec=3\n", "utf-8")
    assert "Unknown key" in _analyze(["verify", "--man=no", path])  # it would say so


def test_a_unit_that_fails_is_never_given_up() -> None:
    unit, _, service = unit_text(_PLAN).partition("[Service]")
    assert "StartLimitIntervalSec=0" in unit.splitlines()
    assert "StartLimitBurst" not in unit
    assert "Restart=on-failure" in service.splitlines()
    assert "RestartSec=30" in service.splitlines()


@pytest.mark.parametrize("plan", _PLANS.values(), ids=_PLANS)
def test_the_unit_is_exposed_little(plan: UnitPlan, tmp_path: Path) -> None:
    path = tmp_path / f"{plan.name}.service"
    path.write_text(unit_text(plan), "utf-8")
    told = _analyze(["security", "--offline=true", "--no-pager", path])
    found = re.search(r"Overall exposure level.*: (\d+\.\d)", told)
    assert found is not None, told
    assert float(found[1]) <= _MOST_EXPOSED


def test_camera_usb_and_coral_stay_within_reach() -> None:
    lines = unit_text(replace(_PLAN, groups=("video", "render", "plugdev"))).splitlines()
    assert "PrivateDevices=no" in lines
    assert "SupplementaryGroups=video render plugdev" in lines
    for kind in ("video4linux", "media", "dma_heap", "usb_device", "apex"):
        assert f"DeviceAllow=char-{kind} rw" in lines
    assert not any(line.startswith("SupplementaryGroups") for line in unit_text(_PLAN).splitlines())


def test_no_secret_is_on_the_command_line() -> None:
    text = unit_text(_PLANS["everything"])
    assert "LoadCredential=mqtt:/etc/edgecls/mq tt" in text
    assert "EnvironmentFile=/etc/edgecls/environment" in text
    assert "--camera" not in text
