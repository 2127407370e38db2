"""What changes colours and leaves every pixel where it is."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from host_tools.recipe import AugmentationRecipe

_LEVELS = np.arange(256, dtype=np.float32)


def recolour(
    pixels: NDArray[np.uint8], how: AugmentationRecipe, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Multiplies pictures by one drawn gain, and their channels by one more each.

    Both are one table of 256 entries per channel, so a picture is read and written once.
    """
    count, channels = len(pixels), pixels.shape[3]
    gains = np.ones((count, channels))
    for reach, probability, columns in (
        (how.brightness, how.brightness_probability, 1),
        (how.channel_multiply, how.channel_multiply_probability, channels),
    ):
        values = random.uniform(1 - reach, 1 + reach, (count, columns))
        gains *= np.where(random.random((count, 1)) < probability, values, 1.0)
    tables = np.clip(np.rint(_LEVELS[:, None] * gains[:, None, :]), 0, 255).astype(np.uint8)
    return look_up(pixels, tables)


def look_up(pixels: NDArray[np.uint8], tables: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each picture ``(N, H, W, C)`` through its own ``(N, 256, C)`` table."""
    out = np.empty_like(pixels)
    for picture, table, target in zip(pixels, tables, out, strict=True):
        cv2.LUT(picture, table[None], dst=target)
    return out


def shuffle_channels(
    pixels: NDArray[np.uint8], probability: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Exchanges the channels of some pictures for another order."""
    channels = pixels.shape[3]
    chosen = np.flatnonzero(random.random(len(pixels)) < probability)
    out = pixels.copy()
    for i in chosen:
        order = random.permutation(channels)
        pairs = [int(n) for pair in zip(order, range(channels), strict=True) for n in pair]
        cv2.mixChannels([pixels[i]], [out[i]], pairs)
    return out
