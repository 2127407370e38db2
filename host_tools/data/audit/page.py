"""The audit as one self-contained page: findings, classes, samples of them, pairs of copies, sizes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_sdk.plain import to_plain
from edge_sdk.types import Frame
from edge_sdk.vision.images import MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools import pages
from host_tools.data.audit.examine import Examination
from host_tools.data.audit.findings import (
    LONG_RATIO,
    TINY_PX,
    DataFinding,
    Pair,
    conflicts,
    counts,
    imbalance,
    leaked,
    pairs,
    straddling,
)
from host_tools.data.pictures import SPLITS, Picture, Unreadable, decode_all

# Characters that change the writing direction, and may show "exe.jpg" as "gpj.exe".
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

# JSON lists at most this many entries of a long list, and gives its length.
MOST_NAMED = 100


def to_json(seen: Examination, found: Sequence[DataFinding]) -> dict[str, Any]:
    """The object of type ``data_check``."""
    short, long = seen.sizes.min(axis=1), seen.sizes.max(axis=1)
    strays = seen.strays
    every = pairs(seen)
    exact_leaks = leaked(seen, seen.exact)
    near_leaks = leaked(seen, seen.near.groups) - exact_leaks if seen.near else set()
    return {
        "schema": 1,
        "type": "data_check",
        "path": str(seen.folder.root),
        "layout": seen.folder.layout,
        "n": len(seen.pictures),
        "ready_splits": [split for split in SPLITS if split in seen.folder.ready_splits],
        "classes": class_rows(seen),
        "imbalance": imbalance(seen),
        "size_px": {"width": _spread(seen, 0), "height": _spread(seen, 1)},
        "tiny": int((short < TINY_PX).sum()),
        "elongated": int((long > LONG_RATIO * short).sum()),
        "gray": int(seen.gray.sum()),
        "unreadable": [{"path": str(u.picture.path), "reason": u.reason} for u in seen.unreadable],
        "misnamed": _named([{"path": str(m.path), "kind": m.kind} for m in seen.misnamed]),
        "not_read": {
            "foreign": _paths(strays.unsupported),
            "unlabelled": _paths(strays.unlabelled),
            "others": _paths(strays.others),
        },
        "exact_copies": {
            "groups": len(seen.exact),
            "pictures": sum(len(group.members) for group in seen.exact),
            "conflicts": len(conflicts(seen)),
            "leaks": len(exact_leaks),
        },
        "near_copies": None
        if seen.near is None
        else {
            "groups": len(seen.near.groups),
            "pictures": sum(len(group.members) for group in seen.near.groups),
            "leaks": len(near_leaks),
            "bits": seen.near.bits,
            "likeness_asked": seen.near.least,
            "complete": seen.near.complete,
        },
        "pairs": _named([_pair(seen, pair) for pair in every]),
        "straddling_groups": _named(straddling(seen)),
        "findings": to_plain(found),
    }


def class_rows(seen: Examination) -> list[dict[str, Any]]:
    """For every class, its label, its readable pictures, and those of every ready split."""
    ready = [split for split in SPLITS if split in seen.folder.ready_splits]
    return [
        {"label": name, "n": sum(count.values()), "splits": {s: count[s] for s in ready}}
        for name, count in zip(seen.folder.classes, counts(seen), strict=True)
    ]


def to_lines(seen: Examination, found: Sequence[DataFinding]) -> list[str]:
    """A table of classes, sizes, and the findings."""
    ready = [split for split in SPLITS if split in seen.folder.ready_splits]
    rows = [["class", "pictures", *ready]]
    classes = class_rows(seen)
    for row in classes[:MOST_NAMED]:
        splits = [f"{row['splits'][split]:,}" for split in ready]
        rows.append([printable(row["label"]), f"{row['n']:,}", *splits])
    sums = [sum(p.split == split for p in seen.pictures) for split in ready]
    rows.append(["all", f"{len(seen.pictures):,}", *(f"{n:,}" for n in sums)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    width, height = _spread(seen, 0), _spread(seen, 1)
    if len(classes) > MOST_NAMED:
        lines.insert(-1, f"... and {len(classes) - MOST_NAMED} more classes; --json has them all")
    lines += [
        "",
        f"layout {seen.folder.layout}; width {_range_text(width)}, height {_range_text(height)} pixels",
        "",
    ]
    for finding in found:
        lines.append(f"{finding.severity}: {printable(finding.what)}")
        lines.append(f"  why: {printable(finding.why)}")
        if finding.fix:
            lines.append(f"  fix: {printable(finding.fix)}")
    return lines if found else [*lines, "no findings"]


def printable(text: str) -> str:
    """Text without the control characters that a file's name may contain and a terminal would run."""
    return "".join("?" if unicodedata.category(c) == "Cc" or c in _TURNING else c for c in text)


