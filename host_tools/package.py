"""Makes an artifact: a ``.tflite`` with TFLite Metadata, labels and manifest in a zip behind it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import flatbuffers
import numpy as np
from numpy.typing import NDArray

import edge_sdk
from edge_sdk.container import read_container
from edge_sdk.engines import open_engine
from edge_sdk.errors import ConversionError
from edge_sdk.files import write_atomically
from edge_sdk.manifest import LABELS_FILE, MANIFEST_FILE, Manifest, SelfTest
from edge_sdk.preprocess import Preprocessing
from edge_sdk.tensors import RAW, Encoder, decode
from edge_sdk.tflite import summarize
from host_tools.tflite_writer import pack_model, schema, unpack_model

# Of these many synthetic pictures, the ones with the clearest answers become the self-test.
_CANDIDATES = 24
_SELFTESTS = 2
_METADATA_NAME = b"TFLITE_METADATA"
_METADATA_IDENTIFIER = b"M001"
_MIN_PARSER_VERSION = "1.0.0"


@dataclass(frozen=True, slots=True)
class Description:
    """What an artifact says of its model; see ``docs/artifact.md``."""

    name: str
    text: str
    format: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: dict[str, Any]


def write_artifact(path: Path, flatbuffer: bytes, description: Description) -> None:
    """Writes a converted model as an artifact, whole or not at all.

    Args:
        path: where to.
        flatbuffer: from ``convert``: RGB 0..255 in, probabilities out.
        description: everything else.

    Raises:
        ConversionError: a label that a line cannot hold.
        WriteError: the disk is full; nothing half-written remains.
    """
    for label in description.labels:
        if "\n" in label or "\r" in label or not label:
            raise ConversionError(
                f"the label {label!r} cannot stand on a line of labels.txt; rename it"
            )
    model = _with_metadata(flatbuffer, description)
    labels = ("\n".join(description.labels) + "\n").encode()
    manifest = Manifest(
        name=description.name,
        format=description.format,
        preprocessing=description.preprocessing,
        threshold=0.0,
        model_bytes=len(model),
        model_sha256=hashlib.sha256(model).hexdigest(),
        labels_sha256=hashlib.sha256(labels).hexdigest(),
        selftest=_selftest(model, description.preprocessing),
        provenance=description.provenance,
    )
    write_atomically(path, model + _archive(len(model), labels, manifest))


def add_provenance(path: Path, key: str, value: Any) -> None:
    """Adds to the provenance of an artifact of ours, such as its validation figures.

    Raises:
        ArtifactError: there is no such artifact.
        WriteError: the disk is full; the artifact stays as it was.
    """
    container = read_container(path)
    if container.manifest is None:
        raise ConversionError(f"{path}: not an artifact of edgecls, it has no {MANIFEST_FILE}")
    provenance = {**container.manifest.provenance, key: value}
    manifest = replace(container.manifest, provenance=provenance)
    model = container.data[: container.model_bytes]
    write_atomically(path, model + _archive(len(model), container.files[LABELS_FILE], manifest))


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
    """A buffer that says it begins at ``offset``, as the end of a longer file would."""

    def __init__(self, offset: int) -> None:
        super().__init__()
        self._offset = offset

    def tell(self) -> int:
        return super().tell() + self._offset

    def seek(self, position: int, whence: int = 0) -> int:
        return super().seek(position - (self._offset if whence == 0 else 0), whence) + self._offset


def _selftest(model: bytes, how: Preprocessing) -> SelfTest:
    spec = summarize(model, "the new artifact")
    encode = Encoder(spec.inputs[0], RAW)
    engine = open_engine(model)
    candidates = [_synthetic_picture(seed, how) for seed in range(_CANDIDATES)]
    scores = [
        decode(engine.infer(encode(pixels)), spec.outputs[0].quantization, logits=False)
        for pixels in candidates
    ]
    engine.close()
    # Clear answers: a self-test whose two best labels are close would trip over harmless rounding.
    margins = [float(np.diff(np.sort(row)[-2:])[0]) for row in scores]
    clearest = sorted(range(_CANDIDATES), key=lambda i: -margins[i])
    best = clearest[0]
    others = [i for i in clearest if scores[i].argmax() != scores[best].argmax()] or clearest[1:]
    chosen = [best, *others][:_SELFTESTS]
    return SelfTest(
        np.stack([candidates[i] for i in chosen]), np.stack([scores[i] for i in chosen])
    )


def _synthetic_picture(seed: int, how: Preprocessing) -> NDArray[np.uint8]:
    """Soft coloured shapes: nobody's photograph, small when compressed, and not flat noise."""
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


def _with_metadata(flatbuffer: bytes, description: Description) -> bytes:
    module = schema()
    model = unpack_model(flatbuffer)
    model.description = f"{description.name}, made by edgecls {edge_sdk.__version__}".encode()
    entry = module.MetadataT()
    entry.name = _METADATA_NAME
    entry.buffer = len(model.buffers)
    buffer = module.BufferT()
    buffer.data = np.frombuffer(_metadata(description), np.uint8)
    model.buffers.append(buffer)
    kept = [m for m in model.metadata or [] if m.name != _METADATA_NAME]
    model.metadata = [*kept, entry]
    return pack_model(model)


def _metadata(description: Description) -> bytes:
    """A TFLite Metadata flatbuffer; numbers are the fields of ``metadata_schema.fbs``."""
    builder = flatbuffers.Builder(1024)
    text, table, vector = builder.CreateString, _table, _vector

    labels_file = table(builder, {0: text(LABELS_FILE), 1: text("One label per line.")}, {2: 2})
    manifest_file = table(builder, {0: text(MANIFEST_FILE), 1: text("How edgecls runs the model.")})
    gray = description.preprocessing.channels == 1
    image_properties = table(builder, {}, {0: 2 if gray else 1})
    image = table(builder, {1: image_properties}, {0: 2})
    options = table(builder, {0: _floats(builder, [0.0]), 1: _floats(builder, [1.0])})
    normalization = table(builder, {1: options}, {0: 1})
    stats = table(builder, {0: _floats(builder, [255.0]), 1: _floats(builder, [0.0])})
    picture = table(
        builder,
        {
            0: text("image"),
            1: text(f"A picture, {'gray' if gray else 'RGB'}, 0..255."),
            3: image,
            4: vector(builder, [normalization]),
            5: stats,
        },
    )
    feature = table(builder, {1: table(builder, {})}, {0: 1})
    probability_stats = table(builder, {0: _floats(builder, [1.0]), 1: _floats(builder, [0.0])})
    probability = table(
        builder,
        {
            0: text("probability"),
            1: text("The probability of each label."),
            3: feature,
            5: probability_stats,
            6: vector(builder, [labels_file]),
        },
    )
    graph = table(builder, {2: vector(builder, [picture]), 3: vector(builder, [probability])})
    root = table(
        builder,
        {
            0: text(description.name),
            1: text(description.text),
            2: text("1"),
            3: vector(builder, [graph]),
            6: vector(builder, [manifest_file]),
            7: text(_MIN_PARSER_VERSION),
        },
    )
    builder.Finish(root, _METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: Any, offsets: dict[int, int], enums: dict[int, int] | None = None) -> int:
    builder.StartObject(8)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, value in (enums or {}).items():
        builder.PrependInt8Slot(field, value, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: Any, values: list[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())
