"""The flatbuffer and the zip behind it: stripped, cut, edited, and hostile files."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk.artifact.container import Container, read_container
from edge_sdk.errors import ArtifactNotFoundError, CorruptArtifactError, UnsupportedArtifactError
from edge_sdk.machine import load

_COMPRESSIONS = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
}
# Python unpacks these whole, whatever they become, and TFLite's tools write none of them.
_UNBOUNDED = {"bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}


@pytest.fixture
def golden(int8_artifact: Path) -> Container:
    return read_container(int8_artifact)


def _model(golden: Container) -> bytes:
    return golden.data[: golden.model_bytes]


def _zip(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_an_artifact_of_ours_is_taken_apart(golden: Container, int8_artifact: Path) -> None:
    assert golden.data == int8_artifact.read_bytes()
    assert golden.model_bytes == 87_824
    assert list(golden.files) == ["labels.txt", "edgecls.json"]
    assert golden.files["labels.txt"] == b"".join(b"%d\n" % digit for digit in range(10))
    assert golden.manifest is not None
    assert golden.manifest.model_bytes == golden.model_bytes
    assert golden.metadata is not None


@pytest.mark.parametrize("method", _COMPRESSIONS.values(), ids=_COMPRESSIONS)
def test_a_stored_or_deflated_zip_will_do(method: int, golden: Container, tmp_path: Path) -> None:
    data = _model(golden) + _zip(golden.files, method)
    container = read_container(_write(tmp_path / "x.tflite", data))
    assert container.files == golden.files
    assert container.model_bytes == golden.model_bytes


@pytest.mark.parametrize("method", _COMPRESSIONS.values(), ids=_COMPRESSIONS)
def test_a_damaged_byte_in_an_appended_file_is_refused(
    method: int, golden: Container, tmp_path: Path
) -> None:
    archive = _zip(golden.files, method)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        info = opened.getinfo("edgecls.json")
    begin = info.header_offset + 30 + len(info.filename)
    for offset in range(0, info.compress_size, max(1, info.compress_size // 60)):
        damaged = bytearray(archive)
        damaged[begin + offset] ^= 0x55
        path = _write(tmp_path / "x.tflite", _model(golden) + damaged)
        with pytest.raises(CorruptArtifactError, match=r"x\.tflite"):
            read_container(path)


def test_a_model_without_anything_behind_it_has_no_files(public_data: Path) -> None:
    container = read_container(public_data / "models" / "mlperf_tiny_resnet8_int8.tflite")
    assert container.files == {}
    assert container.model_bytes == len(container.data)
    assert container.metadata is None
    assert container.manifest is None


def test_a_stripped_zip_is_named(golden: Container, tmp_path: Path) -> None:
    path = _write(tmp_path / "stripped.tflite", _model(golden))
    with pytest.raises(
        CorruptArtifactError, match=r"stripped.*edgecls\.json, labels\.txt should be in it"
    ):
        read_container(path)


@pytest.mark.parametrize("missing", ["labels.txt", "edgecls.json"])
def test_a_file_missing_from_the_zip_is_named(
    missing: str, golden: Container, tmp_path: Path
) -> None:
    files = {name: content for name, content in golden.files.items() if name != missing}
    path = _write(tmp_path / "x.tflite", _model(golden) + _zip(files))
    with pytest.raises(CorruptArtifactError, match=rf"{missing} should be in it and is missing"):
        read_container(path)


def test_edited_labels_are_refused(golden: Container, tmp_path: Path) -> None:
    files = {**golden.files, "labels.txt": golden.files["labels.txt"].replace(b"7", b"1")}
    path = _write(tmp_path / "x.tflite", _model(golden) + _zip(files))
    with pytest.raises(CorruptArtifactError, match=r"labels\.txt does not match the manifest"):
        read_container(path)


def test_another_model_under_the_same_manifest_is_refused(
    golden: Container, float16_artifact: Path, tmp_path: Path
) -> None:
    path = _write(tmp_path / "x.tflite", _model(read_container(float16_artifact)))
    path.write_bytes(path.read_bytes() + _zip(golden.files))
    with pytest.raises(CorruptArtifactError, match="the model does not match the manifest"):
        read_container(path)


def test_a_newer_manifest_is_refused_by_name(golden: Container, tmp_path: Path) -> None:
    manifest = {**json.loads(golden.files["edgecls.json"]), "schema": 2}
    files = {**golden.files, "edgecls.json": json.dumps(manifest).encode()}
    path = _write(tmp_path / "x.tflite", _model(golden) + _zip(files))
    with pytest.raises(UnsupportedArtifactError, match=r"x\.tflite: its manifest has schema 2"):
        read_container(path)


def test_files_that_nobody_names_are_kept(golden: Container, tmp_path: Path) -> None:
    files = {**golden.files, "readme.md": b"hello", "folder/": b""}
    container = read_container(_write(tmp_path / "x.tflite", _model(golden) + _zip(files)))
    assert container.files["readme.md"] == b"hello"


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"bomb": bytes(129 << 20)}, id="one large file"),
        pytest.param({f"bomb {i}": bytes(33 << 20) for i in range(4)}, id="many files"),
    ],
)
def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    files: dict[str, bytes], golden: Container, tmp_path: Path
) -> None:
    archive = _zip({**golden.files, **files}, zipfile.ZIP_DEFLATED)
    path = _write(tmp_path / "x.tflite", _model(golden) + archive)
    with pytest.raises(CorruptArtifactError, match="too large to be labels"):
        read_container(path)


@pytest.mark.parametrize("method", _UNBOUNDED.values(), ids=_UNBOUNDED)
def test_a_zip_that_can_only_be_unpacked_whole_is_refused(
    method: int, golden: Container, tmp_path: Path
) -> None:
    data = _model(golden) + _zip({**golden.files, "x": bytes(1000)}, method)
    with pytest.raises(CorruptArtifactError, match="expected stored or deflated"):
        read_container(_write(tmp_path / "x.tflite", data))


def test_no_more_is_unpacked_than_an_entry_claims(golden: Container, tmp_path: Path) -> None:
    archive = bytearray(_zip({**golden.files, "bomb": bytes(100 << 20)}, zipfile.ZIP_DEFLATED))
    entry = archive.rindex(b"bomb") - 46
    struct.pack_into("<I", archive, entry + 24, 1000)
    path = _write(tmp_path / "x.tflite", _model(golden) + archive)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptArtifactError):
            read_container(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_thousands_of_appended_files_are_refused(golden: Container, tmp_path: Path) -> None:
    files = {f"{number}": b"" for number in range(1001)}
    path = _write(tmp_path / "x.tflite", _model(golden) + _zip({**golden.files, **files}))
    with pytest.raises(CorruptArtifactError, match="more than 1000 appended files"):
        read_container(path)


@pytest.mark.parametrize("make", [os.mkfifo, None], ids=["pipe", "device"])
def test_what_is_no_regular_file_is_refused_without_waiting(
    make: Callable[[Path], None] | None, tmp_path: Path
) -> None:
    path = Path("/dev/zero")
    if make is not None:
        path = tmp_path / "model.tflite"
        make(path)
    with pytest.raises(ArtifactNotFoundError, match=r"is a (pipe|device), expected a file"):
        read_container(path)


def test_a_sparse_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(UnsupportedArtifactError, match="no model file has more than"):
        read_container(path)


def test_a_file_that_memory_cannot_hold_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.tflite"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    monkeypatch.setattr(load, "usable_memory_bytes", lambda _: 399 << 20)
    with pytest.raises(UnsupportedArtifactError, match="needs about 419 MB of memory"):
        read_container(path)
    monkeypatch.setattr(load, "usable_memory_bytes", lambda _: 401 << 20)
    with pytest.raises(CorruptArtifactError, match="TFL3"):
        read_container(path)


def test_both_digests_are_those_of_the_bytes(golden: Container) -> None:
    assert golden.sha256 == hashlib.sha256(golden.data).hexdigest()
    assert golden.manifest is not None
    assert golden.manifest.model_sha256 == hashlib.sha256(_model(golden)).hexdigest()


def test_a_zip_bomb_that_lies_about_its_size_is_refused(golden: Container, tmp_path: Path) -> None:
    archive = bytearray(_zip({**golden.files, "bomb": bytes(129 << 20)}, zipfile.ZIP_DEFLATED))
    # The size within the central directory is the one that readers go by.
    entry = archive.rindex(b"bomb") - 46
    assert archive[entry : entry + 4] == b"PK\1\2"
    struct.pack_into("<I", archive, entry + 24, 1000)
    path = _write(tmp_path / "x.tflite", _model(golden) + archive)
    with pytest.raises(CorruptArtifactError, match="appended files are damaged"):
        read_container(path)


def _patched_entry(offset: int, value: bytes) -> Callable[[bytearray], None]:
    """Writes into the central directory's entry of the first file."""

    def patch(archive: bytearray) -> None:
        entry = archive.index(b"PK\1\2")
        archive[entry + offset : entry + offset + len(value)] = value

    return patch


