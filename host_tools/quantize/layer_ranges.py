"""Ranges of a Keras network's activations over calibration pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.progress import progress
from host_tools.quantize.activations import Observed, RangeMethod

_KEPT_VALUES = 200_000
_BATCH = 8


def layer_ranges(
    watched: Any, pixels: NDArray[np.uint8], method: RangeMethod
) -> NDArray[np.float32]:
    """``(T, 2)``: lowest and highest value to represent of each tensor, as of ``Observed.range``.

    Args:
        watched: a ``keras.Model`` from pixels 0..255 to a list of T tensors.
        pixels: ``(N, H, W, C)`` uint8, the last two black and white: they count for the extremes,
            not for the rest.
        method: how a range follows from what is seen.
    """
    random = np.random.default_rng(0)
    tensors, pictures = len(watched.outputs), len(pixels) - 2
    kept = max(16, _KEPT_VALUES // max(pictures, 1))
    lows = np.zeros((tensors, len(pixels)), np.float32)
    highs = np.zeros_like(lows)
    drawn: list[list[NDArray[np.float32]]] = [[np.zeros(0, np.float32)] for _ in range(tensors)]
    starts = range(0, len(pixels), _BATCH)
    for start in progress(starts, "measuring ranges", len(starts)):
        batch = pixels[start : start + _BATCH].astype(np.float32)
        values = watched.predict_on_batch(batch)
        for place, value in enumerate(values if tensors > 1 else [values]):
            for number, flat in enumerate(value.reshape(len(value), -1), start):
                lows[place, number], highs[place, number] = flat.min(), flat.max()
                if number < pictures:
                    chosen = random.integers(0, len(flat), min(kept, len(flat)))
                    drawn[place].append(flat[chosen])
    nothing = np.zeros(0, np.float32)
    seen = [
        Observed(low, high, nothing, nothing.astype(np.float64), np.concatenate(some))
        for low, high, some in zip(lows, highs, drawn, strict=True)
    ]
    return np.array([one.range(method) for one in seen], np.float32)
