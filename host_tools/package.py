"""Makes an artifact: a model with its labels and its manifest in the same file.

A ``.tflite`` has TFLite Metadata and a zip behind it, an ``.onnx`` metadata entries at its end.
"""

from __future__ import annotations

import hashlib
import io
import platform
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import edge_sdk
from edge_sdk.artifact.container import Container, read_container
from edge_sdk.artifact.manifest import LABELS_FILE, MANIFEST_FILE, Manifest, SelfTest
from edge_sdk.artifact.onnx import DIGEST_FILE, is_onnx, metadata_entries
from edge_sdk.errors import ConversionError
from edge_sdk.files import write_atomically
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.data.load import Dataset
from host_tools.extras import require
from host_tools.quantize.trial import answers_of
from host_tools.recipe import Recipe, recipe_to
from host_tools.run_directory import RunDirectory, TrainedModel
from host_tools.tflite import tflite_metadata, with_metadata


def tool_versions() -> dict[str, str]:
    """Versions of what shapes a model."""
    names = ("keras", "numpy", "ai-edge-litert")
    installed = {name: _installed(name) for name in ("litert-quantizer", "tf2onnx", "onnxruntime")}
    return {
        "edgecls": edge_sdk.__version__,
        "python": platform.python_version(),
        "tensorflow": str(require("tensorflow").__version__),
        **{name: version(name) for name in names},
        **{name: number for name, number in installed.items() if number is not None},
    }


def _installed(name: str) -> str | None:
    """The version of an optional package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def travelling_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe without local paths of weights."""
    model = replace(recipe.model, weights=Path(recipe.model.weights).name)
    training = replace(recipe.training, teacher=Path(recipe.training.teacher).name)
    return recipe_to(replace(recipe, model=model, training=training))


def data_provenance(
    trained: TrainedModel, dataset: Dataset | None, note: Callable[[str], None]
) -> dict[str, Any]:
    """The data set the model was trained on, as its run recorded it, else the given one."""
    recorded = RunDirectory(trained.path.parent).read_report() if trained.recipe else {}
    kept = (
        {key: recorded["data"][key] for key in ("fingerprint", "fingerprints", "counts")}
        if recorded
        else {}
    )
    if dataset is None:
        return kept
    if kept and kept["fingerprint"] != dataset.fingerprint:
        note(
            f"{dataset.folder.root}: not the pictures this model was trained on, as its run recorded them"
        )
    return kept or describe_data(dataset)


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Fingerprints and numbers of pictures, of all and of each split."""
    return {
        "fingerprint": dataset.fingerprint,
        "fingerprints": {split: dataset.split_fingerprint(split) for split in dataset.splits},
        "counts": {split: len(subset) for split, subset in dataset.splits.items()},
    }


# Of these many synthetic pictures, the ones with the clearest answers become the self-test.
_CANDIDATES = 24
_SELFTESTS = 2


@dataclass(frozen=True, slots=True)
class Description:
    """The contents of an artifact's manifest; see ``docs/artifact.md``."""

    name: str
    text: str
    format: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: dict[str, Any]


def artifact_name(name: str, format_: str) -> str:
    """The file of a model in a format: ``digits_int8.tflite``, ``digits_onnx_int8.onnx``."""
    kind = "onnx" if format_.startswith("onnx") else "tflite"
    return f"{name}_{format_.replace('-', '_')}.{kind}"


def write_artifact(path: Path, converted: bytes, description: Description) -> None:
    """Writes a converted model as an artifact, whole or not at all.

    Args:
        path: where to.
        converted: from ``convert``: RGB 0..255 in, probabilities out.
        description: everything else.

    Raises:
        ConversionError: a label that a line cannot hold, or the model cannot be run.
        WriteError: the disk is full; nothing half-written remains.
    """
    for label in description.labels:
        if "\n" in label or "\r" in label or not label:
            raise ConversionError(
                f"the label {label!r} cannot be written as a line of labels.txt; rename it"
            )
    title = f"{description.name}, made by edgecls {edge_sdk.__version__}"
    model = converted
    if not is_onnx(converted):
        model = with_metadata(
            converted,
            title,
            tflite_metadata(description.name, description.text, description.preprocessing.channels),
        )
    labels = ("\n".join(description.labels) + "\n").encode()
    manifest = Manifest(
        name=description.name,
        format=description.format,
        preprocessing=description.preprocessing,
        threshold=0.0,
        model_bytes=len(model),
        model_sha256=hashlib.sha256(model).hexdigest(),
        labels_sha256=hashlib.sha256(labels).hexdigest(),
        selftest=_selftest(model, description.preprocessing, description.format),
        provenance=description.provenance,
    )
    write_atomically(path, model + _appended(model, labels, manifest))


