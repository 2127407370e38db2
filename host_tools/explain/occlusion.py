"""Occlusion: covers a part and measures the fall of the score (Zeiler and Fergus 2014)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from host_tools.explain.heat import HeatMap, cell_edges
from host_tools.predict import BATCH, Scorer
from host_tools.progress import progress

# Zeiler and Fergus cover 50 of 224 pixels; a fifth of the shorter side is near that.
PATCHES_PER_SIDE = 5
# Patches move by a patch's side divided by up to this; finer steps no longer change the map.
FINEST_STEP = 5


class Patch(NamedTuple):
    """A covered rectangle, in pixels; ends are not part of it."""

    top: int
    bottom: int
    left: int
    right: int


def occlusion(
    scorers: Sequence[Scorer],
    pixels: NDArray[np.uint8],
    class_index: int,
    seconds: float,
    what: Sequence[str],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[HeatMap, ...]:
    """A map for each model, all made with the same patches.

    The patches are filled with the picture's mean colour. Coarse ones, side by side, come first and
    measure each model's speed; the slowest decides how finely patches overlap. The heat of a pixel
    is the mean fall of the class's score, 0..1, over the patches that covered it.

    Args:
        scorers: the models.
        pixels: ``(H, W, C)`` uint8 at their input size.
        class_index: of the class whose score is measured.
        seconds: for each model. The coarse patches are shown even where they take longer.
        what: for each model, what is being done, for the progress bar.
        clock: in seconds.
    """
    begun = [_Watch(scorer, pixels, class_index, clock) for scorer in scorers]
    coarse = patches(pixels.shape[0], pixels.shape[1], 1)
    for watch, words in zip(begun, what, strict=True):
        watch.cover(coarse, None, words)
    step = min(_finest_step(pixels, seconds, watch) for watch in begun)
    known = set(coarse)
    fine = [p for p in patches(pixels.shape[0], pixels.shape[1], step) if p not in known]
    # In random order, so that a map cut short by the time limit is equally fine everywhere.
    np.random.default_rng(0).shuffle(fine)
    for watch, words in zip(begun, what, strict=True):
        watch.cover(fine, seconds, words)
    return tuple(watch.heat_map() for watch in begun)


def patches(height: int, width: int, step: int) -> list[Patch]:
    """Patches that overlap ``step``-fold along each side and hang over the borders.

    Each pixel lies under ``step * step`` of them, those at the border too. Patches of step 1 are
    also patches of every other step.

    Args:
        height, width: of the picture, in pixels.
        step: the side of a patch over the distance to its neighbour; at most ``finest_step``.
    """
    down, across = _patches_along(height, width)
    rows = _spans(cell_edges(height, down * step), step)
    columns = _spans(cell_edges(width, across * step), step)
    return [Patch(*row, *column) for row in rows for column in columns]


def finest_step(height: int, width: int) -> int:
    """The finest overlap that moves patches by whole pixels, up to ``FINEST_STEP``."""
    down, across = _patches_along(height, width)
    return max(1, min(FINEST_STEP, height // down, width // across))


def _patches_along(height: int, width: int) -> tuple[int, int]:
    short = min(height, width)
    down, across = (round(PATCHES_PER_SIDE * side / short) for side in (height, width))
    return min(down, height), min(across, width)


def _spans(edges: NDArray[np.int64], step: int) -> list[tuple[int, int]]:
    cells = len(edges) - 1
    starts = range(1 - step, cells)
    return [(int(edges[max(i, 0)]), int(edges[min(i + step, cells)])) for i in starts]


def _finest_step(pixels: NDArray[np.uint8], seconds: float, watch: _Watch) -> int:
    height, width = pixels.shape[:2]
    per_evaluation = watch.seconds / watch.evaluations
    steps = range(finest_step(height, width), 1, -1)
    down, across = _patches_along(height, width)
    for step in steps:
        count = (down * step + step - 1) * (across * step + step - 1)
        if count * per_evaluation <= seconds:
            return step
    return 1


class _Watch:
    """One model's score under one patch after another."""

    def __init__(
        self,
        scorer: Scorer,
        pixels: NDArray[np.uint8],
        class_index: int,
        clock: Callable[[], float],
    ) -> None:
        self.seconds = 0.0
        self.evaluations = 1
        self._scorer, self._pixels, self._class, self._clock = scorer, pixels, class_index, clock
        self._mean = pixels.mean(axis=(0, 1)).round().astype(np.uint8)
        self._falls = np.zeros(pixels.shape[:2])
        self._covered = np.zeros(pixels.shape[:2], int)
        started = clock()
        self._whole = float(scorer.score(pixels[np.newaxis])[0, class_index])
        self.seconds += clock() - started

    def cover(self, chosen: Sequence[Patch], seconds: float | None, what: str) -> None:
        """Tries patches, until all are done or ``seconds`` (None: no limit) have been used."""
        batches = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
        for batch in progress(self._in_time(batches, seconds), what, len(batches)):
            started = self._clock()
            covered = np.repeat(self._pixels[np.newaxis], len(batch), axis=0)
            for picture, (top, bottom, left, right) in zip(covered, batch, strict=True):
                picture[top:bottom, left:right] = self._mean
            scores = self._scorer.score(covered)[:, self._class]
            for score, (top, bottom, left, right) in zip(scores, batch, strict=True):
                self._falls[top:bottom, left:right] += self._whole - float(score)
                self._covered[top:bottom, left:right] += 1
            self.evaluations += len(batch)
            self.seconds += self._clock() - started

    def _in_time(
        self, batches: Sequence[Sequence[Patch]], seconds: float | None
    ) -> Iterator[Sequence[Patch]]:
        for batch in batches:
            # A batch of average length must still fit.
            next_batch = self.seconds / self.evaluations * len(batch)
            if seconds is not None and self.seconds + next_batch > seconds:
                return
            yield batch

    def heat_map(self) -> HeatMap:
        values = (self._falls / self._covered).astype(np.float32)
        return HeatMap(values, self.evaluations, self.seconds)
