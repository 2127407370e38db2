"""The representative dataset: which pictures set the ranges of an integer model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ConversionError
from edge_sdk.vision.images import EXTENSIONS, MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing, preprocess
from host_tools.data.layouts.folders import SPLIT_NAMES
from host_tools.data.layouts.listing import first_few, pictures_below, subfolders
from host_tools.data.load import Dataset, Subset
from host_tools.data.pictures import SPLITS, Picture, Split, Unreadable, decode_all
from host_tools.progress import progress


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationSet:
    """The pictures that ranges are measured on.

    Attributes:
        pixels: ``(N, H, W, C)`` uint8 model input pixels, N of at least 1.
        digests: SHA-256 of each picture's decoded pixels.
        labels: the class of each; None where unknown.
        split: of the data set they were drawn from; None for a folder of their own.
        seed: of the draw.
        left_out: pictures that could have been drawn, but are copies of others.
    """

    pixels: NDArray[np.uint8]
    digests: tuple[str, ...]
    labels: tuple[str, ...] | None
    split: Split | None
    seed: int
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.pixels)

    def anchored(self) -> NDArray[np.uint8]:
        """``(N + 2, H, W, C)``: the pictures, and a black and a white one.

        The last two pin the input's range to 0..255 exactly: calibrated on pictures alone it ends
        at their brightest pixel, and brighter ones saturate in silence.
        """
        black, white = np.zeros_like(self.pixels[:1]), np.full_like(self.pixels[:1], 255)
        return np.concatenate([self.pixels, black, white])


def drawn_from(dataset: Dataset, split: Split, count: int, seed: int) -> CalibrationSet:
    """Pictures drawn evenly from the classes of a split, none of them twice.

    A picture that another split has a copy of (the same decoded pixels) is not drawn: accuracy may
    be measured on that copy.

    Args:
        dataset: the one the model was trained on.
        split: of its pictures; other than the training split only on request.
        count: how many, at most.
        seed: of the draw.

    Raises:
        ConversionError: no pictures are left in that split.
    """
    others = {digest for name in SPLITS if name != split for digest in dataset.splits[name].digests}
    return drawn(dataset.splits[split], dataset.classes, count, seed, split=split, others=others)


def drawn(
    subset: Subset,
    classes: Sequence[str],
    count: int,
    seed: int,
    *,
    split: Split = "train",
    others: Collection[str] = (),
) -> CalibrationSet:
    """As ``drawn_from``, of one split, with the digests of all pictures in the ``others``."""
    digests = subset.digests
    seen = set(others)
    rows = []
    for row, digest in enumerate(digests):
        if digest not in seen:
            seen.add(digest)
            rows.append(row)
    if not rows:
        why = " that no other split has a copy of" if len(subset) else ""
        raise ConversionError(
            f"no {_NAMES[split]} pictures to calibrate with{why}; int8 needs some: give "
            "--calibration DIR, a folder of pictures like those the model will see"
        )
    chosen = _spread(np.array(rows), subset.labels[rows], count, seed)
    return CalibrationSet(
        subset.pixels(chosen),
        tuple(digests[row] for row in chosen),
        tuple(classes[label] for label in subset.labels[chosen]),
        split,
        seed,
        left_out=len(subset) - len(rows),
    )


_NAMES: dict[Split, str] = {"train": "training", "validation": "validation", "test": "test"}


def read_folder(
    folder: Path,
    how: Preprocessing,
    classes: Collection[str],
    count: int,
    seed: int,
    *,
    max_pixels: int = MAX_PIXELS,
    note: Callable[[str], None],
) -> CalibrationSet:
    """Pictures of a folder, drawn evenly from its sub-folders where those are named like the labels.

    Args:
        folder: of pictures, or of folders of pictures.
        how: the model's preprocessing.
        classes: the model's labels.
        count: how many pictures, at most.
        seed: of the draw.
        max_pixels: larger pictures are left out.
        note: called with what was left out, and whether the pictures are labelled.

    Raises:
        ConversionError: no folder, nothing in it that can be read, or a data set with splits.
    """
    try:
        names = {inner.name: pictures_below(inner) for inner in subfolders(folder)}
        found = pictures_below(folder)
    except OSError as error:
        raise ConversionError(
            f"{error.filename or folder}: cannot be read ({error.strerror or error}); expected a folder "
            "of pictures to calibrate with"
        ) from error
    if not found:
        raise ConversionError(
            f"{folder}: no pictures in it to calibrate with; expected about {count} of them, like "
            f"those the model will see ({' '.join(EXTENSIONS)})"
        )
    splits = [n for n in names if n.lower() in SPLIT_NAMES and n not in classes and names[n]]
    if splits:
        raise ConversionError(
            f"{folder}: a data set with splits ({first_few(splits)}), and pictures that accuracy is "
            "measured on must not set ranges; give it as --data, or its training folder alone"
        )
    if folder.name in classes and not any(names.values()):
        names = {folder.name: found}
    called = {name for name, inside in names.items() if inside}
    inside_all = sum(map(len, names.values())) == len(found)
    labelled = bool(called) and called <= set(classes) and inside_all
    if not labelled:
        note(f"{folder}: its sub-folders are not named like the labels; classes are not checked")
        names = {"": found}
    order = sorted(names)
    paths = [path for name in order for path in names[name]]
    strata = np.repeat(np.arange(len(order)), [len(names[name]) for name in order])
    chosen = _spread(np.arange(len(paths)), strata, count, seed)
    wanted = [Picture(paths[row], int(strata[row]), None) for row in chosen]
    pixels: list[NDArray[np.uint8]] = []
    read: list[tuple[Picture, str]] = []
    for result in progress(decode_all(wanted, max_pixels), "reading pictures", len(wanted)):
        if isinstance(result, Unreadable):
            note(f"{result.picture.path}: {result.reason}; left out of the calibration")
            continue
        pixels.append(preprocess(result.frame, how))
        read.append((result.picture, result.digest))
    if not read:
        raise ConversionError(
            f"{folder}: none of its {len(wanted)} pictures can be read; expected pictures to calibrate "
            "with that edgecls data check can read"
        )
    return CalibrationSet(
        np.stack(pixels),
        tuple(digest for _, digest in read),
        tuple(order[picture.label] for picture, _ in read) if labelled else None,
        None,
        seed,
    )


def _spread(
    rows: NDArray[np.int64], labels: NDArray[np.int64], count: int, seed: int
) -> NDArray[np.int64]:
    """Up to ``count`` of ``rows``: one of each class in rotation, until the classes are used up."""
    random = np.random.default_rng(seed)
    queues = [random.permutation(rows[labels == label]).tolist() for label in np.unique(labels)]
    chosen: list[int] = []
    while len(chosen) < count and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    return np.array(chosen[:count], np.int64)


# A mean over this many pictures is within a twentieth of the standard deviation of single ones;
# more take time without a gain.
_SAMPLE = 500
_BATCH = 64
_NUMBERS = ("std", "picture_mean_std", "red_less_blue_std", "lowest", "highest")

_Batch = NDArray[np.uint8] | NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class PixelStatistics:
    """Statistics of model input pixels, 0..255 where they are raw.

    Attributes:
        mean: of each channel: R, G, B, or the one of a gray model.
        std: standard deviation of all pixels and channels together; the order of the channels does
            not change it.
        picture_mean_std: standard deviation, over the pictures, of a picture's mean.
        red_less_blue_std: standard deviation, over the pictures, of a picture's mean red less its
            mean blue; 0 for gray models.
        lowest, highest: of all pixels.
    """

    mean: tuple[float, ...]
    std: float
    picture_mean_std: float
    red_less_blue_std: float
    lowest: float
    highest: float

    @property
    def overall_mean(self) -> float:
        """Of all pixels and channels together."""
        return sum(self.mean) / len(self.mean)

    @property
    def red_less_blue(self) -> float:
        """Mean red less mean blue."""
        return self.mean[0] - self.mean[-1]

    def to_json(self) -> dict[str, Any]:
        """As an artifact's provenance records it; see ``statistics_from``."""
        return {
            "mean": [round(value, 3) for value in self.mean],
            "std": round(self.std, 3),
            "picture_mean_std": round(self.picture_mean_std, 3),
            "red_less_blue_std": round(self.red_less_blue_std, 3),
            "lowest": self.lowest,
            "highest": self.highest,
        }


