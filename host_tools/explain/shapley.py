"""SHAP: each region's share of the score (Lundberg and Lee 2017), by the package ``shap``.

The partition algorithm halves the picture recursively, where halves matter most, and gives each
part its Owen value: the Shapley value with neighbours grouped.
"""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from host_tools.explain.heat import HeatMap
from host_tools.extras import require
from host_tools.predict import BATCH, Scorer
from host_tools.progress import progress

# Cells along the longer side. With a thousand evaluations no part gets as small as that.
_MOST_CELLS = 64
# shap's own examples take 500 to 5000; beyond a thousand, maps of 224 pixels hardly change.
MOST_EVALUATIONS = 1000
FEWEST_EVALUATIONS = 34
# The share of time reserved for shap's own work and for batches slower than the first.
_SHARE_FOR_THE_MODEL = 0.85


def shapley(
    scorers: Sequence[Scorer],
    pixels: NDArray[np.uint8],
    class_index: int,
    seconds: float,
    what: Sequence[str],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[HeatMap, ...]:
    """A map for each model, all made with the same number of evaluations.

    A hidden part shows the picture blurred over half its side instead. The values of a map and its
    ``base_score`` add up to the score of the picture.

    Args:
        scorers: the models.
        pixels: ``(H, W, C)`` uint8 at their input size.
        class_index: of the class whose score is divided.
        seconds: for each model; ``FEWEST_EVALUATIONS`` are made even where they take longer.
        what: for each model, what is being done, for the progress bar.
        clock: in seconds.

    Raises:
        MissingExtraError: shap is not installed.
    """
    with _left_alone():
        _compiled()
    hidden = _blurred(pixels)
    trials = [_trial(scorer, pixels, hidden, clock) for scorer in scorers]
    affordable = [_affordable(seconds - trial, trial / BATCH) for trial in trials]
    evaluations = min(affordable)
    return tuple(
        _one(scorer, pixels, hidden, class_index, evaluations, words, clock, trial)
        for scorer, words, trial in zip(scorers, what, trials, strict=True)
    )


def _affordable(seconds: float, per_evaluation: float) -> int:
    if per_evaluation * MOST_EVALUATIONS <= seconds * _SHARE_FOR_THE_MODEL:
        return MOST_EVALUATIONS
    return max(FEWEST_EVALUATIONS, int(seconds * _SHARE_FOR_THE_MODEL / per_evaluation))


def _trial(
    scorer: Scorer,
    pixels: NDArray[np.uint8],
    hidden: NDArray[np.uint8],
    clock: Callable[[], float],
) -> float:
    """How long a batch takes, in seconds."""
    started = clock()
    scorer.score(np.stack([pixels, hidden] * (BATCH // 2)))
    return clock() - started


def _one(
    scorer: Scorer,
    pixels: NDArray[np.uint8],
    hidden: NDArray[np.uint8],
    class_index: int,
    evaluations: int,
    what: str,
    clock: Callable[[], float],
    trial: float,
) -> HeatMap:
    height, width = pixels.shape[:2]
    # Squares of one size, but for the last, so that undivided regions look even.
    side = -(-max(height, width) // _MOST_CELLS)
    row_of, column_of = np.arange(height) // side, np.arange(width) // side
    shape = (int(row_of[-1]) + 1, int(column_of[-1]) + 1, 1)
    bar = progress(range(evaluations // BATCH), what, evaluations // BATCH)
    shown = 0

    def score(masks: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal shown
        parts = []
        for start in range(0, len(masks), BATCH):
            seen = masks[start : start + BATCH, :, :, 0] > 0
            seen = seen[:, row_of][:, :, column_of][..., np.newaxis]
            parts.append(scorer.score(np.where(seen, pixels, hidden))[:, class_index])
            next(bar, None)
        shown += len(masks)
        return np.concatenate(parts).astype(np.float64)

    started = clock()
    with _left_alone():
        explained = _explain(score, shape, evaluations)
    for _ in bar:  # closes it
        pass
    # A cell's value is spread evenly over its pixels, so that sums stay what they are.
    areas = np.outer(np.bincount(row_of), np.bincount(column_of))
    values = (explained.values[0, :, :, 0] / areas)[row_of][:, column_of]
    return HeatMap(
        values.astype(np.float32),
        BATCH + shown,
        trial + clock() - started,
        float(np.ravel(explained.base_values)[0]),
    )


def _explain(
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    shape: tuple[int, int, int],
    evaluations: int,
) -> Any:
    """SHAP values of cells that are there (1) or hidden (0)."""
    shap = require("shap")
    masker = shap.maskers.Image(np.zeros(shape), shape)
    explainer = shap.Explainer(score, masker, algorithm="partition")
    return explainer(np.ones((1, *shape)), max_evals=evaluations, batch_size=BATCH, silent=True)


def _blurred(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = max(2, max(pixels.shape[:2]) // 2)
    blurred: Any = cv2.blur(pixels, (side, side), borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.uint8).reshape(pixels.shape)


@functools.cache
def _compiled() -> None:
    """Makes shap compile its loops on a small input, outside of any measured time."""
    _explain(lambda masks: masks.sum(axis=(1, 2, 3)), (4, 4, 1), FEWEST_EVALUATIONS)


@contextlib.contextmanager
def _left_alone() -> Iterator[None]:
    """Silences shap's warnings, and restores the global random state that it draws from.

    It breaks ties with them; the same seed makes the same map.
    """
    state = np.random.get_state()  # noqa: NPY002 (it is shap that draws from the global generator)
    np.random.seed(0)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
