"""RandAugment (Cubuk et al. 2019): a few operations drawn from fourteen, all of one strength.

The operations and their strongest settings are those of AutoAugment (Cubuk et al. 2018), as the
paper's own table gives them.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from host_tools.data.augment.geometry import warp_one
from host_tools.recipe import AugmentationRecipe

Picture = NDArray[np.uint8]
# From a picture and a strength, -1..1, to a picture.
_Operation = Callable[[Picture, float], Picture]

_STRONGEST = 30
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
_LEVELS = np.arange(256)


def rand_augment(
    pixels: NDArray[np.uint8], how: AugmentationRecipe, random: np.random.Generator
) -> None:
    """Puts drawn operations, in place, on drawn pictures of a batch ``(N, H, W, C)``."""
    strength = how.rand_augment_magnitude / _STRONGEST
    for i in np.flatnonzero(random.random(len(pixels)) < how.rand_augment):
        for name in random.choice(list(OPERATIONS), how.rand_augment_operations):
            sign = random.choice((-1.0, 1.0))
            pixels[i] = OPERATIONS[name](pixels[i], sign * strength)


def _blend(picture: Picture, other: NDArray[np.float32], factor: float) -> Picture:
    """Away from ``other`` for a factor above 1, towards it below."""
    mixed = other + (picture.astype(np.float32) - other) * factor
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _gray(picture: Picture) -> NDArray[np.float32]:
    if picture.shape[2] == 1:
        return picture.astype(np.float32)
    gray: NDArray[np.float32] = (picture @ _LUMA)[:, :, None]
    return gray


def _color(picture: Picture, strength: float) -> Picture:
    return _blend(picture, _gray(picture), 1 + 0.9 * strength)


def _contrast(picture: Picture, strength: float) -> Picture:
    return _blend(picture, np.full(1, _gray(picture).mean(), np.float32), 1 + 0.9 * strength)


def _brightness(picture: Picture, strength: float) -> Picture:
    return _blend(picture, np.zeros(1, np.float32), 1 + 0.9 * strength)


def _sharpness(picture: Picture, strength: float) -> Picture:
    smooth = cv2.filter2D(picture, -1, _SMOOTH).reshape(picture.shape)
    return _blend(picture, smooth.astype(np.float32), 1 + 0.9 * strength)


def _posterize(picture: Picture, strength: float) -> Picture:
    dropped = round(4 * abs(strength))
    return np.bitwise_and(picture, np.uint8(256 - (1 << dropped)))


def _solarize(picture: Picture, strength: float) -> Picture:
    table = np.where(256 * (1 - abs(strength)) <= _LEVELS, 255 - _LEVELS, _LEVELS)
    return table.astype(np.uint8)[picture]


def _auto_contrast(picture: Picture, _: float) -> Picture:
    low = picture.min(axis=(0, 1)).astype(np.float32)
    span = picture.max(axis=(0, 1)) - low
    stretched = (picture - low) * (255 / np.where(span > 0, span, 255))
    return np.where(span > 0, np.rint(stretched), picture).astype(np.uint8)


def _equalize(picture: Picture, _: float) -> Picture:
    channels = [cv2.equalizeHist(np.ascontiguousarray(c)) for c in np.moveaxis(picture, 2, 0)]
    return np.stack(channels, axis=2).astype(np.uint8)


def _rotate(picture: Picture, strength: float) -> Picture:
    turn = np.deg2rad(30 * strength)
    return warp_one(picture, ((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))), (0, 0))


def _shear_x(picture: Picture, strength: float) -> Picture:
    return warp_one(picture, ((1, 0.3 * strength), (0, 1)), (0, 0))


def _shear_y(picture: Picture, strength: float) -> Picture:
    return warp_one(picture, ((1, 0), (0.3 * strength, 1)), (0, 0))


def _translate_x(picture: Picture, strength: float) -> Picture:
    return warp_one(picture, ((1, 0), (0, 1)), (0.45 * strength, 0))


def _translate_y(picture: Picture, strength: float) -> Picture:
    return warp_one(picture, ((1, 0), (0, 1)), (0, 0.45 * strength))


OPERATIONS: dict[str, _Operation] = {
    "identity": lambda picture, _: picture,
    "auto-contrast": _auto_contrast,
    "equalize": _equalize,
    "rotate": _rotate,
    "solarize": _solarize,
    "color": _color,
    "posterize": _posterize,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear-x": _shear_x,
    "shear-y": _shear_y,
    "translate-x": _translate_x,
    "translate-y": _translate_y,
}
