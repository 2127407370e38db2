"""Picture files into frames, in order, a few ahead of whoever takes them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np

from edge_sdk.errors import UnreadableImageError
from edge_sdk.types import Frame
from edge_sdk.vision.images import MAX_PIXELS
from host_tools.data.pictures import Picture, read_picture

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
