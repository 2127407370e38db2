"""The copy of the last good model: one per path, whole, and of this user alone."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import last_good
from edge_sdk.errors import WriteError
from edge_sdk.last_good import CopyWriter, LastGood


def _keep(copy: LastGood, data: bytes) -> None:
    copy.keep(data, hashlib.sha256(data).hexdigest())


def _contents(copy: LastGood) -> list[bytes]:
    return sorted(path.read_bytes() for path in copy.folder.iterdir())


@pytest.fixture
def copy(tmp_path: Path) -> LastGood:
    return LastGood(tmp_path / "model.tflite", tmp_path / "last-good")


def test_what_is_kept_is_found(copy: LastGood) -> None:
    assert copy.find() is None
    _keep(copy, b"a model")
    found = copy.find()
    assert found is not None
    assert found.read_bytes() == b"a model"
    assert found.suffix == ".tflite"
    assert stat.S_IMODE(copy.folder.stat().st_mode) == 0o700


def test_there_is_one_copy_for_each_path(copy: LastGood) -> None:
    for data in (b"first", b"second", b"second", b"third"):
        _keep(copy, data)
    assert _contents(copy) == [b"third"]
    other = LastGood(copy.model.with_name("other.onnx"), copy.folder)
    _keep(other, b"third")
    assert _contents(copy) == [b"third", b"third"]
    assert copy.find() != other.find()


def test_copies_of_a_few_paths_are_kept(copy: LastGood) -> None:
    for number in range(20):
        for path in copy.folder.iterdir() if copy.folder.exists() else ():
            os.utime(path, (0, path.stat().st_mtime - 10))
        _keep(LastGood(copy.model.with_name(str(number)), copy.folder), b"%d" % number)
    assert len(_contents(copy)) == last_good._MAX_COPIES
    assert LastGood(copy.model.with_name("19"), copy.folder).find() is not None
    assert LastGood(copy.model.with_name("0"), copy.folder).find() is None


def test_a_relative_path_is_the_same_path(
    copy: LastGood, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _keep(copy, b"a model")
    monkeypatch.chdir(tmp_path)
    assert LastGood(Path("model.tflite"), copy.folder).find() == copy.find()


def test_a_damaged_copy_is_none_and_is_made_again(copy: LastGood) -> None:
    _keep(copy, b"a model")
    found = copy.find()
    assert found is not None
    found.write_bytes(b"a modem")
    assert copy.find() is None
    _keep(copy, b"a model")
    assert copy.find() == found


@pytest.mark.parametrize("mode", [0o777, 0o770], ids=oct)
def test_a_folder_that_others_write_to_is_not_believed(mode: int, copy: LastGood) -> None:
    _keep(copy, b"a model")
    copy.folder.chmod(mode)
    assert copy.find() is None
    with pytest.raises(WriteError, match="other users may write to it"):
        _keep(copy, b"another")


def test_on_a_full_disk_the_older_copy_stays(
    copy: LastGood, monkeypatch: pytest.MonkeyPatch
) -> None:
    _keep(copy, b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    keeping = CopyWriter(copy, b"new", hashlib.sha256(b"new").hexdigest())
    assert keeping.done(10)
    assert "No space left" in keeping.problem
    assert _contents(copy) == [b"old"]


def test_what_an_interrupted_write_left_goes(copy: LastGood) -> None:
    _keep(copy, b"old")
    found = copy.find()
    assert found is not None
    (copy.folder / f".{found.name}.abcd").write_bytes(b"half")
    _keep(copy, b"new")
    assert _contents(copy) == [b"new"]


def test_a_user_without_a_home_has_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(WriteError, match="set XDG_STATE_HOME or STATE_DIRECTORY"):
        LastGood.of(Path("model.tflite"))


def test_a_service_keeps_it_in_its_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/other")
    assert LastGood.of(Path("model.tflite")).folder == tmp_path / "last-good"


def test_the_later_of_two_copies_stays(copy: LastGood, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is still being written when a second model takes over."""
    release = threading.Event()
    sync = os.fsync

    def slow(descriptor: int) -> None:
        release.wait(30)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    first = CopyWriter(copy, b"first", hashlib.sha256(b"first").hexdigest())
    second = CopyWriter(copy, b"second", hashlib.sha256(b"second").hexdigest(), after=first)
    release.set()
    assert second.done(30)
    assert first.problem == second.problem == ""
    assert _contents(copy) == [b"second"]
