"""Duplicate pictures: exact copies by their pixels, near copies by a perceptual hash and edges.

A perceptual hash is compared quickly: Christoph Zauner, "Implementation and Benchmarking of
Perceptual Image Hash Functions", 2010, the one based on the DCT. It captures coarse shapes only, so
that two dark bottles on white paper may share it. The correlation of edges separates them.

Near copies are found in two steps: a hash proposes pairs, and their edges are compared. Mirrored,
rotated and strongly cropped copies are not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from host_tools.progress import progress

Gray = NDArray[np.uint8]
Indices = NDArray[np.int64]

SIDE_PX = 32

# Measured on CIFAR-10, TrashNet, Tiny ImageNet and handwritten digits by looking at the pairs.
# Correlation of edges from which two pictures count as copies. The limit is higher for pictures
# whose edges cover a small share of their area, such as a small object on a plain background.
_ALIKE, _ALIKE_WHERE_PLAIN = 0.65, 0.8
_PLAIN_SHARE = 0.1
# Below this second difference (in gray levels) a picture has no edges to compare.
MIN_DETAIL = 1.5
# Where pictures of a class are similar, copies must be more similar than chance explains. Among all
# 160,000 pairs of digits of the same kind the most similar was 4.3 deviations out; a normal
# distribution expects 4.4. A margin is added, and the limit grows with the number of pairs.
_MARGIN = 1.0
_FEWEST_DEVIATIONS = 5.5
# Recompressed copies are within this limit.
_MOST_ASKED = 0.995
_SAMPLED_PAIRS = 10_000
_FEWEST_PAIRS = 30
_ASKED_OF_FEW = 0.95

_AT_ONCE = 1024
# Above this number of pairs one matrix product over all pictures is faster and takes less memory.
PAIRS_AT_ONCE = 4096


def perceptual_hashes(thumbnails: Gray) -> NDArray[np.uint64]:
    """Zauner's pHash: which of the 8x8 lowest frequencies (but for the constant) exceed their median.

    Args:
        thumbnails: ``(N, 32, 32)`` uint8 gray.

    Returns:
        ``(N,)`` uint64.
    """
    bits = np.empty((len(thumbnails), 64), bool)
    for index, thumbnail in enumerate(thumbnails):
        low = cv2.dct(thumbnail.astype(np.float32))[1:9, 1:9].ravel()
        bits[index] = low > np.median(low)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def least_likeness(thumbnails: Gray, labels: Indices) -> float:
    """The correlation of edges that copies must exceed in this data set.

    Pictures of a class are similar to begin with, handwritten sixes more than photographs of dogs.
    Correlations of pairs of a class, drawn at random, are made normal by Fisher's transform
    (``arctanh``); their median and median deviation, which a few copies do not move, give the limit of
    ordinary likeness.
    """
    first, second = _ordinary_pairs(labels)
    if not len(first):
        return _ASKED_OF_FEW
    parts = [
        likeness(thumbnails, first[k : k + _AT_ONCE], second[k : k + _AT_ONCE], 0.0)[0]
        for k in range(0, len(first), _AT_ONCE)
    ]
    z = np.arctanh(np.clip(np.concatenate(parts), -_MOST_ASKED, _MOST_ASKED))
    middle = np.median(z)
    deviation = 1.4826 * np.median(np.abs(z - middle))  # of a normal distribution
    per_class = np.bincount(labels).astype(float)
    among = max(float((per_class * (per_class - 1) / 2).sum()), _FEWEST_PAIRS)
    out = max(_FEWEST_DEVIATIONS, NormalDist().inv_cdf(1 - 1 / among) + _MARGIN)
    return float(np.clip(np.tanh(middle + out * deviation), _ALIKE, _MOST_ASKED))


def _ordinary_pairs(labels: Indices) -> tuple[Indices, Indices]:
    """Random pairs of one class; of any classes where classes have too few pictures."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(max(1, len(labels)), size=(2, 20 * _SAMPLED_PAIRS))
    for one_class in (True, False):
        fits = first < second
        if one_class and len(labels):
            fits &= labels[first] == labels[second]
        pairs = np.unique(np.stack([first[fits], second[fits]]), axis=1)
        if pairs.shape[1] >= _FEWEST_PAIRS:
            chosen = rng.permutation(pairs.shape[1])[:_SAMPLED_PAIRS]
            return pairs[0, chosen], pairs[1, chosen]
    return first[:0], second[:0]


