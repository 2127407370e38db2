"""Splits: copies and groups stay together, the rest is split by a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from host_tools.data.pictures import (
    SPLITS,
    Decoded,
    Picture,
    PictureFolder,
    Split,
    Unreadable,
    decode_all,
)
from host_tools.progress import progress

T = TypeVar("T")
# From pictures and the SHA-256 of their decoded pixels to the part that each is in; None: in none.
Parts = Callable[[Sequence[Picture], Sequence[str]], Sequence[T | None]]


@dataclass(frozen=True, slots=True)
class SplitRule:
    """Shares for validation and test of pictures that have no split, and the seed."""

    validation: float
    test: float
    seed: int


def splits_of(
    pictures: Sequence[Picture], digests: Sequence[str], ready: frozenset[Split], rule: SplitRule
) -> list[Split]:
    """The split of each picture: the folder's own, else pseudo-random, the same on every machine.

    The first 64 bits of SHA-256(seed, key) are a number that is uniform over 0..1; the lowest values
    go to test, the next to validation. The key is that of ``keys_of``, among the pictures that are
    split here, so copies stay together and so do groups. It depends on all of these pictures: give
    every one that can be read.

    Args:
        pictures: N pictures.
        digests: SHA-256 of the decoded pixels of each, in hexadecimal.
        ready: splits that the data set itself has; no picture is moved there.
        rule: shares and seed.
    """
    here = [i for i, p in enumerate(pictures) if p.split is None or p.split == "train"]
    keys = keys_of([pictures[i] for i in here], [digests[i] for i in here])
    drawn = dict(zip(here, keys, strict=True))
    test = 0.0 if "test" in ready else rule.test
    validation = 0.0 if "validation" in ready else rule.validation

    def split(place: int, own: Split | None) -> Split:
        if place not in drawn:
            return own or "train"
        draw = hashlib.sha256(f"{rule.seed}:{drawn[place]}".encode()).digest()
        share = int.from_bytes(draw[:8], "big") / 2**64
        if share < test:
            return "test"
        return "validation" if share < test + validation else "train"

    return [split(place, picture.split) for place, picture in enumerate(pictures)]


def keys_of(pictures: Sequence[Picture], digests: Sequence[str]) -> list[str]:
    """A key per picture, the same for pictures that must stay in one split.

    Pictures of one group belong together, and so do copies. Where copies are in several groups,
    all these groups belong together: a key names a connected component of the graph of
    pictures, groups and pixels.

    Returns:
        Of each picture the first group's name, in the order of names, of its component; its digest
        where nothing of its component has a group.
    """
    joined: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while (above := joined.setdefault(node, node)) != node:
            joined[node] = joined[above]  # halves the path
            node = above
        return node

    for picture, digest in zip(pictures, digests, strict=True):
        node = root(("pixels", digest))
        if picture.group:
            # The smaller one stays the root: groups before pixels, then by name.
            first, second = sorted((node, root(("group", picture.group))))
            joined[second] = first
    return [root(("pixels", digest))[1] for digest in digests]


def decoded_split(
    folder: PictureFolder, wanted: str, rule: SplitRule | None, max_pixels: int, what: str
) -> Iterator[Decoded | Unreadable]:
    """The decoded pictures of one split; where it has to be cut, all are decoded to find them.

    Args:
        folder: the data set.
        wanted: ``train``, ``validation``, ``test`` or ``all``.
        rule: how the missing splits are cut; None: not at all.
        max_pixels: larger pictures are ``Unreadable``.
        what: is being done, for the progress.
    """
    ready = folder.ready_splits
    whole = wanted == "all" or (wanted in ready and wanted != "train")
    if whole:  # nothing is cut
        chosen = [p for p in folder.pictures if wanted in ("all", p.split)]
        yield from progress(decode_all(chosen, max_pixels), what, len(chosen))
        return
    candidates = [p for p in folder.pictures if p.split in (None, "train")]
    known = rule or SplitRule(0.0, 0.0, 0)
    parts = decoded_parts(
        candidates,
        lambda pictures, digests: splits_of(pictures, digests, ready, known),
        max_pixels,
        what,
        [split for split in SPLITS if split == wanted],
    )
    for item, _ in parts:
        yield item


def decoded_parts(
    pictures: Sequence[Picture],
    parts: Parts[T],
    max_pixels: int,
    what: str,
    wanted: Collection[T] | None = None,
) -> Iterator[tuple[Decoded | Unreadable, T | None]]:
    """Decodes pictures one after another, each with its part.

    Which pictures belong together is known when all have been read: with groups they are decoded
    twice, first for their digests. Without groups a picture's part follows from itself alone.

    Args:
        pictures: all that may belong together.
        parts: see ``Parts``; called with all readable pictures, or with one where none has a group.
        max_pixels: larger pictures are ``Unreadable``.
        what: is being done, for the progress.
        wanted: the parts to pass on; None: all, and what is in no part.

    Yields:
        Pictures in order and their part; those that cannot be read, with None.
    """
    sought, known = pictures, None
    if any(picture.group for picture in pictures):
        read, digests = [], []
        for item in progress(decode_all(pictures, max_pixels), f"{what}: groups", len(pictures)):
            if isinstance(item, Unreadable):
                yield item, None
            else:
                read.append(item.picture)
                digests.append(item.digest)
        pairs = zip(read, parts(read, digests), strict=True)
        chosen = [pair for pair in pairs if wanted is None or pair[1] in wanted]
        sought, known = [picture for picture, _ in chosen], iter([part for _, part in chosen])
    for item in progress(decode_all(sought, max_pixels), what, len(sought)):
        part = next(known) if known else None
        if isinstance(item, Unreadable):
            yield item, None
            continue
        if known is None:
            (part,) = parts([item.picture], [item.digest])
        if wanted is None or part in wanted:
            yield item, part
