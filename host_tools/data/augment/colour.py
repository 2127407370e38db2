"""What changes colours and leaves every pixel where it is."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from host_tools.recipe import AugmentationRecipe

_LEVELS = np.arange(256, dtype=np.float32)


def recolour(
    pixels: NDArray[np.uint8], how: AugmentationRecipe, random: np.random.Generator
) -> None:
    """Multiplies pictures in place by one drawn gain, and their channels by one more each.

    Both are one table of 256 entries per channel, so a picture is read and written once.
    """
    count, channels = len(pixels), pixels.shape[3]
    # One table serves all channels where they are multiplied alike.
    gains = np.ones((count, channels if how.channel_multiply else 1))
    for reach, probability, columns in (
        (how.brightness, how.brightness_probability, 1),
        (how.channel_multiply, how.channel_multiply_probability, gains.shape[1]),
    ):
        values = random.uniform(1 - reach, 1 + reach, (count, columns))
        gains *= np.where(random.random((count, 1)) < probability, values, 1.0)
    tables = np.clip(np.rint(_LEVELS[:, None] * gains[:, None, :]), 0, 255).astype(np.uint8)
    for picture, table in zip(pixels, tables, strict=True):
        cv2.LUT(picture, table[None], dst=picture)


def shuffle_channels(
    pixels: NDArray[np.uint8], probability: float, random: np.random.Generator
) -> None:
    """Exchanges, in place, the channels of some pictures for another order."""
    channels = pixels.shape[3]
    chosen = np.flatnonzero(random.random(len(pixels)) < probability)
    for i in chosen:
        order = random.permutation(channels)
        pairs = [int(n) for pair in zip(order, range(channels), strict=True) for n in pair]
        cv2.mixChannels([pixels[i].copy()], [pixels[i]], pairs)
