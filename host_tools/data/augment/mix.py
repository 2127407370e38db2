"""What makes one training example of two: MixUp and CutMix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from host_tools.recipe import AugmentationRecipe


def mix(
    pixels: NDArray[np.uint8],
    targets: NDArray[np.float32],
    how: AugmentationRecipe,
    random: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Mixes a batch with itself in another order, or leaves it alone.

    Args:
        pixels: ``(N, H, W, C)`` uint8.
        targets: ``(N, classes)`` float32, shares that sum to 1.
        how: the probabilities of MixUp and of CutMix; where both are drawn, one of them is tossed.
        random: where chance comes from.

    Returns:
        Pixels and targets of the same shapes.
    """
    blend, paste, toss = random.random(3)
    wants_mixup, wants_cutmix = blend < how.mixup, paste < how.cutmix
    if wants_mixup and wants_cutmix:
        wants_mixup, wants_cutmix = toss < 0.5, toss >= 0.5
    if not (wants_mixup or wants_cutmix):
        return pixels, targets
    other = random.permutation(len(pixels))
    if wants_mixup:
        return _mixup(
            pixels, targets, other, random.beta(how.mixup_alpha, how.mixup_alpha, len(pixels))
        )
    return _cutmix(pixels, targets, other, random.beta(how.cutmix_alpha, how.cutmix_alpha), random)


def _mixup(
    pixels: NDArray[np.uint8],
    targets: NDArray[np.float32],
    other: NDArray[np.int64],
    kept: NDArray[np.float64],
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A share of each picture is its own, the rest another one's (Zhang et al. 2017)."""
    share = kept.astype(np.float32)[:, None, None, None]
    mixed = pixels * share + pixels[other] * (1 - share)
    rows = share[:, :, 0, 0]
    return np.rint(mixed).astype(np.uint8), targets * rows + targets[other] * (1 - rows)


def _cutmix(
    pixels: NDArray[np.uint8],
    targets: NDArray[np.float32],
    other: NDArray[np.int64],
    kept: float,
    random: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A rectangle of each picture is another one's; targets by area (Yun et al. 2019)."""
    height, width = pixels.shape[1:3]
    half = np.sqrt(1 - kept) / 2
    (top, bottom), (left, right) = (
        (round(max(0.0, at - half) * side), round(min(1.0, at + half) * side))
        for at, side in zip(random.random(2), (height, width), strict=True)
    )
    pixels = pixels.copy()
    # Fancy indexing reads the old pixels before any is written.
    pixels[:, top:bottom, left:right] = pixels[other, top:bottom, left:right]
    share = np.float32(1 - (bottom - top) * (right - left) / (height * width))
    return pixels, targets * share + targets[other] * (1 - share)
