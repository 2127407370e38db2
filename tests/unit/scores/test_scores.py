"""Saved scores: what a host wrote, a device reads; anything else is refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.errors import ArtifactNotFoundError, ValidationError, WriteError
from host_tools.predict import SavedScores, load_scores, save_scores

pytestmark = pytest.mark.computes

_LABELS = ("cat", "größe", "猫 with spaces")
_FILES = tuple(f"{number:064x}" for number in range(40))
_SCORES = np.random.default_rng(0).random((len(_FILES), len(_LABELS)), np.float32)
_SAVED = SavedScores("runs/mine/model.keras", _LABELS, _FILES, _SCORES)

_GOOD: dict[str, Any] = {
    "schema": np.array(1),
    "reference": np.array("model.keras"),
    "labels": np.array(("cat", "dog")),
    "files": np.array(("a" * 64,)),
    "scores": np.array([[0.25, 0.75]], np.float32),
}


def _same(a: SavedScores, b: SavedScores) -> bool:
    return (
        (a.reference, a.labels, a.files) == (b.reference, b.labels, b.files)
        and a.scores.dtype == b.scores.dtype
        and np.array_equal(a.scores, b.scores)
    )


def _npz(path: Path, **changed: Any) -> Path:
    """A well-formed file with other arrays; None leaves one out."""
    arrays = {name: array for name, array in {**_GOOD, **changed}.items() if array is not None}
    np.savez(path, **arrays)
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "scores.npz"
    save_scores(path, _SAVED)
    return path


def test_what_is_saved_is_loaded(saved: Path) -> None:
    assert _same(load_scores(saved), _SAVED)


def test_a_single_picture_is_enough(tmp_path: Path) -> None:
    loaded = load_scores(_npz(tmp_path / "x.npz"))
    assert loaded.labels == ("cat", "dog")
    assert loaded.scores.tolist() == [[0.25, 0.75]]


def test_no_pictures_are_saved_and_loaded_too(tmp_path: Path) -> None:
    nothing = SavedScores("m", ("a", "b"), (), np.zeros((0, 2), np.float32))
    save_scores(tmp_path / "x.npz", nothing)
    assert _same(load_scores(tmp_path / "x.npz"), nothing)


def test_the_same_scores_are_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_scores(tmp_path / "again.npz", _SAVED)
    with zipfile.ZipFile(saved) as one, zipfile.ZipFile(tmp_path / "again.npz") as other:
        assert one.namelist() == other.namelist()
        assert all(one.read(name) == other.read(name) for name in one.namelist())


def test_saving_replaces_the_file_whole_or_not_at_all(saved: Path, tmp_path: Path) -> None:
    save_scores(saved, SavedScores("m", ("a",), ("f",), np.ones((1, 1), np.float32)))
    assert load_scores(saved).reference == "m"
    assert list(tmp_path.iterdir()) == [saved]
    with pytest.raises(WriteError):
        save_scores(saved / "below a file.npz", _SAVED)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match=r"no\.npz: there is no such file"):
        load_scores(tmp_path / "no.npz")


def test_a_folder_is_no_scores_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError):
        load_scores(tmp_path)


@pytest.mark.parametrize("part", range(20))
def test_a_truncated_file_is_refused(part: int, saved: Path) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: len(data) * part // 20])
    with pytest.raises(ValidationError, match=r"scores\.npz"):
        load_scores(saved)


class _Armed:
    """Would call ``exit`` when unpickled."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return exit, (99,)


def _pickled_file() -> bytes:
    return pickle.dumps(_Armed())


def _npy_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, _SCORES)
    return buffer.getvalue()


def _foreign_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("hello.txt", "hello")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"cat,0.5\n", id="text"),
        pytest.param(b"PK\3\4" + bytes(100), id="the head of a zip"),
        pytest.param(_foreign_zip(), id="another zip"),
        pytest.param(_npy_file(), id="an array alone"),
        pytest.param(_pickled_file(), id="a pickle"),
    ],
)
def test_what_is_no_scores_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ValidationError, match=r"x\.npz: not scores saved by edgecls validate"):
        load_scores(path)


@pytest.mark.parametrize("name", _GOOD)
def test_a_pickled_object_is_never_opened(name: str, tmp_path: Path) -> None:
    armed = np.array([_Armed()], dtype=object)
    with pytest.raises(ValidationError, match="not scores"):
        load_scores(_npz(tmp_path / "x.npz", **{name: armed}))


@pytest.mark.parametrize("name", _GOOD)
def test_a_missing_array_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="not scores"):
        load_scores(_npz(tmp_path / "x.npz", **{name: None}))


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="written by a newer edgecls"):
        load_scores(_npz(tmp_path / "x.npz", schema=np.array(2)))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"schema": np.array("one")}, id="a schema in words"),
        pytest.param({"schema": np.array([1, 1])}, id="two schemas"),
        pytest.param({"schema": np.array(np.inf)}, id="an infinite schema"),
        pytest.param({"labels": np.array("cat")}, id="labels that are no list"),
        pytest.param({"labels": np.array(("cat", "dog", "cow"))}, id="more labels than scores"),
        pytest.param({"files": np.array(("a", "b"))}, id="more files than scores"),
        pytest.param({"scores": np.array([[0.5], [0.5]])}, id="scores of another shape"),
        pytest.param({"scores": np.array([0.25, 0.75])}, id="scores of one dimension"),
        pytest.param({"scores": np.array([["a", "b"]])}, id="scores in words"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        load_scores(_npz(tmp_path / "x.npz", **changed))


def test_a_header_that_promises_terabytes_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 2), }"
    header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    huge = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)
    path = _npz(tmp_path / "x.npz", scores=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("scores.npy", huge)
    with pytest.raises(ValidationError):
        load_scores(path)


def test_a_flipped_bit_is_refused_or_means_nothing(saved: Path) -> None:
    data = saved.read_bytes()
    random = np.random.default_rng(7)
    unexpected = []
    for at, bit in zip(random.integers(0, len(data), 400), random.integers(0, 8, 400), strict=True):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(bit)
        saved.write_bytes(flipped)
        try:
            loaded = load_scores(saved)
        except ValidationError:
            continue
        except Exception as error:  # noqa: BLE001  every one of them is to be seen
            unexpected.append(f"bit {bit} of byte {at}: {error!r}")
            continue
        if not _same(loaded, _SAVED):
            unexpected.append(f"bit {bit} of byte {at}: other scores")
    assert unexpected == []


def test_every_array_is_checked_to_its_end(tmp_path: Path) -> None:
    # Headers that say there is less than is stored: a reader that stops there never comes to the
    # checksum, and takes a damaged file for a whole one.
    path, buffer = tmp_path / "x.npz", io.BytesIO()
    files = tuple(f"{number:064x}" for number in range(3000))
    save_scores(path, SavedScores("m", ("a", "b", "c"), files, np.ones((3000, 3), np.float32)))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    data = buffer.getvalue()
    assert data.count(b"'shape': (3000") == 2
    path.write_bytes(data.replace(b"'shape': (3000", b"'shape': (1000"))
    with pytest.raises(ValidationError):
        load_scores(path)
