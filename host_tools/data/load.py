"""A data set, split and ready: every picture through the device's decoder and preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import DatasetError
from edge_sdk.vision.images import MAX_PIXELS
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.data.augment import moves_pixels
from host_tools.data.cache import CachePlace, PictureCache, open_cache, sizes_for
from host_tools.data.layouts import find_pictures
from host_tools.data.pictures import (
    SPLITS,
    Picture,
    PictureFolder,
    Split,
    Unreadable,
    check_trainable,
)
from host_tools.data.split import SplitRule, splits_of
from host_tools.recipe import Recipe, preprocessing_of

Chosen = slice | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Loading:
    """How a data set is loaded.

    Attributes:
        preprocessing: the model's.
        rule: how pictures without a split are split.
        margin: share by which training pictures are kept larger, see ``DataRecipe``.
        max_pixels: larger pictures are left out.
        place: of the cache.
    """

    preprocessing: Preprocessing
    rule: SplitRule
    margin: float = 0.0
    max_pixels: int = MAX_PIXELS
    place: CachePlace | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Subset:
    """One split: rows of the cache.

    Attributes:
        cache: of the whole data set.
        rows: ``(N,)`` int64.
        labels: ``(N,)`` int64 class indices.
    """

    cache: PictureCache
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, chosen: Chosen = slice(None)) -> NDArray[np.uint8]:
        """``(n, H, W, C)`` uint8 model input pixels."""
        return self.cache.exact[self.rows[chosen]]

    def large_pictures(self, chosen: Chosen) -> list[NDArray[np.uint8]]:
        """The same, larger where the pictures are, as views of the cache."""
        return [self.cache.large[row] for row in self.rows[chosen].tolist()]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Where each came from."""
        return tuple(self.cache.pictures[row] for row in self.rows)

    @property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each picture's decoded pixels."""
        return tuple(self.cache.digests[row] for row in self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A loaded data set.

    Attributes:
        folder: what was found on disk.
        loading: how its pictures were prepared.
        splits: by name; a split may be empty.
        unreadable: pictures left out, and why.
    """

    folder: PictureFolder
    loading: Loading
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
        rows = np.concatenate([part.rows for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        training = Subset(parts[0].cache, rows, labels)
        empty = Subset(parts[0].cache, rows[:0], labels[:0])
        splits: dict[Split, Subset] = {"train": training, "validation": empty, "test": empty}
        return replace(self, splits=splits)

    def resized(self, width: int, height: int) -> Dataset:
        """The same pictures in the same splits, prepared for an input of another size.

        Raises:
            DatasetError: the pictures have changed meanwhile.
            WriteError: no room for the cache.
        """
        how = replace(self.loading.preprocessing, width=width, height=height)
        if how == self.loading.preprocessing:
            return self
        loading = replace(self.loading, preprocessing=how)
        cache = _cache(self.folder, loading, lambda _: None)
        if cache.digests != self.splits["train"].cache.digests:
            raise DatasetError(
                f"{self.folder.root}: its pictures changed while training; start again"
            )
        splits = {name: replace(part, cache=cache) for name, part in self.splits.items()}
        return replace(self, loading=loading, splits=splits)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their indices."""
        return self.folder.classes


def load_dataset(
    folder: PictureFolder, loading: Loading, note: Callable[[str], None] = lambda _: None
) -> Dataset:
    """Prepares every picture of a data set, or reads them from the cache.

    Pictures that cannot be read are left out and listed. A split that the folder lacks is cut from
    its training pictures by the SHA-256 of their decoded pixels, so that copies fall on one side,
    and so do groups, see ``splits_of``.

    Raises:
        DatasetError: too few classes or pictures, a class is left without training pictures, or
            the cache would be larger than its limit.
        WriteError: the disk is full.
    """
    check_trainable(folder)
    cache = _cache(folder, loading, note)
    ready = folder.ready_splits
    names = np.array(splits_of(cache.pictures, cache.digests, ready, loading.rule), "U10")
    labels = np.array([picture.label for picture in cache.pictures], np.int64)
    splits = {}
    for split in SPLITS:
        rows = np.flatnonzero(names == split)
        splits[split] = Subset(cache, rows, labels[rows])
    _check_training(folder, splits["train"].labels, cache.unreadable)
    return Dataset(folder, loading, splits, cache.unreadable)


def _cache(folder: PictureFolder, loading: Loading, note: Callable[[str], None]) -> PictureCache:
    place = loading.place or CachePlace.default()
    sizes = sizes_for(folder, loading.preprocessing, loading.margin, loading.max_pixels)
    return open_cache(folder, sizes, place, loading.max_pixels, note)


def _check_training(
    folder: PictureFolder, labels: Iterable[int], unreadable: Sequence[Unreadable]
) -> None:
    missing = sorted(set(range(len(folder.classes))) - {int(label) for label in labels})
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

    The fingerprint depends on the content alone, not on paths or file names.
    """
    lines = sorted(
        f"{classes[label]} {digest}" for label, digest in zip(labels, digests, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class DataPlace:
    """The path of a data set, its layout, and its cache.

    Attributes:
        path: a folder, archive or table, or the name of a data set that can be downloaded.
        layout: see ``find_pictures``.
        max_pixels: larger pictures are left out.
        cache: None for the user's cache folder.
    """

    path: Path
    layout: str = "auto"
    max_pixels: int = MAX_PIXELS
    cache: CachePlace | None = None


def load_for(recipe: Recipe, data: DataPlace, note: Callable[[str], None]) -> Dataset:
    """Loads a data set as a recipe specifies, and reports what was found.

    Raises:
        DatasetError: a data set that cannot be trained on.
        WriteError: no room for the cache.
    """
    folder = find_pictures(data.path, data.layout)
    margin = recipe.data.margin if moves_pixels(recipe.augmentation) else 0.0
    loading = Loading(
        preprocessing_of(recipe), split_rule(recipe), margin, data.max_pixels, data.cache
    )
    dataset = load_dataset(folder, loading, note)
    counts = ", ".join(f"{len(subset)} {split}" for split, subset in dataset.splits.items())
    note(f"{data.path}: {len(dataset.classes)} classes; {counts}")
    if dataset.unreadable:
        first = dataset.unreadable[0]
        note(
            f"{len(dataset.unreadable)} pictures cannot be read and are left out, "
            f"such as {first.picture.path}: {first.reason}"
        )
    return dataset


def split_rule(recipe: Recipe) -> SplitRule:
    """How a recipe splits a folder."""
    return SplitRule(recipe.data.validation, recipe.data.test, recipe.data.seed)
