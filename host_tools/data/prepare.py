"""From where pictures are and what a recipe wants to a loaded data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.vision.images import MAX_PIXELS
from host_tools.data.augment import moves_pixels
from host_tools.data.cache import CachePlace
from host_tools.data.layouts import find_pictures
from host_tools.data.load import Dataset, Loading, load_dataset
from host_tools.data.split import SplitRule
from host_tools.recipe import Recipe, preprocessing_of


@dataclass(frozen=True, slots=True)
class DataPlace:
    """Where pictures are, how they lie there, and where they are cached.

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


def load_for(recipe: Recipe, data: DataPlace, say: Callable[[str], None]) -> Dataset:
    """Loads a data set as a recipe asks, and says what was found.

    Raises:
        DatasetError: a data set that cannot be trained on.
        WriteError: no room for the cache.
    """
    folder = find_pictures(data.path, data.layout)
    margin = recipe.data.margin if moves_pixels(recipe.augmentation) else 0.0
    loading = Loading(
        preprocessing_of(recipe), split_rule(recipe), margin, data.max_pixels, data.cache
    )
    dataset = load_dataset(folder, loading, say)
    counts = ", ".join(f"{len(subset)} {split}" for split, subset in dataset.splits.items())
    say(f"{data.path}: {len(dataset.classes)} classes; {counts}")
    if dataset.unreadable:
        first = dataset.unreadable[0]
        say(
            f"{len(dataset.unreadable)} pictures cannot be read and are left out, "
            f"such as {first.picture.path}: {first.reason}"
        )
    return dataset


def split_rule(recipe: Recipe) -> SplitRule:
    """How a recipe splits a folder."""
    return SplitRule(recipe.data.validation, recipe.data.test, recipe.data.seed)
