"""Splits and checks a model file: the model, and the files attached to it.

In a ``.tflite`` these are a zip after the flatbuffer, in an ``.onnx`` metadata entries at its end.

The file is read once; those bytes are hashed and later loaded, so it cannot change between check and
use, and truncation of a mapped file cannot kill the process.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_sdk.artifact.manifest import LABELS_FILE, MANIFEST_FILE, Manifest, parse_manifest
from edge_sdk.artifact.onnx import DIGEST_FILE, PRODUCER, is_onnx, read_onnx
from edge_sdk.artifact.tflite import Metadata, ModelSummary, read_metadata, summarize
from edge_sdk.errors import (
    ArtifactNotFoundError,
    CorruptArtifactError,
    UnsupportedArtifactError,
)
from edge_sdk.files import read_file
from edge_sdk.vision.tensors import RAW

Kind = Literal["tflite", "onnx"]

# Found in TFLite Metadata in a .tflite artifact. An .onnx has no such field and needs none: every .onnx
# artifact has the layout in docs/artifact.md.
_OURS = Metadata("", "", RAW, (LABELS_FILE, DIGEST_FILE, MANIFEST_FILE), LABELS_FILE)
# Labels and manifests are small and few; a hostile zip may declare otherwise.
_FILES_LIMIT_BYTES = 32 << 20
_MAX_FILES = 1_000
_ZIP_ENTRY, _ZIP_END, _ZIP_END_BYTES = b"PK\1\2", b"PK\5\6", 22 + (1 << 16)
# TFLite's tools write "stored". Python unpacks bzip2 and LZMA only as a whole, without a limit: 160 kB
# may become gigabytes.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Errors of Python's zipfile on a damaged zip, besides its own BadZipFile.
_ZIP_DAMAGE = (
    *(ValueError, OSError, EOFError, NotImplementedError, RuntimeError, OverflowError),
    *(MemoryError, zlib.error),
)
# The range of a flatbuffer's offsets.
_MODEL_LIMIT_BYTES = 2 << 30
# Up to this size a model is read without a check of free memory. A larger one may take four times its
# size: the file, the interpreter's copy, its tensors, and a reserve.
_SMALL_BYTES, _COPIES = 64 << 20, 4


@dataclass(frozen=True, slots=True, eq=False)
class Container:
    """The parts of a model file.

    Attributes:
        kind: of the file, by its content.
        data: the whole file.
        sha256: of ``data``, in hexadecimal.
        model_bytes: size of the model; the rest of ``data`` holds the appended files.
        files: the appended files by name.
        summary, metadata, manifest: the parsed parts; the latter two None if missing.
    """

    kind: Kind
    data: bytes
    sha256: str
    model_bytes: int
    files: dict[str, bytes]
    summary: ModelSummary
    metadata: Metadata | None
    manifest: Manifest | None


def read_container(path: Path) -> Container:
    """Reads a model file.

    Time and memory are bounded by the size of the file: parts, appended files and their contents are
    counted and limited before they are unpacked.

    Raises:
        ArtifactNotFoundError: there is no such file, or it cannot be read.
        CorruptArtifactError: damaged, stripped of files it names, or not matching its manifest.
        UnsupportedArtifactError: a manifest of a newer schema; a file too large for this machine.
    """
    return parse_container(read_bytes(path), path)


def parse_container(data: bytes, path: Path) -> Container:
    """As ``read_container``, for the bytes of a file.

    Args:
        data: the whole file.
        path: where it was read from, for errors and for its ending.

    Raises:
        CorruptArtifactError, UnsupportedArtifactError: see ``read_container``.
    """
    name = str(path)
    kind: Kind = "onnx" if is_onnx(data, name) else "tflite"
    if kind == "onnx":
        parts = read_onnx(data, name, _OURS.files)
        summary, files, model_bytes = parts.summary, parts.files, parts.model_bytes
        metadata = _OURS if parts.producer == PRODUCER else None
        if sum(map(len, files.values())) > _FILES_LIMIT_BYTES:
            raise CorruptArtifactError(f"{name}: its metadata entries are too large to be labels")
    else:
        summary = summarize(data, name)
        metadata = read_metadata(summary.metadata, name) if summary.metadata else None
        files, model_bytes = _appended_files(data, name)
    _check_complete(path, metadata, files)
    # One pass for both digests: the file begins with the model.
    digest = hashlib.sha256(memoryview(data)[:model_bytes])
    model_sha256 = digest.hexdigest()
    digest.update(memoryview(data)[model_bytes:])
    manifest = None
    if MANIFEST_FILE in files:
        if kind == "onnx":
            _check_digest(path, files)
        manifest = parse_manifest(files[MANIFEST_FILE], name)
        _check_hashes(path, manifest, model_sha256, files)
        if manifest.model_bytes != model_bytes:
            raise CorruptArtifactError(
                f"{path}: its manifest was written for a model of {manifest.model_bytes} bytes, this "
                f"one has {model_bytes}; copy or convert it again"
            )
    return Container(
        kind, data, digest.hexdigest(), model_bytes, files, summary, metadata, manifest
    )


def summarize_model(model: bytes, name: str) -> ModelSummary:
    """The inputs, outputs and operators of a model of either kind.

    Raises:
        CorruptArtifactError: neither, or a damaged one.
        UnsupportedArtifactError: a model without a graph, or with its weights in other files.
    """
    return read_onnx(model, name).summary if is_onnx(model, name) else summarize(model, name)


def read_bytes(path: Path) -> bytes:
    """The bytes of a model file, unchecked.

    Raises:
        ArtifactNotFoundError: there is no such file, it cannot be read, or it is no regular file.
        UnsupportedArtifactError: it is too large for this machine.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise ArtifactNotFoundError(f"{path}: there is no such model file") from error
    except (OSError, ValueError) as error:  # ValueError: a null in the path
        raise ArtifactNotFoundError(f"{path}: cannot be read ({error})") from error
    _check_size(path, size)
    try:
        return read_file(path, max(size, _SMALL_BYTES))  # the file may be growing
    except OSError as error:
        raise ArtifactNotFoundError(
            f"{path}: cannot be read ({error.strerror or error})"
        ) from error


