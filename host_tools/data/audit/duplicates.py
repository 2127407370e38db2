"""Pictures that show the same: exact copies by their pixels, near copies by what they look like.

Near copies are found twice over: a hash proposes pairs, and their edges are compared. Mirrored,
turned and strongly cropped copies are not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host_tools.audit.likeness import (
    MIN_DETAIL,
    Gray,
    Indices,
    detail,
    likeness,
    likeness_asked,
    perceptual_hashes,
)
from host_tools.progress import progress

DEFAULT_BITS = 10

_ROWS, _COLUMNS = 256, 4096  # a block of the comparison: 8 MB, which stays in a processor's cache
# Where nearly all pictures share their hash the comparison ends here, after about a minute.
MOST_PAIRS = 100_000_000

_BITS_OF_16 = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


@dataclass(frozen=True, slots=True)
class Link:
    """Two near copies.

    Attributes:
        first, second: indices of pictures, ``first < second``.
        likeness: correlation of their edges, up to 1.
    """

    first: int
    second: int
    likeness: float


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """Pictures that are copies of each other.

    Attributes:
        members: indices of pictures, ascending.
        links: the near copies that hold it together; empty for exact copies.
    """

    members: tuple[int, ...]
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class NearCopies:
    """What the search for near copies came to.

    Attributes:
        groups: of two pictures and more that differ.
        bits: the search's radius.
        asked: the correlation of edges that was asked for at least, see ``likeness_asked``.
        complete: False where nearly all pictures share their hash and not all were compared.
    """

    groups: tuple[CopyGroup, ...]
    bits: int
    asked: float
    complete: bool


def exact_copies(digests: Sequence[str]) -> tuple[CopyGroup, ...]:
    """Groups of pictures with the same digest, in the order of their first members."""
    members: dict[str, list[int]] = {}
    for index, digest in enumerate(digests):
        members.setdefault(digest, []).append(index)
    return tuple(CopyGroup(tuple(group)) for group in members.values() if len(group) > 1)


def near_copies(
    thumbnails: Gray, labels: Indices, digests: Sequence[str], bits: int = DEFAULT_BITS
) -> NearCopies:
    """Groups of pictures that show the same and are not the same.

    Args:
        thumbnails: ``(N, 32, 32)`` uint8 gray.
        labels: ``(N,)`` class indices, by which it is judged how alike pictures are anyway.
        digests: N; of exact copies the first is compared, and the others follow it.
        bits: 0..64, how far two hashes may be apart.
    """
    exact = {group.members[0]: group.members for group in exact_copies(digests)}
    copies = {index for members in exact.values() for index in members[1:]}
    distinct = np.array([i for i in range(len(digests)) if i not in copies], np.int64)
    chosen = distinct[detail(thumbnails[distinct]) >= MIN_DETAIL]
    shown = thumbnails[chosen]
    asked = likeness_asked(shown, labels[chosen])
    clusters = _Clusters(len(chosen))
    links: list[Link] = []
    compared = 0
    for first, second in close_pairs(perceptual_hashes(shown), bits):
        apart = clusters.apart(first, second)
        first, second = first[apart], second[apart]
        if not len(first):
            continue
        compared += len(first)
        alike, needed = likeness(shown, first, second, asked)
        copies_here = alike >= needed
        joined = clusters.join(first[copies_here], second[copies_here], alike[copies_here])
        links += [Link(int(chosen[a]), int(chosen[b]), value) for a, b, value in joined]
        if compared > MOST_PAIRS:
            break
    groups = _grouped(links, {int(i): int(r) for i, r in zip(chosen, clusters.all(), strict=True)})
    whole = [
        CopyGroup(tuple(sorted(m for i in members for m in exact.get(i, (i,)))), tuple(held))
        for members, held in groups
    ]
    return NearCopies(
        tuple(sorted(whole, key=lambda g: g.members)), bits, asked, compared <= MOST_PAIRS
    )


def close_pairs(hashes: NDArray[np.uint64], bits: int) -> Iterator[tuple[Indices, Indices]]:
    """All pairs of hashes that differ in at most ``bits`` bits, block by block, each pair once.

    Every pair is looked at: 60,000 pictures are 1.8 billion, which takes 10 seconds.

    Yields:
        Two ``(n,)`` int64 arrays of indices, the first below the second.
    """
    starts = range(0, len(hashes), _ROWS)
    for row in progress(starts, "comparing pictures", len(starts)):
        rows = hashes[row : row + _ROWS, None]
        for column in range(row // _COLUMNS * _COLUMNS, len(hashes), _COLUMNS):
            distance = _bit_counts(rows ^ hashes[None, column : column + _COLUMNS])
            # One flat search is three times as fast as one along two axes, and most find nothing.
            found = np.flatnonzero(distance.ravel() <= bits)
            first, second = np.divmod(found, distance.shape[1])
            first, second = first + row, second + column
            once = first < second
            if once.any():
                yield first[once], second[once]


def _bit_counts(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    if hasattr(np, "bitwise_count"):
        counts: NDArray[np.uint8] = np.bitwise_count(values)
        return counts
    halves = _BITS_OF_16[np.ascontiguousarray(values).view(np.uint16)]  # numpy 1
    summed: NDArray[np.uint8] = halves.reshape(*values.shape, 4).sum(axis=-1, dtype=np.uint8)
    return summed


def _grouped(
    links: Sequence[Link], root_of: dict[int, int]
) -> list[tuple[tuple[int, ...], list[Link]]]:
    """The members of every cluster that has links, and the links."""
    held: dict[int, list[Link]] = {}
    for link in links:
        held.setdefault(root_of[link.first], []).append(link)
    return [
        (tuple(sorted({i for link in group for i in (link.first, link.second)})), group)
        for group in held.values()
    ]


class _Clusters:
    """Union-find over ``0..n-1``, asked for many roots at once."""

    def __init__(self, n: int) -> None:
        self._parent = np.arange(n, dtype=np.int64)

    def roots(self, of: Indices) -> Indices:
        found = self._parent[of]
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                self._parent[of] = found
                return found
            found = above

    def all(self) -> Indices:
        return self.roots(np.arange(len(self._parent), dtype=np.int64))

    def apart(self, first: Indices, second: Indices) -> NDArray[np.bool_]:
        different: NDArray[np.bool_] = self.roots(first) != self.roots(second)
        return different

    def join(
        self, first: Indices, second: Indices, likeness: NDArray[np.float32]
    ) -> Iterator[tuple[int, int, float]]:
        """Makes clusters one, and yields those pairs that were needed for it."""
        while True:
            apart = self.apart(first, second)
            first, second, likeness = first[apart], second[apart], likeness[apart]
            if not len(first):
                return
            # One pair of each picture at a time: most of the others are joined by then.
            for k in np.unique(second, return_index=True)[1]:
                a, b = int(first[k]), int(second[k])
                low, high = sorted(int(root) for root in self.roots(np.array([a, b], np.int64)))
                if low != high:
                    self._parent[high] = low
                    yield a, b, float(likeness[k])
