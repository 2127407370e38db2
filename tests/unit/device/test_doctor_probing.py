"""What the doctor learns from child processes, devices and disks, which are real here."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_sdk.device.doctor.context import (
    DoctorOptions,
    Loaded,
    load_library,
    load_module,
    open_device,
    remedy,
    this_machine,
    try_disk,
)

# As numpy does: pages of advice, and the reason behind it.
_CHAINED = """
try:
    import absent_part
except ImportError as error:
    raise ImportError("READ THIS\\n" * 30) from error
"""


def test_a_module_that_loads() -> None:
    loaded = load_module("numpy")
    assert loaded.problem is None
    assert re.match(r"\d+\.\d+", loaded.version or "")


def test_a_module_that_is_not_there() -> None:
    assert load_module("absent_module").missing == "absent_module"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import os; os.kill(os.getpid(), 4)", "it crashes with SIGILL"),
        ("import os; os._exit(3)", "it ends Python with exit code 3"),
        ("raise SystemExit(2)", "SystemExit: 2"),
        (
            _CHAINED,
            "ModuleNotFoundError: No module named 'absent_part'",
        ),
        (
            "raise ImportError('libGL.so.1: cannot open\\nmore')",
            "ImportError: libGL.so.1: cannot open",
        ),
        ("print('noise')\nx = 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_does_not_load(
    source: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_module("broken_module").problem == problem


def test_a_library_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "libedgetpu.so.1").write_bytes(b"\x7fELF nonsense")
    assert "libedgetpu.so.1" in (load_library(str(tmp_path / "libedgetpu.so.1")).problem or "")
    assert "absent.so" in (load_library(str(tmp_path / "absent.so")).problem or "")
    assert "no tflite_plugin_create_delegate" in (load_library("libc.so.6").problem or "")


def test_reasons_that_are_known() -> None:
    reason, fix = remedy("ImportError: a module compiled using NumPy 1.x cannot", "reinstall")
    assert "numpy" in reason
    assert fix == "reinstall"
    assert "the cause is unknown; often" in remedy("OSError: something", "reinstall")[0]


def test_what_says_nothing_of_a_package_does_not_blame_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    def hangs(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 60)

    for fails, said in ((refused, "refuses another process"), (hangs, "a busy machine")):
        monkeypatch.setattr(subprocess, "run", fails)
        problem = load_module("numpy").problem or ""
        reason, fix = remedy(problem, "reinstall")
        assert said in reason
        assert fix != "reinstall"
    monkeypatch.setattr(subprocess, "run", refused)
    assert "task" in (load_module("numpy").problem or "")


def test_a_module_is_loaded_once_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def slow(name: str) -> Loaded:
        asked.append(name)
        time.sleep(0.05)
        return Loaded("1")

    monkeypatch.setattr("edge_sdk.device.doctor.context.load_module", slow)
    context = this_machine(DoctorOptions())
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(context.load, ["numpy", "cv2"] * 4))
    assert answers == [Loaded("1")] * 8
    assert sorted(asked) == ["cv2", "numpy"]


def test_devices(tmp_path: Path) -> None:
    file = tmp_path / "device"
    file.touch()
    assert open_device(file) == 0
    assert open_device(tmp_path / "absent") == errno.ENOENT


def test_a_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    disk = try_disk(tmp_path / "not" / "yet")
    assert disk.folder == tmp_path
    assert disk.error == 0
    assert disk.free_bytes > 0
    assert disk.written_mb_per_s is not None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_files() -> None:
    disk = try_disk(Path("/proc/self"))  # not even from root
    assert disk.error != 0
    assert disk.written_mb_per_s is None


def test_this_machine_can_be_asked() -> None:
    context = this_machine(DoctorOptions(folder=Path.cwd()))
    assert context.python.bits in (32, 64)
    assert context.user.is_root == (os.geteuid() == 0)
    assert context.distribution("numpy") is not None
    assert context.distribution("absent-distribution") is None
