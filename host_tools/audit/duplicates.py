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

DEFAULT_BITS = 10

_ROWS, _COLUMNS = 256, 4096  # a block of the comparison: 8 MB, which stays in a processor's cache
_PAIRS_AT_ONCE = 1024
# Where nearly all pictures share their hash the comparison ends here, after about a minute.
MOST_PAIRS = 5_000_000

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
        for start in range(0, len(first), _PAIRS_AT_ONCE):
            a, b = (side[start : start + _PAIRS_AT_ONCE] for side in (first, second))
            apart = clusters.roots(a) != clusters.roots(b)
            if not apart.any():
                continue
            a, b = a[apart], b[apart]
            alike, needed = likeness(shown, a, b, asked)
            compared += len(a)
            links += [
                Link(int(chosen[a[k]]), int(chosen[b[k]]), float(alike[k]))
                for k in np.flatnonzero(alike >= needed)
                if clusters.join(int(a[k]), int(b[k]))
            ]
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
    for row in range(0, len(hashes), _ROWS):
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

    def join(self, a: int, b: int) -> bool:
        """Makes two clusters one; False where they are one already."""
        first, second = sorted(int(root) for root in self.roots(np.array([a, b], np.int64)))
        self._parent[second] = first
        return first != second