def _spread(seen: Examination, side: int) -> dict[str, int]:
    values = sorted(int(value) for value in seen.sizes[:, side])
    return {"min": values[0], "median": values[len(values) // 2], "max": values[-1]}


def _range_text(spread: dict[str, int]) -> str:
    if spread["min"] == spread["max"]:
        return str(spread["min"])
    return f"{spread['min']} to {spread['max']} (median {spread['median']})"


def _named(entries: Sequence[Any]) -> dict[str, Any]:
    return {"n": len(entries), "first": list(entries[:MOST_NAMED])}


def _paths(paths: Sequence[Path]) -> dict[str, Any]:
    return _named([str(path) for path in paths])


def _pair(seen: Examination, pair: Pair) -> dict[str, Any]:
    sides = (seen.pictures[pair.first], seen.pictures[pair.second])
    return {
        "kind": pair.kind,
        "likeness": pair.likeness,
        "leak": pair.leak,
        "conflict": pair.conflict,
        "pictures": [_place(seen, picture) for picture in sides],
    }


def _place(seen: Examination, picture: Picture) -> dict[str, Any]:
    label = seen.folder.classes[picture.label]
    return {"path": str(picture.path), "label": label, "split": picture.split}


MOST_CLASSES = 100
PER_CLASS = 8
MOST_PAIRS = 40

_THUMBNAIL_PX = 96
_JPEG_QUALITY = 80
_BINS = 24
_CHART_WIDTH, _CHART_HEIGHT = 640, 150
# The table lists at most this many classes; samples are shown for fewer.
_MOST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class _Bar:
    """A bar of the histogram, in the chart's units."""

    x: float
    width: float
    height: float
    about: str


def write_page(
    path: Path, seen: Examination, found: Sequence[DataFinding], max_pixels: int = MAX_PIXELS
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
        cards.append((f"{len(late):,}", "of validation or test with a copy in an earlier split"))
    return cards


def _samples(seen: Examination) -> list[list[int]]:
    """A few pictures of each of the first classes, drawn at random with a fixed seed."""
    rng = np.random.default_rng(0)
    labels = np.array([picture.label for picture in seen.pictures], np.int64)
    rows = []
    for label in range(min(len(seen.folder.classes), MOST_CLASSES)):
        members = np.flatnonzero(labels == label)
        drawn = rng.permutation(len(members))[:PER_CLASS]
        rows.append([int(index) for index in np.sort(members[drawn])])
    return rows


def _thumbnails(seen: Examination, wanted: Iterable[int], max_pixels: int) -> dict[int, str]:
    """Pictures by their index as ``data:`` URLs; a picture that is gone by now is left out."""
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
            # A single picture among thousands is still visible.
            round(max(2.0, _CHART_HEIGHT * n / numbers.max()), 2) if n else 0.0,
            f"{n:,} pictures from {int(np.ceil(edges[place]))} pixels on",
        )
        for place, n in enumerate(numbers)
    ]
