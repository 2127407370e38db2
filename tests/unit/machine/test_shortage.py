"""Which limit refused a process, by the error's number and the files of a machine."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edge_sdk.machine.board import System
from edge_sdk.machine.load import shortage


def _machine(root: Path, **files: str) -> System:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return System(root)


def _files(folder: str, used: str, most: str) -> dict[str, str]:
    return {f"{folder}/pids.current": f"{used}\n", f"{folder}/pids.max": f"{most}\n"}


@pytest.mark.parametrize(
    ("own", "folder"),
    [
        ("0::/system.slice/edgecls.service\n", "sys/fs/cgroup/system.slice/edgecls.service"),
        ("0::/system.slice/edgecls.service/x\n", "sys/fs/cgroup/system.slice"),
        ("0::/\n", "sys/fs/cgroup"),
        ("0::/../../a\n", "sys/fs/cgroup/a"),
        ("4:cpu,cpuacct:/a\n9:pids:/a/b\n0::/\n", "sys/fs/cgroup/pids/a"),
    ],
)
def test_the_group_whose_tasks_are_used_up_is_found(tmp_path: Path, own: str, folder: str) -> None:
    system = _machine(tmp_path, **{"proc/self/cgroup": own}, **_files(folder, "128", "128"))
    found = shortage(OSError(errno.EAGAIN, "x"), system)
    assert found is not None
    assert found.what.startswith("128 of 128 tasks")
    assert "TasksMax=" in found.fix


@pytest.mark.parametrize(("used", "most"), [("127", "128"), ("9", "max"), ("", ""), ("x", "1")])
def test_a_group_with_room_is_not_blamed(tmp_path: Path, used: str, most: str) -> None:
    files = _files("sys/fs/cgroup", used, most)
    found = shortage(
        OSError(errno.EAGAIN, "x"), _machine(tmp_path, **{"proc/self/cgroup": "0::/"}, **files)
    )
    assert found is not None
    assert found.what.startswith("the system allows no further task")


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOMEM, "memory"), (errno.EMFILE, "files"), (errno.ENFILE, "the machine's limit")],
)
def test_other_limits(number: int, said: str) -> None:
    found = shortage(OSError(number, "x"))
    assert found is not None
    assert said in found.what


@pytest.mark.parametrize("error", [OSError("x"), FileNotFoundError(errno.ENOENT, "x")])
def test_of_another_error_nothing_is_guessed(error: OSError) -> None:
    assert shortage(error) is None
