"""A folder is written to by one process at a time, and no two have one temporary name."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("filelock", reason="the extra [host] is not installed")

from edge_sdk.errors import FolderInUseError, WriteError
from host_tools.run_directory import default_folders, take_default, taken
from host_tools.third_party.keras import save_keras, sweep_unfinished

_HOLD = """
import sys
from pathlib import Path
from host_tools.run_directory import taken
with taken(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def _held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder.absolute())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _finish(folder: str) -> None:
    path = Path("runs") / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.keras").touch()


def test_a_second_process_is_refused_with_the_number_of_the_first_and_what_to_type() -> None:
    folder = Path("run")
    with _held_elsewhere(folder) as process:
        for option in ("--out", "--flips", "--out"):  # an attempt leaves the number where it is
            words = f"process {process.pid} writes into this folder.*another folder with {option}"
            with pytest.raises(FolderInUseError, match=words), taken(folder, option):
                pass
    with taken(folder), taken(folder):  # a killed process holds nothing; one may take it twice
        (folder / "x").touch()
    with _held_elsewhere(folder):
        pass


def test_nothing_is_left_of_a_folder_that_was_not_used() -> None:
    with taken(Path("a/b")):
        pass
    assert not Path("a/b").exists()


def test_a_place_that_cannot_be_a_folder_is_named() -> None:
    Path("file").touch()
    with pytest.raises(WriteError, match="--out"), taken(Path("file/run")):
        pass


def test_two_trainings_without_a_folder_never_share_one() -> None:
    with _held_elsewhere(Path("runs/digits")):
        with take_default("digits", resume=False) as folder:
            assert folder == Path("runs/digits-2")
        with pytest.raises(FolderInUseError), take_default("digits", resume=True):
            pass
    with take_default("digits", resume=False) as folder:
        assert folder == Path("runs/digits")


def test_a_finished_run_is_left_alone_and_the_last_one_is_resumed() -> None:
    _finish("digits")
    _finish("digits-2")
    assert next(default_folders("digits", resume=False)) == Path("runs/digits-3")
    assert list(default_folders("digits", resume=True)) == [Path("runs/digits-2")]
    Path("runs/digits-3").mkdir()
    assert list(default_folders("digits", resume=True)) == [Path("runs/digits-3")]
    with take_default("digits", resume=False) as folder:
        assert folder == Path("runs/digits-3")


class _Model:
    """Saves itself as Keras does: to a path, which another process could have as well."""

    def __init__(self, content: bytes, meanwhile: object = None) -> None:
        self._content = content
        self._meanwhile = meanwhile

    def save(self, path: Path) -> None:
        assert str(path).endswith(".keras")
        Path(path).write_bytes(self._content)
        if callable(self._meanwhile):
            self._meanwhile()


def test_two_processes_that_save_one_model_do_not_meet() -> None:
    path = Path("model.keras")
    save_keras(_Model(b"first", lambda: save_keras(_Model(b"second"), path)), path)
    assert path.read_bytes() == b"first"
    assert [file.name for file in Path().iterdir()] == ["model.keras"]


def test_what_a_killed_process_left_is_removed() -> None:
    Path("model.keras").touch()

    class Killed(BaseException):
        pass

    class Model(_Model):
        def save(self, path: Path) -> None:
            super().save(path)
            Path(path).with_name(".model.x1y2.unfinished.keras").touch()
            raise Killed

    with pytest.raises(Killed):
        save_keras(Model(b"half"), Path("model.keras"))
    assert len(list(Path().iterdir())) == 2
    sweep_unfinished(Path())
    assert [file.name for file in Path().iterdir()] == ["model.keras"]
