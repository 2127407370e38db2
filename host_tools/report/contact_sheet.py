"""A contact sheet: some training pictures as they are, and as the network sees them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools.data.augment import augment, mix
from host_tools.data.load import Dataset
from host_tools.recipe import Recipe

_ROWS, _COLUMNS = 8, 8
TILE_PX = 96
_GAP_PX = 4


def contact_sheet(dataset: Dataset, recipe: Recipe) -> NDArray[np.uint8]:
    """Draws training pictures of up to eight classes, a row each.

    Returns:
        ``(H, W, 3)`` uint8 RGB: on the left the picture as validation sees it, then augmented
        anew seven times, mixed batches included.
    """
    subset = dataset.splits["train"]
    classes = np.unique(subset.labels)
    shown = classes[:: max(1, len(classes) // _ROWS)][:_ROWS]
    random = np.random.default_rng(recipe.training.seed)
    rows = np.array([random.choice(np.flatnonzero(subset.labels == label)) for label in shown])
    plain = subset.pixels(rows)
    height, width = plain.shape[1:3]
    targets = np.eye(len(dataset.classes), dtype=np.float32)[subset.labels[rows]]
    columns = [plain]
    for _ in range(_COLUMNS - 1):
        seen = augment(subset.large_pictures(rows), recipe.augmentation, random, (width, height))
        columns.append(mix(seen, targets, recipe.augmentation, random)[0])
    side = TILE_PX + _GAP_PX
    sheet = np.full((len(rows) * side + _GAP_PX, _COLUMNS * side + 2 * _GAP_PX, 3), 255, np.uint8)
    for column, pictures in enumerate(columns):
        left = column * side + (_GAP_PX if column == 0 else 2 * _GAP_PX)
        for row, picture in enumerate(pictures):
            top = row * side + _GAP_PX
            sheet[top : top + TILE_PX, left : left + TILE_PX] = tile(picture)
    return sheet


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """RGB pixels as a JPEG file."""
    _, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    return data.tobytes()


def tile(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A square of fixed size; small pictures in whole pixels, so that nothing is smoothed over."""
    if picture.shape[2] == 1:
        picture = np.repeat(picture, 3, axis=2)
    larger = TILE_PX // max(picture.shape[:2])
    if larger > 1:
        picture = picture.repeat(larger, axis=0).repeat(larger, axis=1)
    return preprocess(picture, Preprocessing(TILE_PX, TILE_PX, crop="letterbox"))