def statistics_from(recorded: Mapping[str, Any]) -> PixelStatistics:
    """What ``to_json`` recorded.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    return PixelStatistics(
        tuple(float(value) for value in recorded["mean"]),
        *(float(recorded[key]) for key in _NUMBERS),
    )


def statistics_of(pixels: _Batch) -> PixelStatistics:
    """Of ``(N, H, W, C)`` pixels of any number type, N of at least 1."""
    return _statistics(lambda rows: pixels[rows], np.arange(len(pixels)))


def statistics_of_split(subset: Subset, seed: int = 0) -> PixelStatistics | None:
    """Of up to 500 pictures of a split, drawn with ``seed``; None where it is empty."""
    if not len(subset):
        return None
    rows = np.arange(len(subset))
    if len(rows) > _SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _SAMPLE, replace=False))
    return _statistics(subset.pixels, rows)


def _statistics(
    pixels: Callable[[NDArray[np.int64]], _Batch], rows: NDArray[np.int64]
) -> PixelStatistics:
    means, squares, lowest, highest = [], [], np.inf, -np.inf
    for start in range(0, len(rows), _BATCH):
        batch = pixels(rows[start : start + _BATCH])
        lowest, highest = min(lowest, float(batch.min())), max(highest, float(batch.max()))
        exact = batch.astype(np.float64)
        means.append(exact.mean(axis=(1, 2)))
        squares.append(np.square(exact).mean(axis=(1, 2)))
    by_picture = np.concatenate(means)
    mean = by_picture.mean(axis=0)
    variance = np.concatenate(squares).mean() - mean.mean() ** 2
    return PixelStatistics(
        tuple(mean.tolist()),
        float(np.sqrt(max(variance, 0.0))),
        float(by_picture.mean(axis=1).std()),
        float((by_picture[:, 0] - by_picture[:, -1]).std()),
        lowest,
        highest,
    )
