"""What a flatbuffer says about many pictures, without an artifact around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_sdk.artifact.tflite import summarize
from edge_sdk.engines import open_engine
from edge_sdk.vision.tensors import RAW, Encoder
from host_tools.progress import progress

# Keeps the logarithm of a score of zero finite; float32 scores are not known better than this.
_TINY = 1e-7


def answers(flatbuffer: bytes, pixels: NDArray[np.uint8], what: str = "") -> NDArray[np.float32]:
    """``(N, classes)`` probabilities of ``(N, H, W, C)`` uint8 pixels.

    Args:
        flatbuffer: from pixels 0..255 to probabilities.
        pixels: what it is asked about.
        what: to show with the progress; empty: none is shown.

    Raises:
        EngineError: an inference failed.
    """
    engine = open_engine(flatbuffer, threads=2)
    encode = Encoder(summarize(flatbuffer, "the converted model").inputs[0], RAW)
    pictures = progress(pixels, what, len(pixels)) if what else pixels
    scores = np.stack([engine.infer(encode(picture))[0] for picture in pictures])
    engine.close()
    return scores


def divergence(reference: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """Mean Kullback-Leibler divergence from the reference's ``(N, classes)`` answers, in nats."""
    terms = reference * (np.log(reference + _TINY) - np.log(scores + _TINY))
    return float(terms.sum(axis=1).mean())
