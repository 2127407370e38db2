"""Writing ``.tflite`` files: the flatbuffer through LiteRT's own schema, and TFLite Metadata.

``edge_sdk/artifact/tflite.py`` reads it.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np

from edge_sdk.artifact.manifest import LABELS_FILE, MANIFEST_FILE

_IDENTIFIER = b"TFL3"
# schema.fbs: buffers are 16-byte aligned so that kernels can load weights in place.
_ALIGNMENT = 16
_METADATA_NAME = b"TFLITE_METADATA"


def unpack_model(flatbuffer: bytes) -> Any:
    """The model as a ``ModelT`` object tree, weights kept behind the flatbuffer taken into it."""
    model = schema().ModelT.InitFromPackedBuf(flatbuffer, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:  # schema.fbs: 0 and 1 mean that there is nothing outside
            outside = flatbuffer[buffer.offset : buffer.offset + buffer.size]
            buffer.data = np.frombuffer(outside, np.uint8)
            buffer.offset = buffer.size = 0
    return model


def pack_model(model: Any) -> bytes:
    """The flatbuffer of a ``ModelT``, weights aligned as TensorFlow writes them."""
    for buffer in model.buffers:
        buffer.__class__ = _aligned_buffer()
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def with_metadata(flatbuffer: bytes, description: str, metadata: bytes) -> bytes:
    """A flatbuffer with another description and other TFLite Metadata; the rest stays.

    Args:
        flatbuffer: of a model; files appended to it are dropped.
        description: of the model, for people.
        metadata: a TFLite Metadata flatbuffer.
    """
    module = schema()
    model = unpack_model(flatbuffer)
    model.description = description.encode()
    entry = module.MetadataT()
    entry.name = _METADATA_NAME
    entry.buffer = len(model.buffers)
    buffer = module.BufferT()
    buffer.data = np.frombuffer(metadata, np.uint8)
    model.buffers.append(buffer)
    kept = [m for m in model.metadata or [] if m.name != _METADATA_NAME]
    model.metadata = [*kept, entry]
    return pack_model(model)


def schema() -> Any:
    """LiteRT's generated schema module, loaded when first needed: it is large."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def _aligned_buffer() -> type:
    module = schema()

    class AlignedBuffer(module.BufferT):  # type: ignore[misc, name-defined]  # generated code
        def Pack(self, builder: Any) -> int:  # noqa: N802  the generated name
            data = None
            if self.data is not None and len(self.data):
                content = bytes(np.asarray(self.data, np.uint8))
                builder.StartVector(1, len(content), _ALIGNMENT)
                builder.head -= len(content)
                builder.Bytes[builder.head : builder.head + len(content)] = content
                data = builder.EndVector()
            module.BufferStart(builder)
            if data is not None:
                module.BufferAddData(builder, data)
            packed: int = module.BufferEnd(builder)
            return packed

    return AlignedBuffer


_METADATA_IDENTIFIER = b"M001"
_MIN_PARSER_VERSION = "1.0.0"


def tflite_metadata(name: str, text_: str, channels: int) -> bytes:
    """The TFLite Metadata of an artifact of ours; field numbers are ``metadata_schema.fbs``'s.

    Args:
        name, text_: of the model, for people.
        channels: of its input: 1 gray, 3 RGB; raw pixels, so mean 0 and standard deviation 1.

    Returns:
        A flatbuffer that names ``labels.txt`` as the labels of the output and ``edgecls.json`` as a
        file of the model.
    """
    builder = flatbuffers.Builder(1024)
    text, table, vector = builder.CreateString, _table, _vector

    labels_file = table(builder, {0: text(LABELS_FILE), 1: text("One label per line.")}, {2: 2})
    manifest_file = table(builder, {0: text(MANIFEST_FILE), 1: text("How edgecls runs the model.")})
    gray = channels == 1
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
            0: text(name),
            1: text(text_),
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
