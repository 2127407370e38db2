"""The representative dataset: which training pictures set the ranges of an integer model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConversionError
from host_tools.data.load import Subset


def calibration_pixels(training: Subset, count: int, seed: int) -> NDArray[np.uint8]:
    """Pictures drawn evenly from the classes of the training split, and a black and a white one.

    The last two pin the input's range to 0..255 exactly: calibrated on pictures alone it ends at
    their brightest pixel, and brighter ones saturate in silence.

    Args:
        training: the training split; never the pictures that accuracy is measured on.
        count: how many pictures, at most.
        seed: of the draw.

    Returns:
        ``(N, H, W, C)`` uint8.

    Raises:
        ConversionError: the training split is empty.
    """
    if not len(training):
        raise ConversionError("no training pictures to calibrate with; int8 needs some")
    random = np.random.default_rng(seed)
    queues = [
        random.permutation(np.flatnonzero(training.labels == label)).tolist()
        for label in np.unique(training.labels)
    ]
    chosen: list[int] = []
    while len(chosen) < count and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    pixels = training.pixels(np.array(chosen[:count]))
    black, white = np.zeros_like(pixels[:1]), np.full_like(pixels[:1], 255)
    return np.concatenate([pixels, black, white])