def likeness(
    thumbnails: Gray, first: Indices, second: Indices, least: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For every pair, the correlation of edges and the one that it must reach."""
    (rows, row_of), (columns, column_of) = (
        np.unique(side, return_inverse=True) for side in (first, second)
    )
    (a, plain_a), (b, plain_b) = _edges(thumbnails[rows]), _edges(thumbnails[columns])
    plain = plain_a[row_of] | plain_b[column_of]
    needed = np.where(plain, max(least, _ALIKE_WHERE_PLAIN), least).astype(np.float32)
    if len(first) > PAIRS_AT_ONCE:
        return (a @ b.T)[row_of, column_of], needed
    return np.einsum("ij,ij->i", a[row_of], b[column_of]), needed


def _edges(thumbnails: Gray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Differences of neighbours, as vectors of length 1, and whether they lie on a small area.

    The mean difference is subtracted, so that two skies with the same gradient do not match.
    """
    pixels = thumbnails.astype(np.float32)
    across = np.diff(pixels, axis=2)[:, 1:]
    down = np.diff(pixels, axis=1)[:, :, 1:]
    both = np.stack([across, down], axis=1)
    both -= both.mean(axis=(2, 3), keepdims=True)
    both /= np.maximum(np.sqrt((both**2).sum(axis=(1, 2, 3), keepdims=True)), 1e-6)
    energy = (both**2).sum(axis=1).reshape(len(pixels), -1)
    # The participation ratio: 1 where all pixels have as much of an edge, 1/n where one has all.
    share = 1 / (energy.shape[1] * np.maximum((energy**2).sum(axis=1), 1e-12))
    return both.reshape(len(pixels), -1), share < _PLAIN_SHARE


def detail(thumbnails: Gray) -> NDArray[np.float64]:
    """Root mean square of second differences, in gray levels; 0 for flat and evenly fading pictures."""
    detail = np.empty(len(thumbnails))
    for start in range(0, len(thumbnails), _AT_ONCE):
        pixels = thumbnails[start : start + _AT_ONCE].astype(np.float32)
        square = sum((np.diff(pixels, 2, axis=axis) ** 2).mean(axis=(1, 2)) for axis in (1, 2))
        detail[start : start + _AT_ONCE] = np.sqrt(square)
    return detail


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
    """The result of the search for near copies.

    Attributes:
        groups: of two pictures and more that differ.
        bits: the search's radius.
        least: correlation of edges that near copies reach at least, see ``least_likeness``.
        complete: False where nearly all pictures share their hash and not all were compared.
    """

    groups: tuple[CopyGroup, ...]
    bits: int
    least: float
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
    """Groups of pictures that look the same without equal pixels.

    Args:
        thumbnails: ``(N, 32, 32)`` uint8 gray.
        labels: ``(N,)`` class indices; the ordinary likeness is measured within classes.
        digests: N; of exact copies the first is compared, and the others follow it.
        bits: 0..64, how far two hashes may be apart.
    """
    exact = {group.members[0]: group.members for group in exact_copies(digests)}
    copies = {index for members in exact.values() for index in members[1:]}
    distinct = np.array([i for i in range(len(digests)) if i not in copies], np.int64)
    chosen = distinct[detail(thumbnails[distinct]) >= MIN_DETAIL]
    shown = thumbnails[chosen]
    least = least_likeness(shown, labels[chosen])
    clusters = _Clusters(len(chosen))
    links: list[Link] = []
    compared = 0
    for first, second in close_pairs(perceptual_hashes(shown), bits):
        apart = clusters.apart(first, second)
        first, second = first[apart], second[apart]
        if not len(first):
            continue
        compared += len(first)
        alike, needed = likeness(shown, first, second, least)
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
        tuple(sorted(whole, key=lambda g: g.members)), bits, least, compared <= MOST_PAIRS
    )


def close_pairs(hashes: NDArray[np.uint64], bits: int) -> Iterator[tuple[Indices, Indices]]:
    """All pairs of hashes that differ in at most ``bits`` bits, block by block, each pair once.

    Every pair is compared: 60,000 pictures are 1.8 billion, which takes 10 seconds.

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
    """Union-find over ``0..n-1`` that looks up many roots at once."""

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
