"""The audit as one self-contained page: findings, classes, samples of them, pairs of copies, sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_sdk.types import Frame
from edge_sdk.vision.images import MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools import pages
from host_tools.audit.facts import leaked, pairs
from host_tools.audit.summary import class_rows
from host_tools.data.audit.examine import Examination
from host_tools.data.audit.findings import Finding
from host_tools.data.decode import Unreadable, decode_all
from host_tools.data.pictures import SPLITS

MOST_CLASSES = 100
PER_CLASS = 8
MOST_PAIRS = 40

_THUMBNAIL_PX = 96
_JPEG_QUALITY = 80
_BINS = 24
_CHART_WIDTH, _CHART_HEIGHT = 640, 150
# Classes whose samples cannot all be shown are still told in the table, up to here.
_MOST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class _Bar:
    """A bar of the histogram, in the chart's units."""

    x: float
    width: float
    height: float
    about: str


def write_page(
    path: Path, seen: Examination, found: Sequence[Finding], max_pixels: int = MAX_PIXELS
) -> None:
    """Writes the page; pictures are embedded small.

    Raises:
        MissingExtraError: Jinja is not installed.
        WriteError: the disk is full, or a folder is in the way.
    """
    shown_pairs = pairs(seen)
    chosen = shown_pairs[:MOST_PAIRS]
    samples = _samples(seen)
    wanted = [index for row in samples for index in row]
    wanted += [index for pair in chosen for index in (pair.first, pair.second)]
    rows = class_rows(seen)
    pages.write_page(
        path,
        "data_check.html",
        within=lambda picture: _within(seen.folder.root, picture),
        name=seen.folder.root.resolve().name or str(seen.folder.root),
        folder=str(seen.folder.root),
        layout=seen.folder.layout,
        findings=found,
        cards=_cards(seen),
        splits=[split for split in SPLITS if split in seen.folder.ready_splits],
        classes=rows[:_MOST_ROWS],
        n_classes=len(rows),
        largest=max(row["n"] for row in rows),
        samples=list(zip(rows, samples, strict=False)),
        pairs=chosen,
        n_pairs=len(shown_pairs),
        pictures=seen.pictures,
        names=seen.folder.classes,
        sizes=seen.sizes,
        images=_thumbnails(seen, wanted, max_pixels),
        bars=_histogram(seen),
        side=(int(seen.sizes.min(axis=1).min()), int(seen.sizes.min(axis=1).max())),
        chart=(_CHART_WIDTH, _CHART_HEIGHT),
    )


def _within(root: Path, path: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _cards(seen: Examination) -> list[tuple[str, str]]:
    cards = [
        (f"{len(seen.pictures):,}", "pictures that can be read"),
        (f"{len(seen.folder.classes):,}", "classes"),
        (f"{len(seen.unreadable):,}", "cannot be read"),
        (f"{sum(len(g.members) - 1 for g in seen.exact):,}", "exact copies of others"),
    ]
    if seen.near is not None:
        cards.append((f"{sum(len(g.members) for g in seen.near.groups):,}", "near copies"))
    if seen.folder.ready_splits:
        late = leaked(seen, [*seen.exact, *(seen.near.groups if seen.near else ())])
        cards.append((f"{len(late):,}", "of validation or test known from an earlier split"))
    return cards


def _samples(seen: Examination) -> list[list[int]]:
    """Of each of the first classes a few pictures, drawn at random and always the same."""
    rng = np.random.default_rng(0)
    labels = np.array([picture.label for picture in seen.pictures], np.int64)
    rows = []
    for label in range(min(len(seen.folder.classes), MOST_CLASSES)):
        members = np.flatnonzero(labels == label)
        drawn = rng.permutation(len(members))[:PER_CLASS]
        rows.append([int(index) for index in np.sort(members[drawn])])
    return rows


def _thumbnails(seen: Examination, wanted: Iterable[int], max_pixels: int) -> dict[int, str]:
    """Pictures by their index as ``data:`` addresses; one that is gone by now is left out."""
    indices = sorted(set(wanted))
    images = {}
    results = decode_all([seen.pictures[index] for index in indices], max_pixels)
    for index, result in zip(indices, results, strict=True):
        if not isinstance(result, Unreadable):
            images[index] = _data_address(result.frame)
    return images


def _data_address(frame: Frame) -> str:
    height, width = frame.pixels.shape[:2]
    scale = min(1.0, _THUMBNAIL_PX / max(width, height))
    how = Preprocessing(
        max(1, round(width * scale)), max(1, round(height * scale)), channels=3, crop="squash"
    )
    small = preprocess(frame, how)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _, data = cv2.imencode(".jpg", small[..., ::-1], quality)  # OpenCV writes BGR
    return pages.data_url(data.tobytes(), "jpeg")


def _histogram(seen: Examination) -> list[_Bar]:
    """Pictures by their shorter side, in steps of equal ratio; empty where all are of one size."""
    short: Any = seen.sizes.min(axis=1)
    low, high = int(short.min()), int(short.max())
    if low == high:
        return []
    edges = np.geomspace(low, high + 1, min(_BINS, high - low + 1) + 1)
    numbers, _ = np.histogram(short, edges)
    step = _CHART_WIDTH / len(numbers)
    return [
        _Bar(
            round(step * place, 2),
            round(step - 2, 2),
            # A single picture among thousands is still to be seen.
            round(max(2.0, _CHART_HEIGHT * n / numbers.max()), 2) if n else 0.0,
            f"{n:,} pictures from {int(np.ceil(edges[place]))} pixels on",
        )
        for place, n in enumerate(numbers)
    ]
