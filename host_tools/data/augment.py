"""Augmentation of whole batches: one numpy expression per change, no loop over pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from host_tools.recipe import AugmentationRecipe


def augment(
    pixels: NDArray[np.uint8], how: AugmentationRecipe, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Changes a batch as the recipe says.

    Args:
        pixels: ``(N, H, W, C)`` uint8; left as they are.
        how: which changes, how strong.
        random: where chance comes from; the same state gives the same result.

    Returns:
        ``(N, H, W, C)`` uint8.
    """
    count = len(pixels)
    if how.horizontal_flip:
        mirrored = random.random(count) < how.horizontal_flip
        pixels = np.where(mirrored[:, None, None, None], pixels[:, :, ::-1], pixels)
    if how.shift:
        pixels = _shift(pixels, how.shift, random)
    if how.brightness:
        gain = random.uniform(1 - how.brightness, 1 + how.brightness, (count, 1, 1, 1))
        pixels = np.clip(pixels * gain.astype(np.float32), 0, 255).astype(np.uint8)
    return pixels


def _shift(
    pixels: NDArray[np.uint8], share: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    count, height, width, _ = pixels.shape
    reach_y, reach_x = max(1, round(height * share)), max(1, round(width * share))
    padded = np.pad(pixels, ((0, 0), (reach_y, reach_y), (reach_x, reach_x), (0, 0)), "reflect")
    top = random.integers(0, 2 * reach_y + 1, count)
    left = random.integers(0, 2 * reach_x + 1, count)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    shifted = windows[np.arange(count), top, left]  # (N, C, H, W)
    return np.ascontiguousarray(shifted.transpose(0, 2, 3, 1))
