"""Arrays in a zip: a small file that becomes gigabytes is refused before it is unpacked."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from host_tools import arrays_file
from host_tools.arrays_file import DamagedArraysError, read_arrays


def _header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def _bomb(path: Path, n_bytes: int) -> None:
    """An array of zeros, written without ever holding it."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("a.npy", "w", force_zip64=True) as member,
    ):
        member.write(_header((n_bytes,)))
        for _ in range(n_bytes // 1_000_000):
            member.write(bytes(1_000_000))


def test_arrays_are_read(tmp_path: Path) -> None:
    scores = np.zeros((5000, 1000), np.float32)  # 20 MB that take 20 kB
    np.savez_compressed(tmp_path / "a.npz", scores=scores)
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npz")["scores"], scores)


def test_a_small_file_that_becomes_large_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    _bomb(path, 100_000_000)
    assert path.stat().st_size < 200_000
    monkeypatch.setattr(zlib, "decompressobj", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(DamagedArraysError, match="that become 100 MB, expected 64 MB at most"):
        read_arrays(path)


def test_arrays_take_half_of_the_memory_there_is_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(1_000_000, np.uint8))
    monkeypatch.setattr(arrays_file, "usable_memory_bytes", lambda _: 1_900_000)
    with pytest.raises(DamagedArraysError, match="expected 950 kB at most"):
        read_arrays(path)
    monkeypatch.setattr(arrays_file, "usable_memory_bytes", lambda _: 2_100_000)
    assert read_arrays(path)["a"].size == 1_000_000


def test_an_entry_that_understates_its_size_gives_no_more_than_it_states(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    _bomb(path, 30_000_000)
    data = bytearray(path.read_bytes())
    stated = len(_header((30_000_000,))) + 30_000_000
    found = data.rfind(stated.to_bytes(4, "little"))
    data[found : found + 4] = (1000).to_bytes(4, "little")  # in the directory
    path.write_bytes(data)
    with pytest.raises(DamagedArraysError):
        read_arrays(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DamagedArraysError, match="is a pipe"):
        read_arrays(tmp_path / "pipe.npz")
    with pytest.raises(DamagedArraysError, match="is a device"):
        read_arrays(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")
