"""Atomic writes: the old content or the new, whatever goes wrong. Reads within bounds; sizes in words."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import WriteError
from edge_sdk.files import read_file, size_text, write_atomically

_TOO_MUCH = bytes(1 << 20)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"\0\xff\r\n", b"\0\xff\r\n"),
        ("größer\r\nals\n", "größer\r\nals\n".encode()),
        (b"", b""),
    ],
    ids=["bytes", "text", "nothing"],
)
def test_what_is_written_is_what_stands_there(
    data: bytes | str, content: bytes, tmp_path: Path
) -> None:
    write_atomically(tmp_path / "a", data)
    assert (tmp_path / "a").read_bytes() == content
    assert _names(tmp_path) == ["a"]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a longer old content")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"a longer old content"
    assert path.read_bytes() == b"new"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "b" / "c" / "a", b"x")
    assert (tmp_path / "b" / "c" / "a").read_bytes() == b"x"


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("a" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    path.write_bytes(b"the system takes it")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o027], ids=oct)
def test_permissions_follow_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a", b"x")
        (tmp_path / "plain").write_bytes(b"x")
    finally:
        after = os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "plain")]
    assert modes == [0o666 & ~umask] * 2
    assert after == umask


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_without_space_the_old_content_stands(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(WriteError, match="No space left") as failed:
        write_atomically(path, b"new")
    assert str(path) in str(failed.value)
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["a"]


def test_an_error_means_that_the_old_content_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    sync = os.fsync

    def no_folders(descriptor: int) -> None:
        # What some network file systems say.
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    try:
        write_atomically(path, b"new")
        expected = b"new"
    except WriteError:
        expected = b"old"
    assert path.read_bytes() == expected


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that takes small files only: a tiny file system, or where that needs more rights, a
    limit that the kernel keeps."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "edgecls-test", str(folder)]
    if (
        os.geteuid() == 0
        and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    ):
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, limits[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_on_a_full_disk_the_old_content_stands(full_disk: Path) -> None:
    path = full_disk / "a"
    write_atomically(path, b"old")
    with pytest.raises(WriteError, match="free some space"):
        write_atomically(path, _TOO_MUCH)
    assert path.read_bytes() == b"old"
    assert _names(full_disk) == ["a"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_new_file_on_a_full_disk_leaves_nothing(full_disk: Path) -> None:
    with pytest.raises(WriteError):
        write_atomically(full_disk / "a", _TOO_MUCH)
    assert _names(full_disk) == []


def test_an_interrupt_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", b"x")
    assert _names(tmp_path) == []


def test_a_folder_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(WriteError):
        write_atomically(tmp_path / "a", b"x")
    assert _names(tmp_path) == ["a"]


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"a file")
    with pytest.raises(WriteError, match="could not be written"):
        write_atomically(tmp_path / "b" / "a", b"x")
    assert (tmp_path / "b").read_bytes() == b"a file"


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(1000))
    (tmp_path / "link").symlink_to(path)
    assert read_file(path, 1000) == read_file(tmp_path / "link", 1000) == bytes(1000)
    with pytest.raises(OSError, match=r"1\.0 kB, expected 999 bytes at most") as caught:
        read_file(path, 999)
    assert caught.value.errno == errno.EFBIG


def test_a_sparse_file_of_a_terabyte_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match=r"has 1\.1 TB"):
        read_file(path, 1_000_000)


def test_a_file_that_does_not_say_its_size_is_read_up_to_the_limit() -> None:
    path = Path("/proc/self/status")  # a size of 0, and some content
    if not path.exists():
        return
    assert len(read_file(path, 100_000)) > 100
    with pytest.raises(OSError, match="expected 10 bytes at most"):
        read_file(path, 10)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/random", "/dev/null"])
def test_a_device_is_refused_by_what_it_is(path: str) -> None:
    with pytest.raises(OSError, match="is a device, expected a file"):
        read_file(path, 1_000_000)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(OSError, match="is a pipe, expected a file"):
        read_file(tmp_path / "a", 1_000_000)


def test_a_pipe_that_takes_a_file_s_place_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    as_file = (tmp_path / "file").stat()
    os.mkfifo(tmp_path / "a")
    monkeypatch.setattr(os, "stat", lambda *_, **__: as_file)
    with pytest.raises(OSError, match="is a pipe, expected a file"):
        read_file(tmp_path / "a", 1_000_000)


def test_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_file(tmp_path, 10)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "a", 10)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1540, "1.5 kB"),
        (9_949, "9.9 kB"),
        (9_951, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (64_000_000, "64 MB"),
        (1_234_567_890, "1.2 GB"),
        (5e12, "5.0 TB"),
        (5e16, "50000 TB"),
    ],
)
def test_sizes_in_words(size: float, text: str) -> None:
    assert size_text(size) == text
