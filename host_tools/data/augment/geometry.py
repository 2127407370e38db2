"""What moves pixels: flips, rotation, shift, shear, zoom, scale and crop as one affine transform.

Matrices map a pixel of the result to a place in the source, in coordinates with the origin in the
picture's middle, so that they multiply in any order without moving it.
"""

from __future__ import annotations

from collections.abc import Sequence

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
# OpenCV's codes for (left and right, top and bottom).
_FLIPS = {(True, False): 1, (False, True): 0, (True, True): -1}
Pictures = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
# Width to height, of the picture's own ratio; the widest is its inverse (Szegedy et al. 2015).
_NARROWEST_CROP = 3 / 4


def move(
    pictures: Pictures, how: AugmentationRecipe, random: np.random.Generator, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Moves each picture of a batch by its own draw.

    Args:
        pictures: N of ``(H, W, C)`` uint8, all of one shape.
        how: which changes.
        random: where chance comes from.
        size: (width, height) of the result; ``pictures`` show the same field of view, in as many
            pixels or more.

    Returns:
        ``(N, height, width, C)`` uint8, new.
    """
    count, shape = len(pictures), pictures[0].shape
    flipped = random.random((count, 2)) < (how.horizontal_flip, how.vertical_flip)
    resampled = how.rotation or how.shear or how.zoom or how.scale or how.crop
    if resampled or shape[:2] != (size[1], size[0]):
        matrices = _matrices(count, shape, how, random, size, flipped)
        return _warp(pictures, matrices, size, how.fill_mode, cv2.INTER_LINEAR)
    if how.shift:
        matrices = _whole_shifts(count, how, random, size, flipped)
        return _warp(pictures, matrices, size, how.fill_mode, cv2.INTER_NEAREST)
    return _flip(pictures, flipped)


def _flip(pictures: Pictures, flipped: NDArray[np.bool_]) -> NDArray[np.uint8]:
    out = np.empty((len(pictures), *pictures[0].shape), np.uint8)
    for picture, (across, down), target in zip(pictures, flipped.tolist(), out, strict=True):
        if across or down:
            cv2.flip(picture, _FLIPS[across, down], dst=target)
        else:
            np.copyto(target, picture)
    return out


def _whole_shifts(
    count: int,
    how: AugmentationRecipe,
    random: np.random.Generator,
    size: tuple[int, int],
    flipped: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Matrices that flip and shift by whole pixels, so that none is a mixture of its neighbours.

    For small pictures this is the pad-and-crop of the CIFAR literature.
    """
    sides = np.array(size)
    reach = np.maximum(1, np.rint(sides * how.shift)).astype(int)
    shift = random.integers(-reach, reach + 1, (count, 2))
    shift[random.random(count) >= how.shift_probability] = 0
    matrices = np.zeros((count, 2, 3))
    matrices[:, (0, 1), (0, 1)] = np.where(flipped, -1, 1)
    matrices[:, :, 2] = np.where(flipped, sides - 1, 0) + shift
    return matrices


def _matrices(
    count: int,
    shape: tuple[int, ...],
    how: AugmentationRecipe,
    random: np.random.Generator,
    size: tuple[int, int],
    flipped: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """``(N, 2, 3)``: for each pixel of the result, where in the source it comes from."""
    source_height, source_width, _ = shape
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
    # A wide crop of nearly all of the picture would not fit in: the ratio keeps to what does.
    narrowest = np.log(np.clip(area, _NARROWEST_CROP, 1))
    ratio = np.exp(narrowest * random.uniform(-1, 1, count))
    kept = np.sqrt(np.stack([area * ratio, area / ratio], axis=1))
    kept[random.random(count) >= how.crop_probability] = 1.0
    return kept, random.uniform(-0.5, 0.5, (count, 2)) * (1 - kept) * result


def _warp(
    pictures: Pictures,
    matrices: NDArray[np.float64],
    size: tuple[int, int],
    fill_mode: str,
    interpolation: int,
) -> NDArray[np.uint8]:
    out = np.empty((len(pictures), size[1], size[0], pictures[0].shape[2]), np.uint8)
    flags, border = interpolation | cv2.WARP_INVERSE_MAP, _BORDERS[fill_mode]
    for picture, matrix, target in zip(pictures, matrices, out, strict=True):
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
    moved: NDArray[np.uint8] = _warp(
        [picture], whole, (width, height), "reflect", cv2.INTER_LINEAR
    )[0]
    return moved
