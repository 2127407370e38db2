"""TFLite Metadata, written: the flatbuffer that tells other tools what a model takes and gives.

``edge_sdk/metadata.py`` reads it.
"""

from __future__ import annotations

from typing import Any

import flatbuffers

from edge_sdk.artifact.manifest import LABELS_FILE, MANIFEST_FILE

_METADATA_IDENTIFIER = b"M001"
_MIN_PARSER_VERSION = "1.0.0"


def tflite_metadata(name: str, text_: str, channels: int) -> bytes:
    """What the metadata of an artifact of ours says; field numbers are ``metadata_schema.fbs``'s.

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
