"""Changing ``.tflite`` flatbuffers through LiteRT's own schema bindings."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np

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
