"""Files of whole lines: rotation, torn tails, full disks."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import WriteError
from edge_sdk.sinks.jsonl import JsonLines, LineFile, open_json_lines, write_whole
from edge_sdk.types import ErrorRecord


def _files(path: Path) -> list[Path]:
    """Oldest first."""
    return [*sorted(path.parent.glob(f"{path.name}.*"), key=lambda f: -int(f.suffix[1:])), path]


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    max_bytes=st.integers(1, 100),
    keep=st.integers(0, 3),
)
def test_lines_stay_whole_and_in_order_over_files(
    sizes: list[int], max_bytes: int, keep: int
) -> None:
    lines = [f"{i}".ljust(size, "x").encode() + b"\n" for i, size in enumerate(sizes)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        file = LineFile(path, max_bytes, keep)
        for line in lines:
            file.append(line)
        file.close()
        files = _files(path)
        kept = b"".join(f.read_bytes() for f in files)
        assert len(files) <= keep + 1
        assert b"".join(lines).endswith(kept)
        assert kept.startswith(tuple(lines))
        for f in files:
            assert f.stat().st_size <= max_bytes or f.read_bytes().count(b"\n") == 1


def test_a_full_file_makes_room_and_the_oldest_goes(tmp_path: Path) -> None:
    sink = open_json_lines(tmp_path / "a.jsonl", max_bytes=200, keep=2)
    for i in range(50):
        sink.write(ErrorRecord(f"{i}.jpg", "x"))
    sink.close()
    names = sorted(f.name for f in tmp_path.iterdir())
    assert names == ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]
    content = "".join(f.read_text() for f in _files(tmp_path / "a.jsonl"))
    paths = [json.loads(line)["path"] for line in content.splitlines()]
    assert paths == [f"{i}.jpg" for i in range(50 - len(paths), 50)]


@pytest.mark.parametrize(
    ("tail", "left"),
    [
        (b'{"schema": 1, "ty', b""),
        (b'{"sch', b""),
        (b"\0\0\0\0", b""),
        (b"a note", b"a note\n"),
        (b"", b""),
    ],
    ids=["half-a-record", "its-first-letters", "zeros", "another's-words", "nothing"],
)
def test_a_torn_end_is_mended_before_the_next_line(
    tail: bytes, left: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"schema": 1}\n' + tail)
    sink = JsonLines(path)
    sink.write(ErrorRecord("a", "b"))
    sink.close()
    kept = b'{"schema": 1}\n' + left
    assert path.read_bytes().startswith(kept)
    assert json.loads(path.read_bytes()[len(kept) :])["path"] == "a"


@pytest.mark.parametrize(("max_bytes", "keep"), [(0, 1), (10, -1)])
def test_sizes_that_make_no_sense_are_refused(max_bytes: int, keep: int, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="expected a size"):
        JsonLines(tmp_path / "a", max_bytes=max_bytes, keep=keep)


# A limit on the size of files refuses the rest of a write just as a full disk does.
_ON_A_FULL_DISK = """
import resource, sys
from edge_sdk.errors import WriteError
from edge_sdk.types import ErrorRecord
from edge_sdk.sinks.jsonl import JsonLines
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sink = JsonLines(sys.argv[1] if sys.argv[1:] else None)
refused = 0
for i in range(30):
    try:
        sink.write(ErrorRecord(f"{i}.jpg", "x" * 10))
    except WriteError as error:
        assert "free some space" in str(error)
        refused += 1
