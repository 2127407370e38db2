"""Augmentation of whole batches of uint8 pictures: move, recolour, erase, mix, RandAugment.

Matrices map a pixel of the result to a place in the source, in coordinates with the origin in the
picture's middle, so that they multiply in any order without moving it.

The operations and their strongest settings are those of AutoAugment (Cubuk et al. 2018), as the
paper's own table gives them.

Random numbers are drawn for the whole batch at once. All moves of a picture are one affine transform
in OpenCV; all changes of brightness and channels are one table of 256 entries per channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    # First the flip and the scale along the result's axes, then shear and rotation.
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
    # A wide crop of nearly all of the picture would not fit in: the ratio is limited to what fits.
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
        how: the probabilities of MixUp and of CutMix; where both are drawn, one is chosen at random.
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


Picture = NDArray[np.uint8]
# From a picture and a strength, -1..1, to a picture.
_Operation = Callable[[Picture, float], Picture]

_STRONGEST = 30
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
_GRAY_LEVELS = np.arange(256)


def rand_augment(
    pixels: NDArray[np.uint8], how: AugmentationRecipe, random: np.random.Generator
) -> None:
    """Applies random operations, in place, to random pictures of a batch ``(N, H, W, C)``."""
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
    table = np.where(256 * (1 - abs(strength)) <= _GRAY_LEVELS, 255 - _GRAY_LEVELS, _GRAY_LEVELS)
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
        random: the generator; the same state gives the same result.
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
    """Whether the moves need pictures larger than the model's input."""
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