def write_variant(
    path: Path, model: bytes, source: Container, selftest: SelfTest, provenance: dict[str, Any]
) -> None:
    """Writes another flatbuffer of an artifact's model with the rest of the artifact.

    Args:
        path: where to.
        model: the flatbuffer, as compiled for an accelerator; its TFLite Metadata is replaced by
            the artifact's.
        source: the artifact.
        selftest: in place of the artifact's own.
        provenance: in place of the artifact's own.

    Raises:
        ConversionError: ``source`` is not an artifact of ours.
        WriteError: the disk is full; nothing half-written remains.
    """
    metadata = source.summary.metadata
    if source.manifest is None or metadata is None:
        raise ConversionError(
            f"{path}: not made from an artifact of edgecls; convert the model first"
        )
    title = f"{source.manifest.name}, made by edgecls {edge_sdk.__version__}"
    variant = with_metadata(model, title, metadata)
    manifest = replace(
        source.manifest,
        model_bytes=len(variant),
        model_sha256=hashlib.sha256(variant).hexdigest(),
        selftest=selftest,
        provenance=provenance,
    )
    write_atomically(path, variant + _appended(variant, source.files[LABELS_FILE], manifest))


def add_provenance(path: Path, key: str, value: Any) -> None:
    """Adds to the provenance of an artifact of ours, such as its validation figures.

    Raises:
        ArtifactError: there is no such artifact.
        WriteError: the disk is full; the artifact stays as it was.
    """
    _rewrite(path, lambda m: replace(m, provenance={**m.provenance, key: value}))


def set_scores(path: Path, temperature: float, threshold: float, record: dict[str, Any]) -> None:
    """Sets the temperature and threshold of an artifact of ours; the model's bytes stay.

    Args:
        path: of the artifact.
        temperature, threshold: see ``Manifest``.
        record: how they were fitted, for ``provenance.scores``.

    Raises:
        ArtifactError: there is no such artifact.
        WriteError: the disk is full; the artifact stays as it was.
    """
    _rewrite(
        path,
        lambda m: replace(
            m,
            temperature=temperature,
            threshold=threshold,
            provenance={**m.provenance, "scores": record},
        ),
    )


def _rewrite(path: Path, change: Callable[[Manifest], Manifest]) -> None:
    container = read_container(path)
    if container.manifest is None:
        raise ConversionError(f"{path}: not an artifact of edgecls, it has no {MANIFEST_FILE}")
    manifest = change(container.manifest)
    model = container.data[: container.model_bytes]
    write_atomically(path, model + _appended(model, container.files[LABELS_FILE], manifest))


def _appended(model: bytes, labels: bytes, manifest: Manifest) -> bytes:
    """The bytes appended to a model in its file."""
    if is_onnx(model):
        text = manifest.to_json().encode()
        digest = hashlib.sha256(text).hexdigest().encode()
        return metadata_entries({LABELS_FILE: labels, DIGEST_FILE: digest, MANIFEST_FILE: text})
    return _archive(len(model), labels, manifest)


def _archive(offset: int, labels: bytes, manifest: Manifest) -> bytes:
    """The zip, its offsets counted from the start of the file as TFLite's own tools write them.

    Stored, not compressed: that is all that MediaPipe reads. No times: the same model gives the
    same bytes.
    """
    buffer = _Shifted(offset)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), labels)
        archive.writestr(zipfile.ZipInfo(MANIFEST_FILE), manifest.to_json())
    return buffer.getvalue()


class _Shifted(io.BytesIO):
    """A buffer whose positions begin at ``offset``, as the end of a longer file."""

    def __init__(self, offset: int) -> None:
        super().__init__()
        self._offset = offset

    def tell(self) -> int:
        return super().tell() + self._offset

    def seek(self, position: int, whence: int = 0) -> int:
        return super().seek(position - (self._offset if whence == 0 else 0), whence) + self._offset


def _selftest(model: bytes, how: Preprocessing, format_: str) -> SelfTest:
    candidates = [_synthetic_picture(seed, how) for seed in range(_CANDIDATES)]
    scores = answers_of(model, candidates, format_)
    # Clear answers: a self-test with two close best labels would fail on harmless rounding.
    margins = [float(np.diff(np.sort(row)[-2:])[0]) for row in scores]
    clearest = sorted(range(_CANDIDATES), key=lambda i: -margins[i])
    best = clearest[0]
    others = [i for i in clearest if scores[i].argmax() != scores[best].argmax()] or clearest[1:]
    chosen = [best, *others][:_SELFTESTS]
    return SelfTest(
        np.stack([candidates[i] for i in chosen]), np.stack([scores[i] for i in chosen])
    )


def _synthetic_picture(seed: int, how: Preprocessing) -> NDArray[np.uint8]:
    """Soft coloured shapes: free of copyright, small when compressed, and not flat noise."""
    random = np.random.default_rng(seed)
    picture = np.full((how.height, how.width, 3), random.integers(0, 256, 3), np.uint8)
    for _ in range(int(random.integers(2, 7))):
        centre = (int(random.integers(0, how.width)), int(random.integers(0, how.height)))
        axes = (
            int(random.integers(1, max(2, how.width // 2))),
            int(random.integers(1, max(2, how.height // 2))),
        )
        colour = tuple(int(c) for c in random.integers(0, 256, 3))
        cv2.ellipse(picture, centre, axes, float(random.integers(0, 180)), 0, 360, colour, -1)
    if how.channels == 1:
        return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[:, :, np.newaxis].astype(np.uint8)
    return picture
