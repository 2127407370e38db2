"""Runs artifacts on the pictures that scores are fitted on, and on those they are reported on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.classifier import Classifier
from edge_sdk.errors import DatasetError, ValidationError
from edge_sdk.sources.folder import list_images
from edge_sdk.types import Frame
from host_tools.data.load import Dataset
from host_tools.data.pictures import Decoded, Picture, PictureFolder, Split, Unreadable, decode_all
from host_tools.data.split import SplitRule, decoded_parts, keys_of, splits_of
from host_tools.progress import progress

Side = Literal["fit", "report"]


SIDES: tuple[Side, ...] = ("fit", "report")


# Fit on validation, report on test.
_SPLITS: dict[Side, Split] = {"fit": "validation", "report": "test"}


_SIDES_OF: dict[Split, Side] = {split: side for side, split in _SPLITS.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Scores of labelled pictures, before any temperature.

    Attributes:
        scores: ``(N, C)`` float32.
        truth: ``(N,)`` label indices.
    """

    scores: NDArray[np.float32]
    truth: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """The scores of one artifact.

    Attributes:
        fit, report: labelled pictures to choose by, and to report on.
        unknown_fit, unknown_report: ``(M, C)`` scores of unknown pictures; M may be 0.
    """

    fit: Known
    report: Known
    unknown_fit: NDArray[np.float32]
    unknown_report: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ScoredPictures:
    """Which pictures.

    Attributes:
        folder: labelled ones.
        rule: how the model's pictures were split: fit on its validation split, report on its test
            split. None: the model was trained on none of them; one half fits, the other reports.
        unknown: folders and files of pictures of other things than the model's classes.
        max_pixels: larger pictures are left out.
    """

    folder: PictureFolder
    rule: SplitRule | None
    unknown: tuple[Path, ...]
    max_pixels: int


def gather(
    classifiers: Sequence[Classifier], pictures: ScoredPictures, note: Callable[[str], None]
) -> list[Gathered]:
    """Runs every artifact on every picture; each picture is decoded once.

    Args:
        classifiers: at least one; temperatures are set to 1.
        pictures: which.
        note: called with each message for the user.

    Raises:
        ValidationError: a class that is not a label of an artifact.
        DatasetError: no pictures to fit on, or none to report on.
        SourceNotFoundError: nothing at a path of ``unknown``.
    """
    places = [_labels(classifier, pictures.folder.classes) for classifier in classifiers]
    scored = [_Scored(classifier) for classifier in classifiers]
    truth: dict[Side, list[int]] = {"fit": [], "report": []}
    known: set[str] = set()
    unreadable = 0
    rule, ready = pictures.rule, pictures.folder.ready_splits

    def sides(read: Sequence[Picture], digests: Sequence[str]) -> list[Side | None]:
        if rule is None:
            return [half_of(key) for key in keys_of(read, digests)]
        return [_SIDES_OF.get(split) for split in splits_of(read, digests, ready, rule)]

    candidates = _candidates(pictures)
    decoded: Iterator[tuple[Decoded | Unreadable, Side | None]] = decoded_parts(
        candidates, sides, pictures.max_pixels, "scoring"
    )
    for item, side in decoded:
        if isinstance(item, Unreadable):
            unreadable += 1
            continue
        known.add(item.digest)
        if side is not None:
            truth[side].append(item.picture.label)
            for one in scored:
                one.add(item.frame, side)
    _require(truth, pictures)
    unknown_counts: dict[Side, int] = {"fit": 0, "report": 0}
    copies = 0
    files = [Picture(file, 0, None) for path in pictures.unknown for file in list_images(path)]
    for item in _decoded(files, pictures.max_pixels, "scoring unknown pictures"):
        if isinstance(item, Unreadable):
            unreadable += 1
        elif item.digest in known:
            copies += 1
        else:
            half = half_of(item.digest)
            unknown_counts[half] += 1
            for one in scored:
                one.add_unknown(item.frame, half)
    if unreadable:
        note(f"{unreadable} pictures cannot be read and are left out")
    if copies:
        note(f"{copies} pictures of --unknown are in --data too, so they are known; left out")
    if pictures.unknown and not all(unknown_counts.values()):
        raise DatasetError(
            f"{', '.join(map(str, pictures.unknown))}: {sum(unknown_counts.values())} unknown pictures, "
            "expected enough for two halves; give a folder of hundreds with --unknown"
        )
    return [one.gathered(truth, place) for one, place in zip(scored, places, strict=True)]