def _zip64_offset(archive: bytearray) -> None:
    """Moves the first file to an offset that no reader can seek to."""
    entry, end = archive.index(b"PK\1\2"), archive.index(b"PK\5\6")
    extra = struct.pack("<HHQ", 1, 8, 2**63)
    struct.pack_into("<H", archive, entry + 30, len(extra))
    struct.pack_into("<I", archive, entry + 42, 0xFFFFFFFF)
    size, _ = struct.unpack_from("<II", archive, end + 12)
    struct.pack_into("<I", archive, end + 12, size + len(extra))
    name = entry + 46 + len("labels.txt")
    archive[name:name] = extra


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(_patched_entry(8, b"\x01"), id="encrypted"),
        pytest.param(_patched_entry(8, b"\x20"), id="patched data"),
        pytest.param(_patched_entry(6, b"\xff"), id="a newer zip"),
        pytest.param(_patched_entry(10, b"\x08"), id="stored, called deflated"),
        pytest.param(_patched_entry(10, b"\x0c"), id="stored, called bzip2"),
        pytest.param(_patched_entry(10, b"\x0e"), id="stored, called lzma"),
        pytest.param(_patched_entry(10, b"\x63"), id="an unknown compression"),
        pytest.param(_patched_entry(16, b"\0\0\0\0"), id="another checksum"),
        pytest.param(_patched_entry(24, b"\x01\0\0\0"), id="size too small"),
        pytest.param(_patched_entry(28, b"\xff\xff"), id="a name without end"),
        pytest.param(_patched_entry(30, b"\xff\xff"), id="an extra field without end"),
        pytest.param(_patched_entry(42, b"\xff\xff\xff\x7f"), id="far away"),
        pytest.param(_zip64_offset, id="farther than a file can be"),
        pytest.param(_patched_entry(46, b"\xff" * 10), id="a name that is no text"),
    ],
)
def test_a_hostile_zip_is_refused(
    patch: Callable[[bytearray], None], golden: Container, tmp_path: Path
) -> None:
    archive = bytearray(_zip(golden.files))
    patch(archive)
    path = _write(tmp_path / "x.tflite", _model(golden) + archive)
    with pytest.raises(CorruptArtifactError, match=r"x\.tflite"):
        read_container(path)


