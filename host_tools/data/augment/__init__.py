"""Augmentation of whole batches of uint8 pictures: move, recolour, erase, and mix.

Chance is drawn for the whole batch at once; what moves pixels is one affine transform per picture
in OpenCV, and what changes brightness or channels is one table of 256 entries per channel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from host_tools.data.augment.colour import recolour, shuffle_channels
from host_tools.data.augment.geometry import Pictures, move
from host_tools.data.augment.mix import mix
from host_tools.data.augment.rand_augment import rand_augment
from host_tools.recipe import AugmentationRecipe

__all__ = ["augment", "mix", "moves_pixels"]


def augment(
    pictures: Pictures,
    how: AugmentationRecipe,
    random: np.random.Generator,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Changes a batch as the recipe says, each picture by its own draw.

    Args:
        pictures: N of ``(H, W, C)`` uint8, of the result's size or larger; left as they are.
        how: which changes, how strong, how probable.
        random: where chance comes from; the same state gives the same result.
        size: (width, height) of the result; default: that of ``pictures``.

    Returns:
        ``(N, height, width, C)`` uint8, new.
    """
    height, width, _ = pictures[0].shape
    pixels = move(pictures, how, random, size or (width, height))
    if how.rand_augment:
        rand_augment(pixels, how, random)
    if how.brightness or how.channel_multiply:
        recolour(pixels, how, random)
    if how.channel_shuffle:
        shuffle_channels(pixels, how.channel_shuffle, random)
    if how.coarse_dropout:
        _erase(pixels, how, random)
    return pixels


def moves_pixels(how: AugmentationRecipe) -> bool:
    """Whether pictures are moved in a way that more pixels than the model sees are good for."""
    return bool(how.rotation or how.shift or how.shear or how.zoom or how.scale or how.crop)


def _erase(pixels: NDArray[np.uint8], how: AugmentationRecipe, random: np.random.Generator) -> None:
    """Blacks out rectangles whose centres are anywhere, as Cutout does."""
    count, height, width, _ = pixels.shape
    chosen = np.flatnonzero(random.random(count) < how.coarse_dropout)
    for i in chosen:
        for _ in range(random.integers(1, how.coarse_dropout_holes + 1)):
            half = random.uniform(0, how.coarse_dropout_size / 2, 2)
            y, x = random.random(2)
            top, bottom = (round(max(0.0, y + sign * half[0]) * height) for sign in (-1, 1))
            left, right = (round(max(0.0, x + sign * half[1]) * width) for sign in (-1, 1))
            pixels[i, top:bottom, left:right] = 0