def gather_prepared(classifier: Classifier, dataset: Dataset) -> Gathered:
    """The same on a data set loaded for this model: no picture is decoded again.

    Args:
        classifier: its temperature is set to 1.
        dataset: with pixels of the model's input size; its validation and test splits are used.

    Raises:
        DatasetError: one of the two splits is empty.
    """
    place = _labels(classifier, dataset.classes)
    scored = _Scored(classifier)
    truth: dict[Side, list[int]] = {"fit": [], "report": []}
    for side, split in _SPLITS.items():
        subset = dataset.splits[split]
        if not len(subset):
            raise DatasetError(
                f"{dataset.folder.root}: no {split} pictures, so scores cannot be fitted; raise "
                f"data.{split}, or leave [scores] out of the recipe"
            )
        truth[side] = subset.labels.tolist()
        for row in progress(range(len(subset)), "scoring", len(subset)):
            pixels = subset.pixels(np.array([row]))[0]
            gray = pixels.shape[2] == 1
            frame = Frame(pixels[:, :, 0], "gray") if gray else Frame(pixels, "rgb")
            scored.add(frame, side)
    return scored.gathered(truth, place)


def half_of(key: str) -> Side:
    """The half that a picture of no split falls into, by its key of ``keys_of``."""
    draw = hashlib.sha256(f"scores:{key}".encode()).digest()
    return SIDES[draw[0] & 1]


class _Scored:
    """A classifier and its scores so far."""

    def __init__(self, classifier: Classifier) -> None:
        classifier.temperature = 1.0
        self._classifier = classifier
        self._known: dict[Side, list[NDArray[np.float32]]] = {"fit": [], "report": []}
        self._unknown: dict[Side, list[NDArray[np.float32]]] = {"fit": [], "report": []}

    def add(self, frame: Frame, side: Side) -> None:
        self._known[side].append(self._classifier.classify(frame).scores)

    def add_unknown(self, frame: Frame, side: Side) -> None:
        self._unknown[side].append(self._classifier.classify(frame).scores)

    def gathered(self, truth: dict[Side, list[int]], place: NDArray[np.int64]) -> Gathered:
        empty = np.empty((0, len(self._classifier.labels)), np.float32)

        def stacked(rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
            return np.stack(rows) if rows else empty

        fit, report = (
            Known(stacked(self._known[side]), place[np.array(truth[side], np.int64)])
            for side in SIDES
        )
        return Gathered(
            fit, report, stacked(self._unknown["fit"]), stacked(self._unknown["report"])
        )


def _labels(classifier: Classifier, classes: Sequence[str]) -> NDArray[np.int64]:
    labels = classifier.labels
    unlabelled = [name for name in classes if labels.count(name) != 1]
    if unlabelled:
        raise ValidationError(
            f"the data has the class {', '.join(unlabelled[:5])}, which is not exactly one label of "
            f"{classifier.artifact.path} ({', '.join(labels[:5])}, ...); name the folders like the "
            "labels, and give pictures of other things with --unknown"
        )
    return np.array([labels.index(name) for name in classes], np.int64)


def _candidates(pictures: ScoredPictures) -> list[Picture]:
    """Pictures that may be used: where there is no validation split, training pictures too."""
    folder, ready = pictures.folder, pictures.folder.ready_splits
    if pictures.rule is None or "validation" not in ready:
        return list(folder.pictures)
    return [
        picture for picture in folder.pictures if picture.split != "train" or "test" not in ready
    ]


def _require(truth: dict[Side, list[int]], pictures: ScoredPictures) -> None:
    root = pictures.folder.root
    for side, split in _SPLITS.items():
        if truth[side]:
            continue
        if pictures.rule is None:
            raise DatasetError(
                f"{root}: {sum(map(len, truth.values()))} pictures, expected enough for two halves, one "
                "to choose by and one to report on; give a folder of hundreds with --data"
            )
        raise DatasetError(
            f"{root}: no {split} pictures to {side} on, by the splits that the model was trained "
            "with; give --data pictures that it was not trained on, and --split all"
        )


def _decoded(
    pictures: Sequence[Picture], max_pixels: int, what: str
) -> Iterator[Decoded | Unreadable]:
    return progress(decode_all(pictures, max_pixels), what, len(pictures))
