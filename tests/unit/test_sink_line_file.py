"""Files of whole lines: rotation, torn tails, full disks."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import WriteError
from edge_sdk.records import ErrorRecord
from edge_sdk.sinks.jsonl import JsonLines, open_json_lines
from edge_sdk.sinks.line_file import LineFile


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
from edge_sdk.records import ErrorRecord
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
    with pytest.raises(WriteError, match="set aside"):
        sink.write(ErrorRecord("1", "x" * 40))
    sink.close()
    assert json.loads((folder / "a.jsonl").read_text())["path"] == "0"
