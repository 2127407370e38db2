"""How alike two pictures are, judged by thumbnails of 32x32 gray pixels.

A perceptual hash is compared quickly: Christoph Zauner, "Implementation and Benchmarking of
Perceptual Image Hash Functions", 2010, the one based on the DCT. It knows coarse shapes only, so
that two dark bottles on white paper may share it. The correlation of edges knows them apart.
"""

from __future__ import annotations

from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Indices = NDArray[np.int64]

SIDE_PX = 32

# Measured on CIFAR-10, TrashNet, Tiny ImageNet and handwritten digits by looking at the pairs.
# Correlation of edges from which two pictures are one; more is asked of pictures whose edges all
# lie on a small share of their area, as a small object's on plain ground do.
_ALIKE, _ALIKE_WHERE_PLAIN = 0.65, 0.8
_PLAIN_SHARE = 0.1
# Below this second difference (in gray levels) a picture has no edges to be compared by.
MIN_DETAIL = 1.5
# Where pictures of a class are alike anyway, copies must be alike beyond what chance brings. Among all
# 160,000 pairs of digits of the same kind the most alike was 4.3 deviations out, where a normal
# distribution expects 4.4; a margin is added, and more is asked where there are more pairs.
_MARGIN = 1.0
_FEWEST_DEVIATIONS = 5.5
# Copies that were compressed again are within this limit.
_MOST_ASKED = 0.995
_SAMPLED_PAIRS = 10_000
_FEWEST_PAIRS = 30
_ASKED_OF_FEW = 0.95

_AT_ONCE = 1024
# More pairs than these are pairs of few pictures, and one matrix product is faster and smaller.
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


def likeness_asked(thumbnails: Gray, labels: Indices) -> float:
    """The correlation of edges that copies must exceed in this data set.

    Pictures of a class are alike to begin with, handwritten sixes more than photographs of dogs.
    Correlations of pairs of a class, drawn at random, are made normal by Fisher's transform
    (``arctanh``); their median and median deviation, which a few copies do not move, say where
    ordinary likeness ends.
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
    thumbnails: Gray, first: Indices, second: Indices, asked: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of every pair the correlation of edges, and the one that it must reach."""
    (rows, row_of), (columns, column_of) = (
        np.unique(side, return_inverse=True) for side in (first, second)
    )
    (a, plain_a), (b, plain_b) = _edges(thumbnails[rows]), _edges(thumbnails[columns])
    plain = plain_a[row_of] | plain_b[column_of]
    needed = np.where(plain, max(asked, _ALIKE_WHERE_PLAIN), asked).astype(np.float32)
    if len(first) > PAIRS_AT_ONCE:
        return (a @ b.T)[row_of, column_of], needed
    return np.einsum("ij,ij->i", a[row_of], b[column_of]), needed


def _edges(thumbnails: Gray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Differences of neighbours, as vectors of length 1, and whether they lie on a small area.

    The mean difference is taken off, so that skies that fade alike are not alike.
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
