"""What moves pixels: flips, rotation, shift, shear, zoom, scale and crop as one affine transform.

Matrices map a pixel of the result to a place in the source, in coordinates with the origin in the
picture's middle, so that they multiply in any order without moving it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from host_tools.recipe import AugmentationRecipe

_BORDERS = {
    "reflect": cv2.BORDER_REFLECT_101,
    "nearest": cv2.BORDER_REPLICATE,
    "constant": cv2.BORDER_CONSTANT,
    "wrap": cv2.BORDER_WRAP,
}
_PADS = {"reflect": "reflect", "nearest": "edge", "constant": "constant", "wrap": "wrap"}
_CROP_RATIOS = (3 / 4, 4 / 3)  # width to height, Szegedy et al. 2015


def move(
    pixels: NDArray[np.uint8],
    how: AugmentationRecipe,
    random: np.random.Generator,
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    """Moves each picture of a batch by its own draw.

    Args:
        pixels: ``(N, H, W, C)`` uint8.
        how: which changes.
        random: where chance comes from.
        size: (width, height) of the result; ``pixels`` show the same field of view, in as many
            pixels or more.

    Returns:
        ``(N, height, width, C)`` uint8; may be ``pixels`` itself where nothing moves.
    """
    count = len(pixels)
    same_size = pixels.shape[1:3] == (size[1], size[0])
    flipped = random.random((count, 2)) < (how.horizontal_flip, how.vertical_flip)
    if not (how.rotation or how.shear or how.zoom or how.scale or how.crop) and same_size:
        pixels = _flip(pixels, flipped)
        return _shift_whole_pixels(pixels, how, random) if how.shift else pixels
    return _warp(pixels, _matrices(pixels.shape, how, random, size, flipped), size, how.fill_mode)


def _flip(pixels: NDArray[np.uint8], flipped: NDArray[np.bool_]) -> NDArray[np.uint8]:
    for axis, chosen in ((2, flipped[:, 0]), (1, flipped[:, 1])):
        if chosen.any():
            mirrored = np.flip(pixels, axis)
            pixels = np.where(chosen[:, None, None, None], mirrored, pixels)
    return pixels


def _shift_whole_pixels(
    pixels: NDArray[np.uint8], how: AugmentationRecipe, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Shifts without resampling: for small pictures, the pad-and-crop of the CIFAR literature."""
    count, height, width, _ = pixels.shape
    reach_y, reach_x = max(1, round(height * how.shift)), max(1, round(width * how.shift))
    around = ((0, 0), (reach_y, reach_y), (reach_x, reach_x), (0, 0))
    padded = np.pad(pixels, around, _PADS[how.fill_mode])  # type: ignore[call-overload]  # a mode
    chosen = random.random(count) < how.shift_probability
    top = np.where(chosen, random.integers(0, 2 * reach_y + 1, count), reach_y)
    left = np.where(chosen, random.integers(0, 2 * reach_x + 1, count), reach_x)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    shifted = windows[np.arange(count), top, left]  # (N, C, H, W)
    return np.ascontiguousarray(shifted.transpose(0, 2, 3, 1))


def _matrices(
    shape: tuple[int, ...],
    how: AugmentationRecipe,
    random: np.random.Generator,
    size: tuple[int, int],
    flipped: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """``(N, 2, 3)``: for each pixel of the result, where in the source it comes from."""
    count, source_height, source_width, _ = shape
    result = np.array(size, np.float64)
    source = np.array([source_width, source_height], np.float64)

    def drawn(reach: float, probability: float, columns: int = 1) -> NDArray[np.float64]:
        values = random.uniform(-reach, reach, (count, columns))
        return np.where(random.random((count, 1)) < probability, values, 0.0)

    turn = np.deg2rad(drawn(how.rotation, how.rotation_probability)[:, 0])
    lean = turn + np.deg2rad(drawn(how.shear, how.shear_probability)[:, 0])
    larger = (1 + drawn(how.zoom, how.zoom_probability)) * (
        1 + drawn(how.scale, how.scale_probability, 2)
    )
    offset = drawn(how.shift, how.shift_probability, 2) * result
    # First the flip and the scale, of the result's own axes, then shear and rotation.
    linear = np.empty((count, 2, 2))
    linear[:, 0] = np.stack([np.cos(turn), -np.sin(lean)], axis=1)
    linear[:, 1] = np.stack([np.sin(turn), np.cos(lean)], axis=1)
    linear *= (np.where(flipped, -1.0, 1.0) / larger)[:, None, :]
    if how.crop:
        kept, middle = _crops(count, how, random, result)
        linear *= kept[:, :, None]
        offset = offset * kept + middle
    # Up to here in pixels of the result; the source shows the same field of view in more of them.
    finer = source / result
    linear *= finer[:, None]
    constant = (source - 1) / 2 + offset * finer - linear @ ((result - 1) / 2)
    return np.concatenate([linear, constant[:, :, None]], axis=2)


def _crops(
    count: int, how: AugmentationRecipe, random: np.random.Generator, result: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The shares ``(N, 2)`` of width and height that crops keep, and their middles in pixels."""
    area = random.uniform(how.crop, 1, count)
    ratio = np.exp(random.uniform(np.log(_CROP_RATIOS[0]), np.log(_CROP_RATIOS[1]), count))
    sides = np.sqrt(np.stack([area * ratio, area / ratio], axis=1))
    kept = np.minimum(1.0, sides * np.sqrt(result[::-1] / result))
    kept[random.random(count) >= how.crop_probability] = 1.0
    return kept, random.uniform(-0.5, 0.5, (count, 2)) * (1 - kept) * result


def _warp(
    pixels: NDArray[np.uint8],
    matrices: NDArray[np.float64],
    size: tuple[int, int],
    fill_mode: str,
) -> NDArray[np.uint8]:
    out = np.empty((len(pixels), size[1], size[0], pixels.shape[3]), np.uint8)
    flags, border = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, _BORDERS[fill_mode]
    for picture, matrix, target in zip(pixels, matrices, out, strict=True):
        cv2.warpAffine(picture, matrix, size, dst=target, flags=flags, borderMode=border)
    return out


def warp_one(
    picture: NDArray[np.uint8],
    linear: tuple[tuple[float, float], tuple[float, float]],
    shift: tuple[float, float],
) -> NDArray[np.uint8]:
    """One picture ``(H, W, C)`` about its middle, gaps reflected; shift in shares of its sides."""
    height, width, _ = picture.shape
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.array(linear)
    constant = middle + np.array(shift) * (width, height) - matrix @ middle
    whole = np.concatenate([matrix, constant[:, None]], axis=1)[None]
    moved: NDArray[np.uint8] = _warp(picture[None], whole, (width, height), "reflect")[0]
    return moved