sink.close()
print(refused, file=sys.stderr)
"""


@pytest.mark.parametrize("to_stdout", [False, True], ids=["file", "stdout"])
def test_a_full_disk_leaves_no_half_line(to_stdout: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("ab") as stream:
        result = subprocess.run(
            [sys.executable, "-c", _ON_A_FULL_DISK, *([] if to_stdout else [str(path)])],
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert result.returncode == 0, result.stderr
    content = path.read_bytes()
    assert content.endswith(b"\n")
    lines = [json.loads(line) for line in content.splitlines()]
    assert len(lines) + int(result.stderr) == 30
    assert 5 < len(lines) < 30


def test_a_file_whose_folder_forbids_the_next_one_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    sink = JsonLines(folder / "a.jsonl", max_bytes=60, keep=1)
    sink.write(ErrorRecord("0", "x"))
    (folder / "a.jsonl.1").mkdir()  # in the way, also of root
    (folder / "a.jsonl.1" / "b").touch()
    with pytest.raises(WriteError, match="cannot be renamed"):
        sink.write(ErrorRecord("1", "x" * 40))
    sink.close()
    assert json.loads((folder / "a.jsonl").read_text())["path"] == "0"


def test_a_slow_card_does_not_hold_up_the_loop_when_a_file_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    go_on = threading.Event()

    def slow(_: int) -> None:
        flushed.append(threading.current_thread().name)
        if threading.current_thread() is not threading.main_thread():
            assert go_on.wait(20)

    monkeypatch.setattr(os, "fsync", slow)
    file = LineFile(tmp_path / "a.jsonl", 100, 9)
    began = time.monotonic()
    for _ in range(8):
        file.append(b"x" * 59 + b"\n")
    assert time.monotonic() - began < 5
    assert len(list(tmp_path.iterdir())) == 8
    while not flushed and time.monotonic() - began < 20:
        time.sleep(0.01)
    assert flushed == ["edgecls-flush"]  # one at a time, however many files fill meanwhile
    go_on.set()
    file.close()
    assert flushed == ["edgecls-flush", "MainThread"]
    assert not [thread for thread in threading.enumerate() if thread.name == "edgecls-flush"]


def test_a_full_file_that_does_not_reach_the_disk_is_said_with_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    sink = JsonLines(tmp_path / "a.jsonl", max_bytes=60)
    sink.write(ErrorRecord("0", "x"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        sink.write(ErrorRecord("1", "x"))
        sink._file._flushing.join()  # type: ignore[union-attr]
    with pytest.raises(WriteError, match="Input/output error"):
        sink.write(ErrorRecord("2", "x"))
    sink.write(ErrorRecord("3", "x"))  # told once
    sink.close()


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(3):
        file = LineFile(tmp_path / "a.jsonl", 50, 2)
        for _ in range(20):
            file.append(b"x" * 29 + b"\n")
        with pytest.raises(WriteError):
            LineFile(tmp_path / "a.jsonl", 50, 2)
        file.close()
    assert count() == before


def test_of_two_writers_the_second_is_refused_and_nothing_torn(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = JsonLines(path, max_bytes=100)
    first.write(ErrorRecord("0", "x"))
    code = "import sys; from edge_sdk.sinks.jsonl import JsonLines; JsonLines(sys.argv[1])"
    second = [sys.executable, "-c", code, str(path)]
    for _ in range(3):  # also when the file has been begun anew
        result = subprocess.run(second, capture_output=True, text=True, check=False, timeout=60)
        assert "another process writes to this file" in result.stderr
        first.write(ErrorRecord("1", "x"))
        first.write(ErrorRecord("2", "x"))
    first.close()
    assert subprocess.run(second, check=False, timeout=60).returncode == 0


def test_a_file_that_is_no_text_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    content = b"\x1c\0\0\0TFL3" + bytes(range(256))
    path.write_bytes(content)
    with pytest.raises(WriteError, match="not a text file"):
        JsonLines(path)
    assert path.read_bytes() == content


def test_where_a_file_system_knows_no_locks_lines_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unable)
    sink = JsonLines(tmp_path / "a.jsonl")
    sink.write(ErrorRecord("0", "x"))
    sink.close()
    assert (tmp_path / "a.jsonl").read_text().count("\n") == 1


def test_a_full_pipe_that_does_not_block_is_waited_for_and_no_line_torn() -> None:
    """As standard output is where some other program has made it so: ssh, node."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    lines = [b"%05d" % i + b"x" * 5000 + b"\n" for i in range(200)]
    got = bytearray()

    def reader() -> None:
        while piece := os.read(read, 3000):
            got.extend(piece)

    thread = threading.Thread(target=reader)
    for i, line in enumerate(lines):
        if i == 10:  # 64 kB are full by soon
            thread.start()
        write_whole(write, line)
    os.close(write)
    thread.join()
    os.close(read)
    assert bytes(got) == b"".join(lines)
