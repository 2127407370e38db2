"""Labelled pictures on disk: the value that every layout's reader returns."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import DatasetError, UnreadableImageError
from edge_sdk.files import read_file
from edge_sdk.types import Frame
from edge_sdk.vision.images import EXTENSIONS, MAX_PIXELS, read_image
from edge_sdk.vision.limits import file_bytes

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Picture:
    """One labelled picture.

    Attributes:
        path: its file; for a picture inside another file, that file and its number in it, as in
            ``data_batch_1/00042``.
        label: index of its class.
        split: where the data set itself has splits, else None.
        group: pictures of one group (a patient, a scene) are never on both sides of a split.
        pixels: ``(H, W, 3)`` uint8 RGB of a picture inside another file, else None.
    """

    path: Path
    label: int
    split: Split | None
    group: str | None = None
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PictureFolder:
    """The pictures of a data set.

    Attributes:
        root: the folder or archive it was found in.
        classes: class names in the order of their indices.
        pictures: all of them, in a fixed order.
        layout: how it was read, one of ``layouts.LAYOUTS``.
    """

    root: Path
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    layout: str = "folders"

    @property
    def ready_splits(self) -> frozenset[Split]:
        """The splits that the data set itself has; empty where edgecls splits it."""
        return frozenset(picture.split for picture in self.pictures if picture.split is not None)


def read_picture(picture: Picture, max_pixels: int = MAX_PIXELS) -> Frame:
    """Decodes a picture.

    Raises:
        UnreadableImageError: missing, not a picture, truncated, damaged or too large.
    """
    if picture.pixels is not None:
        return Frame(picture.pixels, "rgb", name=str(picture.path))
    return read_image(picture.path, max_pixels=max_pixels)


def file_digest(picture: Picture) -> str:
    """SHA-256 of a picture as it is stored, in hexadecimal: the same on every machine.

    Raises:
        OSError: its file cannot be read.
    """
    if picture.pixels is not None:
        return hashlib.sha256(picture.pixels.tobytes()).hexdigest()
    return hashlib.sha256(read_file(picture.path, file_bytes(MAX_PIXELS))).hexdigest()


def check_found(root: Path, classes: Sequence[str], pictures: Sequence[Picture]) -> None:
    """Checks what every layout must give: pictures in every class, and names that can be labels.

    Raises:
        DatasetError: no pictures, an empty class, a name that is not a label, or a class that the
            training split lacks.
    """
    if not pictures:
        raise DatasetError(
            f"{root}: no pictures in it; expected a folder per class, as in {root}/cat/1.jpg "
            f"({' '.join(EXTENSIONS)})"
        )
    counts = Counter(picture.label for picture in pictures)
    empty = [name for i, name in enumerate(classes) if not counts[i]]
    if empty:
        raise DatasetError(
            f"{root}: no pictures in the class folder {', '.join(empty)}; fill it or remove it"
        )
    odd = [name for name in classes if "\n" in name or "\r" in name or not name.strip()]
    if odd:
        raise DatasetError(
            f"{root}: the class {odd[0]!r} cannot be written as a line of labels; rename it"
        )
    train = {picture.label for picture in pictures if picture.split == "train"}
    unknown = [name for i, name in enumerate(classes) if train and i not in train]
    if unknown:
        raise DatasetError(f"{root}: class {', '.join(unknown)} has no training pictures")


def check_trainable(folder: PictureFolder) -> None:
    """Checks what training requires of a data set.

    Raises:
        DatasetError: fewer than two classes, or a class with a single picture.
    """
    root, classes = folder.root, folder.classes
    counts = Counter(picture.label for picture in folder.pictures)
    if len(classes) < 2:
        raise DatasetError(
            f"{root}: only one class, {classes[0]}; a classifier needs at least two folders side by side"
        )
    single = [name for i, name in enumerate(classes) if counts[i] == 1]
    if single:
        raise DatasetError(
            f"{root}: a single picture in class {', '.join(single)}; a class needs one to train "
            "on and one to test on, and dozens for a good accuracy"
        )


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