def _check_size(path: Path, size: int) -> None:
    if size <= _SMALL_BYTES:
        return
    if size > _MODEL_LIMIT_BYTES:
        raise UnsupportedArtifactError(
            f"{path}: {size / 1e9:.1f} GB, no model file has more than "
            f"{_MODEL_LIMIT_BYTES / 1e9:.1f} GB; name a .tflite or .onnx file"
        )
    from edge_sdk.machine.board import System
    from edge_sdk.machine.load import usable_memory_bytes

    room = usable_memory_bytes(System())
    if room is not None and size * _COPIES > room:
        raise UnsupportedArtifactError(
            f"{path}: a model of {size / 1e6:.0f} MB needs about {size * _COPIES / 1e6:.0f} MB of "
            f"memory, this process may take {room / 1e6:.0f} MB; choose a smaller model, or int8"
        )


def _appended_files(data: bytes, name: str) -> tuple[dict[str, bytes], int]:
    """The files in the zip after the flatbuffer, and the offset of that zip."""
    # is_zipfile() checks the last bytes only; a truncated file must not pass for a stripped one.
    ends = data.rfind(_ZIP_END, max(0, len(data) - _ZIP_END_BYTES)) >= 0
    # Python reads all entries at once; each of them begins with this mark.
    if ends and data.count(_ZIP_ENTRY) > _MAX_FILES:
        raise CorruptArtifactError(
            f"{name}: more than {_MAX_FILES} appended files, expected labels and a manifest; "
            "convert it again"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > _FILES_LIMIT_BYTES:
                raise CorruptArtifactError(
                    f"{name}: its appended files are too large to be labels, expected "
                    f"{_FILES_LIMIT_BYTES >> 20} MB at most; convert it again"
                )
            for info in infos:
                if info.compress_type not in _METHODS:
                    raise CorruptArtifactError(
                        f"{name}: its appended file {info.filename!r} is compressed with method "
                        f"{info.compress_type}, expected stored or deflated; convert it again"
                    )
            files = {info.filename: _unpacked(archive, info) for info in infos}
            return files, min((info.header_offset for info in infos), default=len(data))
    except zipfile.BadZipFile as error:
        if ends or str(error) != "File is not a zip file":
            raise CorruptArtifactError(
                f"{name}: its appended files are damaged ({error})"
            ) from error
        return {}, len(data)
    except CorruptArtifactError:
        raise
    except _ZIP_DAMAGE as error:
        raise CorruptArtifactError(f"{name}: its appended files are damaged ({error})") from error


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpacks no more than the declared size; read() without a size would unpack everything."""
    with archive.open(info) as file:
        content = file.read(info.file_size)
    if len(content) != info.file_size:
        raise zipfile.BadZipFile(f"{info.filename!r} is truncated")
    return content


def _check_complete(path: Path, metadata: Metadata | None, files: dict[str, bytes]) -> None:
    missing = sorted(set(metadata.files if metadata else ()) - set(files))
    if missing:
        raise CorruptArtifactError(
            f"{path}: stripped or truncated: {', '.join(missing)} should be in it and is missing; "
            "copy the whole file again"
        )


def _check_digest(path: Path, files: dict[str, bytes]) -> None:
    digest = hashlib.sha256(files[MANIFEST_FILE]).hexdigest()
    if files.get(DIGEST_FILE) != digest.encode():
        raise CorruptArtifactError(
            f"{path}: {MANIFEST_FILE} is damaged or edited; copy or convert it again"
        )


def _check_hashes(
    path: Path, manifest: Manifest, model_sha256: str, files: dict[str, bytes]
) -> None:
    labels_sha256 = hashlib.sha256(files.get(LABELS_FILE, b"")).hexdigest()
    checks = (
        ("the model", manifest.model_sha256, model_sha256),
        (LABELS_FILE, manifest.labels_sha256, labels_sha256),
    )
    for what, expected, found in checks:
        if found != expected:
            raise CorruptArtifactError(
                f"{path}: {what} does not match the manifest (damaged or edited); "
                "copy or convert it again"
            )
