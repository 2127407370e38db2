"""Pictures with the model's answers: the worst mistakes, and examples of every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools.data.augment import augment, mix
from host_tools.data.load import Dataset
from host_tools.evaluate.robustness import PixelsOf
from host_tools.recipe import Recipe

_ROWS, _COLUMNS = 8, 8
TILE_PX = 96
_GAP_PX = 4


def contact_sheet(dataset: Dataset, recipe: Recipe) -> NDArray[np.uint8]:
    """Draws training pictures of up to eight classes, a row each.

    Returns:
        ``(H, W, 3)`` uint8 RGB: on the left the picture as in validation, then seven random
        augmentations of it, mixed batches included.
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
    """A square of fixed size; small pictures are enlarged by whole factors, without smoothing."""
    if picture.shape[2] == 1:
        picture = np.repeat(picture, 3, axis=2)
    larger = TILE_PX // max(picture.shape[:2])
    if larger > 1:
        picture = picture.repeat(larger, axis=0).repeat(larger, axis=1)
    return preprocess(picture, Preprocessing(TILE_PX, TILE_PX, crop="letterbox"))


MOST_MISTAKES = 24
# Classes with examples, and how many right answers and how many mistakes of each.
MOST_CLASSES = 20
EACH = 4

_SHEET_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """One picture on a sheet.

    Attributes:
        name: of the picture.
        truth, answer: labels.
        score: of the answer, 0..1.
        x, y: its left upper corner on the sheet, in pixels.
    """

    name: str
    truth: str
    answer: str
    score: float
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class ClassExamples:
    """Pictures of one class that were classified correctly, and those that were not."""

    label: str
    right: tuple[ShownPicture, ...]
    wrong: tuple[ShownPicture, ...]


@dataclass(frozen=True, slots=True)
class Sheets:
    """Everything shown.

    Attributes:
        mistakes: wrong answers, the highest score first, on the sheet ``mistakes_jpeg``.
        n_mistakes: how many there are in the split.
        examples: of up to ``MOST_CLASSES`` classes, on the sheet ``examples_jpeg``.
        n_classes: how many classes the split has.
        mistakes_jpeg, examples_jpeg: RGB JPEG files; empty where nothing is on them.
    """

    mistakes: tuple[ShownPicture, ...]
    n_mistakes: int
    examples: tuple[ClassExamples, ...]
    n_classes: int
    mistakes_jpeg: bytes
    examples_jpeg: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A split and a model's answers to it.

    Attributes:
        scores: ``(N, C)`` probabilities.
        truth: ``(N,)`` label indices.
        labels: C names.
        names: N names of pictures.
        pixels_of: from ``(n,)`` indices to ``(n, H, W, 1 or 3)`` uint8 pixels.
    """

    scores: NDArray[np.float32]
    truth: NDArray[np.int64]
    labels: tuple[str, ...]
    names: Sequence[str]
    pixels_of: PixelsOf


def draw_sheets(answered: Answered) -> Sheets:
    """Chooses the pictures and draws them.

    Examples are drawn with the classes of the lowest recall first, where not all fit.
    """
    answers = answered.scores.argmax(axis=1)
    sure = answered.scores.max(axis=1)
    right = answers == answered.truth
    wrong = np.flatnonzero(~right)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:MOST_MISTAKES]
    mistakes, mistakes_jpeg = _sheet(answered, worst)
    present = np.unique(answered.truth)
    groups = []
    for label in _classes_shown(answered.truth, right):
        own = answered.truth == label
        groups += [_spread(np.flatnonzero(own & right)), _spread(np.flatnonzero(own & ~right))]
    rows = np.concatenate([np.empty(0, np.int64), *groups])
    shown, examples_jpeg = _sheet(answered, rows)
    places = iter(shown)
    parts = [tuple(next(places) for _ in group) for group in groups]
    return Sheets(
        mistakes,
        len(wrong),
        tuple(
            ClassExamples(answered.labels[label], *parts[2 * i : 2 * i + 2])
            for i, label in enumerate(_classes_shown(answered.truth, right))
        ),
        len(present),
        mistakes_jpeg,
        examples_jpeg,
    )


def _classes_shown(truth: NDArray[np.int64], right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """All classes of the split, or those with the lowest recall; in the order of their indices."""
    present = np.unique(truth)
    recall = np.array([right[truth == label].mean() for label in present])
    return np.sort(present[np.argsort(recall, kind="stable")][:MOST_CLASSES])


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A few of them from the first to the last, not neighbours, which are often alike."""
    places = np.linspace(0, len(rows) - 1, min(EACH, len(rows))).astype(np.int64)
    return np.asarray(rows[places], np.int64)


def _sheet(answered: Answered, rows: NDArray[np.int64]) -> tuple[tuple[ShownPicture, ...], bytes]:
    """Pictures in rows of eight, and where each of them is."""
    if not len(rows):
        return (), b""
    side = TILE_PX + _GAP_PX
    high, wide = -(-len(rows) // _SHEET_COLUMNS), min(_SHEET_COLUMNS, len(rows))
    sheet = np.full((high * side - _GAP_PX, wide * side - _GAP_PX, 3), 255, np.uint8)
    shown = []
    answers = answered.scores.argmax(axis=1)
    for place, (row, picture) in enumerate(zip(rows, answered.pixels_of(rows), strict=True)):
        y, x = (side * number for number in divmod(place, _SHEET_COLUMNS))
        sheet[y : y + TILE_PX, x : x + TILE_PX] = tile(picture)
        shown.append(
            ShownPicture(
                answered.names[row],
                answered.labels[answered.truth[row]],
                answered.labels[answers[row]],
                float(answered.scores[row].max()),
                x,
                y,
            )
        )
    return tuple(shown), jpeg(sheet)