def test_a_hostile_zip_hides_no_manifest_behind_another(golden: Container, tmp_path: Path) -> None:
    # Two files of one name: whichever is taken, it is checked against the model.
    forged = json.loads(golden.files["edgecls.json"])
    forged["hashes"]["model_sha256"] = "0" * 64
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in golden.files.items():
            archive.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("edgecls.json", json.dumps(forged))
    path = _write(tmp_path / "x.tflite", _model(golden) + buffer.getvalue())
    with pytest.raises(CorruptArtifactError):
        read_container(path)


@pytest.mark.parametrize("kept", [1, 10, 21])
def test_a_zip_that_lost_its_last_bytes_is_no_stripped_one(
    kept: int, golden: Container, tmp_path: Path
) -> None:
    data = golden.data[: len(golden.data) - 22 + kept]
    with pytest.raises(CorruptArtifactError):
        read_container(_write(tmp_path / "x.tflite", data))


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match=r"no\.tflite: there is no such model file"):
        read_container(tmp_path / "no.tflite")


def test_a_folder_is_no_model_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match="cannot be read"):
        read_container(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"TFL3", id="the mark alone"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(100), id="a picture"),
        pytest.param(_zip({"labels.txt": b"a\nb\n"}), id="a zip alone"),
        pytest.param(zlib.compress(bytes(1000)), id="compressed"),
    ],
)
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifactError, match=r"x\.tflite: not a TensorFlow Lite model"):
        read_container(_write(tmp_path / "x.tflite", content))
