"""Opens and runs a converted model before it is returned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact.container import summarize_model
from edge_sdk.artifact.onnx import is_onnx
from edge_sdk.engines import open_engine
from edge_sdk.errors import ArtifactError, ConversionError, EngineError
from edge_sdk.vision.tensors import RAW, Encoder, decode


def tried(model: bytes, format_: str) -> bytes:
    """The model itself, after one answer to a picture of all brightnesses.

    Args:
        model: a ``.tflite`` flatbuffer or an ONNX model, from pixels 0..255 to probabilities.
        format_: it was converted to, for the message.

    Raises:
        ConversionError: no runtime here opens it, or it gives no probabilities.
    """
    try:
        _, height, width, channels = summarize_model(model, "the converted model").inputs[0].shape
    except (ArtifactError, ValueError, IndexError) as error:
        raise _useless(format_, str(error)) from error
    ramp = np.linspace(0, 255, height * width * channels).reshape(height, width, channels)
    answers_of(model, [ramp.astype(np.uint8)], format_)
    return model


def answers_of(
    model: bytes, pixels: Sequence[NDArray[np.uint8]], format_: str
) -> list[NDArray[np.float32]]:
    """The ``(classes,)`` probabilities of a converted model for each ``(H, W, C)`` uint8 picture.

    Raises:
        ConversionError: as ``tried``.
    """
    try:
        spec = summarize_model(model, "the converted model")
        encode = Encoder(spec.inputs[0], RAW)
        engine = open_engine(model, "onnx" if is_onnx(model) else "cpu")
        try:
            scores = [
                decode(engine.infer(encode(each)), spec.outputs[0].quantization, logits=False)
                for each in pixels
            ]
        finally:
            engine.close()
    except (ArtifactError, EngineError) as error:
        raise _useless(format_, str(error)) from error
    if not all(np.isfinite(row).all() for row in scores):
        raise _useless(format_, "it answers with values that are not finite numbers")
    return scores


def _useless(format_: str, reason: str) -> ConversionError:
    return ConversionError(
        f"the model was converted to {format_}, but the result cannot be run: {reason}; replace the "
        "layer that this names, or choose another --format"
    )
