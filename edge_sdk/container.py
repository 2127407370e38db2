"""A model file taken apart and checked: the model, and the files that travel with it.

In a ``.tflite`` they are a zip behind the flatbuffer, in an ``.onnx`` metadata entries at its end.

The file is read once; those bytes are hashed and later loaded, so that nobody can change it between
the check and the use, and a file truncated while mapped cannot kill the process.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_sdk.errors import ArtifactNotFoundError, CorruptArtifactError
from edge_sdk.manifest import LABELS_FILE, MANIFEST_FILE, Manifest, parse_manifest
from edge_sdk.metadata import Metadata, read_metadata
from edge_sdk.onnxfile import DIGEST_FILE, PRODUCER, is_onnx, read_onnx
from edge_sdk.tensors import RAW
from edge_sdk.tflite import ModelSummary, summarize

Kind = Literal["tflite", "onnx"]

# What TFLite Metadata says in a .tflite of ours; an .onnx has no room for it, and needs none: every
# one of ours is as docs/artifact.md says.
_OURS = Metadata("", "", RAW, (LABELS_FILE, DIGEST_FILE, MANIFEST_FILE), LABELS_FILE)
# Labels and manifests are small; a hostile zip may claim otherwise.
_FILES_LIMIT_BYTES = 128 << 20
# What Python's zipfile lets through when a zip is damaged, beside its own BadZipFile.
_ZIP_DAMAGE = (
    *(ValueError, OSError, EOFError, NotImplementedError, RuntimeError, OverflowError),
    *(MemoryError, zlib.error, lzma.LZMAError),
)


@dataclass(frozen=True, slots=True, eq=False)
class Container:
    """A model file, taken apart.

    Attributes:
        kind: of the file, whatever it is called.
        data: the whole file.
        model_bytes: size of the model; the rest of ``data`` holds the appended files.
        files: the appended files by name.
        summary, metadata, manifest: what the parts say; the latter two None where there are none.
    """

    kind: Kind
    data: bytes
    model_bytes: int
    files: dict[str, bytes]
    summary: ModelSummary
    metadata: Metadata | None
    manifest: Manifest | None


def read_container(path: Path) -> Container:
    """Reads a model file.

    Raises:
        ArtifactNotFoundError: there is no such file, or it cannot be read.
        CorruptArtifactError: damaged, stripped of files it names, or not what its manifest hashed.
        UnsupportedArtifactError: a manifest of a newer schema.
    """
    name = str(path)
    data = _read(path)
    kind: Kind = "onnx" if is_onnx(data, name) else "tflite"
    if kind == "onnx":
        parts = read_onnx(data, name, _OURS.files)
        summary, files, model_bytes = parts.summary, parts.files, parts.model_bytes
        metadata = _OURS if parts.producer == PRODUCER else None
    else:
        summary = summarize(data, name)
        metadata = read_metadata(summary.metadata, name) if summary.metadata else None
        files, model_bytes = _appended_files(data, name)
    _check_complete(path, metadata, files)
    manifest = None
    if MANIFEST_FILE in files:
        if kind == "onnx":
            _check_digest(path, files)
        manifest = parse_manifest(files[MANIFEST_FILE], name)
        _check_hashes(path, manifest, memoryview(data)[:model_bytes], files)
        if manifest.model_bytes != model_bytes:
            raise CorruptArtifactError(
                f"{path}: its manifest was written for a model of {manifest.model_bytes} bytes, this "
                f"one has {model_bytes}; copy or convert it again"
            )
    return Container(kind, data, model_bytes, files, summary, metadata, manifest)


def summarize_model(model: bytes, name: str) -> ModelSummary:
    """The outside of a model of either kind.

    Raises:
        CorruptArtifactError: neither, or a damaged one.
        UnsupportedArtifactError: a model without a graph, or with its weights in other files.
    """
    return read_onnx(model, name).summary if is_onnx(model, name) else summarize(model, name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ArtifactNotFoundError(f"{path}: there is no such model file") from error
    except (OSError, ValueError) as error:  # ValueError: a null in the path
        raise ArtifactNotFoundError(f"{path}: cannot be read ({error})") from error


def _appended_files(data: bytes, name: str) -> tuple[dict[str, bytes], int]:
    """The files in the zip behind the flatbuffer, and where that zip begins."""
    # is_zipfile() would look at the last bytes only; a cut file must not pass for a stripped one.
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > _FILES_LIMIT_BYTES:
                raise CorruptArtifactError(f"{name}: its appended files are too large to be labels")
            files = {info.filename: archive.read(info) for info in infos}
            return files, min((info.header_offset for info in infos), default=len(data))
    except zipfile.BadZipFile as error:
        if b"PK\5\6" in data[-(1 << 16) :] or str(error) != "File is not a zip file":
            raise CorruptArtifactError(
                f"{name}: its appended files are damaged ({error})"
            ) from error
        return {}, len(data)
    except CorruptArtifactError:
        raise
    except _ZIP_DAMAGE as error:
        raise CorruptArtifactError(f"{name}: its appended files are damaged ({error})") from error


def _check_complete(path: Path, metadata: Metadata | None, files: dict[str, bytes]) -> None:
    missing = sorted(set(metadata.files if metadata else ()) - set(files))
    if missing:
        raise CorruptArtifactError(
            f"{path}: stripped or truncated: it should carry {', '.join(missing)} and does not; "
            "copy the whole file again"
        )


def _check_digest(path: Path, files: dict[str, bytes]) -> None:
    digest = hashlib.sha256(files[MANIFEST_FILE]).hexdigest()
    if files.get(DIGEST_FILE) != digest.encode():
        raise CorruptArtifactError(
            f"{path}: {MANIFEST_FILE} is damaged or edited; copy or convert it again"
        )


def _check_hashes(
    path: Path, manifest: Manifest, model: memoryview, files: dict[str, bytes]
) -> None:
    checks: tuple[tuple[str, str, bytes | memoryview], ...] = (
        ("the model", manifest.model_sha256, model),
        (LABELS_FILE, manifest.labels_sha256, files.get(LABELS_FILE, b"")),
    )
    for what, expected, content in checks:
        if hashlib.sha256(content).hexdigest() != expected:
            raise CorruptArtifactError(
                f"{path}: {what} is not what the manifest was written for (damaged or edited); "
                "copy or convert it again"
            )
