"""Pictures into arrays, through the very decoder and the very preprocessing of the device."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import DatasetError, UnreadableImageError
from edge_sdk.images import MAX_PIXELS
from edge_sdk.preprocess import Preprocessing, preprocess
from edge_sdk.types import Frame
from host_tools.data.pictures import (
    SPLITS,
    Picture,
    PictureFolder,
    Split,
    check_trainable,
    read_picture,
)
from host_tools.progress import progress

# Decoding releases the GIL. A photograph of 12 megapixels is 36 MB, so few are held at a time.
_THREADS = min(4, os.cpu_count() or 1)
_AHEAD = _THREADS + 1


class Decoded(NamedTuple):
    """A picture, its decoded frame, and the SHA-256 of its decoded pixels in hexadecimal."""

    picture: Picture
    frame: Frame
    digest: str


class Unreadable(NamedTuple):
    """A picture that could not be decoded, and why."""

    picture: Picture
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Subset:
    """One split, in memory.

    Attributes:
        pixels: ``(N, H, W, C)`` uint8 model input pixels.
        labels: ``(N,)`` int64 class indices.
        pictures: where each came from.
        digests: SHA-256 of each picture's decoded pixels.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    pictures: tuple[Picture, ...]
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A loaded data set.

    Attributes:
        folder: what was found on disk.
        preprocessing: how its pictures were prepared.
        splits: by name; a split may be empty.
        unreadable: pictures left out, and why.
    """

    folder: PictureFolder
    preprocessing: Preprocessing
    splits: dict[Split, Subset]
    unreadable: tuple[Unreadable, ...]

    @property
    def fingerprint(self) -> str:
        """Of all pictures, however they are split, see ``fingerprint``."""
        parts = self.splits.values()
        labels = [label for part in parts for label in part.labels]
        digests = [digest for part in parts for digest in part.digests]
        return fingerprint(self.classes, labels, digests)

    def split_fingerprint(self, split: Split) -> str:
        """Of one split, see ``fingerprint``."""
        subset = self.splits[split]
        return fingerprint(self.classes, subset.labels, subset.digests)

    def all_for_training(self) -> Dataset:
        """The same pictures, every one in the training split."""
        parts = [self.splits[split] for split in SPLITS]
        training = Subset(
            np.concatenate([part.pixels for part in parts]),
            np.concatenate([part.labels for part in parts]),
            tuple(picture for part in parts for picture in part.pictures),
            tuple(digest for part in parts for digest in part.digests),
        )
        empty = Subset(training.pixels[:0], training.labels[:0], (), ())
        splits: dict[Split, Subset] = {"train": training, "validation": empty, "test": empty}
        return replace(self, splits=splits)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their indices."""
        return self.folder.classes


@dataclass(frozen=True, slots=True)
class SplitRule:
    """Shares for validation and test of pictures that have no split, and the seed."""

    validation: float
    test: float
    seed: int


def load_dataset(
    folder: PictureFolder, how: Preprocessing, rule: SplitRule, max_pixels: int = MAX_PIXELS
) -> Dataset:
    """Decodes and prepares every picture of a folder.

    Pictures that cannot be read are left out and listed. A split that the folder lacks is cut from
    its training pictures by the SHA-256 of their decoded pixels, so that copies fall on one side.

    Raises:
        DatasetError: too few classes or pictures, or a class is left without training pictures.
    """
    check_trainable(folder)
    gathered: dict[Split, list[tuple[Picture, NDArray[np.uint8], str]]]
    gathered = {"train": [], "validation": [], "test": []}
    unreadable: list[Unreadable] = []
    decoded = decode_all(folder.pictures, max_pixels)
    for result in progress(decoded, "reading pictures", len(folder.pictures)):
        if isinstance(result, Unreadable):
            unreadable.append(result)
            continue
        split = split_of(result, folder.ready_splits, rule)
        gathered[split].append((result.picture, preprocess(result.frame, how), result.digest))
    _check_training(folder, [picture.label for picture, _, _ in gathered["train"]], unreadable)
    splits = {name: _subset(rows, how) for name, rows in gathered.items()}
    return Dataset(folder, how, splits, tuple(unreadable))


def decode_all(
    pictures: Sequence[Picture], max_pixels: int = MAX_PIXELS
) -> Iterator[Decoded | Unreadable]:
    """Decodes pictures in order, a few ahead of the consumer."""

    def decode(picture: Picture) -> Decoded | Unreadable:
        try:
            frame = read_picture(picture, max_pixels)
        except UnreadableImageError as error:
            return Unreadable(picture, error.reason)
        return Decoded(picture, frame, pixel_digest(frame))

    waiting = iter(pictures)
    with ThreadPoolExecutor(_THREADS) as pool:
        pending = [pool.submit(decode, picture) for picture in islice(waiting, _AHEAD)]
        while pending:
            yield pending.pop(0).result()
            pending += [pool.submit(decode, picture) for picture in islice(waiting, 1)]


def pixel_digest(frame: Frame) -> str:
    """SHA-256 of a frame's pixels and shape, in hexadecimal."""
    pixels = np.ascontiguousarray(frame.pixels)
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(pixels.data)
    return digest.hexdigest()


def split_of(decoded: Decoded, ready: frozenset[Split], rule: SplitRule) -> Split:
    """The split of a picture: the folder's own, else by its pixels and the rule's seed.

    The first 64 bits of SHA-256(seed, pixels) are a number that is uniform over 0..1 and the same
    for every copy of a picture; the lowest values go to test, the next to validation.
    """
    own = decoded.picture.split
    if own is not None and own != "train":
        return own
    alike = decoded.picture.group or decoded.digest
    draw = hashlib.sha256(f"{rule.seed}:{alike}".encode()).digest()
    share = int.from_bytes(draw[:8], "big") / 2**64
    test = 0.0 if "test" in ready else rule.test
    validation = 0.0 if "validation" in ready else rule.validation
    if share < test:
        return "test"
    return "validation" if share < test + validation else "train"


def _subset(rows: list[tuple[Picture, NDArray[np.uint8], str]], how: Preprocessing) -> Subset:
    pictures = tuple(picture for picture, _, _ in rows)
    digests = tuple(digest for _, _, digest in rows)
    pixels = np.empty((len(rows), how.height, how.width, how.channels), np.uint8)
    while rows:  # given up one by one, so that they are not in memory twice
        prepared = rows.pop()[1]
        pixels[len(rows)] = prepared
    labels = np.array([picture.label for picture in pictures], np.int64)
    return Subset(pixels, labels, pictures, digests)


def _check_training(folder: PictureFolder, labels: list[int], unreadable: list[Unreadable]) -> None:
    missing = sorted(set(range(len(folder.classes))) - set(labels))
    if missing:
        names = ", ".join(folder.classes[i] for i in missing)
        lost = ""
        if unreadable:
            first = unreadable[0]
            lost = (
                f"; {len(unreadable)} could not be read, first {first.picture.path}: {first.reason}"
            )
        raise DatasetError(
            f"{folder.root}: no training picture left for class {names} after splitting{lost}; "
            "add pictures, or lower data.test and data.validation"
        )


def fingerprint(classes: Sequence[str], labels: Iterable[int], digests: Iterable[str]) -> str:
    """SHA-256 over the classes and decoded pixels of some pictures, in hexadecimal.

    The same content gives the same fingerprint wherever it lies and whatever the files are called.
    """
    lines = sorted(
        f"{classes[label]} {digest}" for label, digest in zip(labels, digests, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
