"""Heat maps: values, colour scales, and the agreement of two maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools.extras import require

# Percentile of the deepest colour: outliers would make a map pale; shap.image_plot cuts at 99.9.
_FULL_COLOUR_PERCENTILE = 99.5


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """The map of one method, class, model and picture.

    Attributes:
        values: ``(H, W)`` float32, a value per pixel of the model's input; above 0 is evidence
            for the class, below 0 against it.
        evaluations: how many pictures the model classified for it.
        seconds: how long it took.
        base_score: SHAP only: the class's score, 0..1, for the picture with all of it hidden;
            with the sum of ``values`` it makes the score of the picture itself.
    """

    values: NDArray[np.float32]
    evaluations: int
    seconds: float
    base_score: float | None = None


def full_colour(maps: Sequence[NDArray[np.float32]]) -> float:
    """The magnitude of the deepest colour where several maps share one scale; above 0."""
    levels = [float(np.percentile(np.abs(values), _FULL_COLOUR_PERCENTILE)) for values in maps]
    largest = max(float(np.abs(values).max()) for values in maps)
    return max(levels) or largest or 1.0


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> float | None:
    """Spearman's rank correlation of two maps of one shape, -1..1.

    1: both rank the pixels alike, whatever the strengths. None: one of them is constant
    and ranks nothing.
    """
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    stats = require("scipy.stats")
    return float(stats.spearmanr(first.ravel(), second.ravel()).statistic)


def cell_edges(side: int, cells: int) -> NDArray[np.int64]:
    """Where ``cells`` nearly equal cells of a side of ``side`` pixels begin and end, ``(cells+1,)``.

    Every k-th edge of ``k * n`` cells is an edge of ``n`` cells.
    """
    return np.arange(cells + 1, dtype=np.int64) * side // cells


# From against to for the class, and from less to more important than to the other model. Both are
# safe for colour-blind readers.
SIGNED = "RdBu_r"
DIFFERENCE = "PuOr_r"

# Pictures are enlarged to about this many pixels; larger ones stay as they are.
_SIDE_PX = 288
# How much of the picture is left below, in gray, where nothing is coloured and where all is.
_FAINTEST = 0.45
_DEEPEST = 0.9


def enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(H, W, C)`` uint8 with each pixel made a square, ``(k H, k W, 3)`` RGB."""
    times = max(1, round(_SIDE_PX / max(pixels.shape[:2])))
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def overlay(
    pixels: NDArray[np.uint8], values: NDArray[np.float32], full_colour: float, colours: str
) -> NDArray[np.uint8]:
    """A map in colours over the picture in gray.

    Args:
        pixels: ``(H, W, C)`` uint8.
        values: ``(H, W)``; 0 leaves the picture uncoloured.
        full_colour: the magnitude, above 0, of the deepest colour.
        colours: ``SIGNED`` or ``DIFFERENCE``.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    strength = np.clip(values / full_colour, -1, 1)
    colour_map = require("matplotlib").colormaps[colours]
    coloured = colour_map(0.5 + 0.5 * strength)[:, :, :3] * 255
    paper = 255 - (255 - _gray(pixels)) * _FAINTEST
    cover = (_DEEPEST * np.abs(strength))[:, :, np.newaxis]
    mixed: NDArray[np.float64] = paper * (1 - cover) + coloured * cover
    return mixed.round().astype(np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """``(H, W, 3)`` uint8 RGB as a PNG file."""
    _, data = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, ::-1]))  # OpenCV writes BGR
    return data.tobytes()


def css_gradient(colours: str) -> str:
    """The colours from left to right, for the legend of a page."""
    colour_map = require("matplotlib").colormaps[colours]
    stops = [colour_map(place)[:3] for place in np.linspace(0, 1, 9)]
    names = ", ".join("#" + "".join(f"{round(255 * part):02x}" for part in stop) for stop in stops)
    return f"linear-gradient(to right, {names})"


def _gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(H, W, 1)``."""
    if pixels.shape[2] == 1:
        return pixels
    height, width = pixels.shape[:2]
    return preprocess(pixels, Preprocessing(width, height, channels=1, crop="squash"))
