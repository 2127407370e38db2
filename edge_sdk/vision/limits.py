"""Limits on a picture's pixels, memory and work, checked before decoding.

The limits apply to all pictures: files, folders, cameras, streams, videos, uploads. Those on memory and
work follow from the one on pixels, which a user sets, and from the memory that the process may still
allocate (within its control group too, see ``edge_sdk.machine.load``):

* pixels: ``max_pixels``, 64 million by default;
* memory: 9 bytes for each allowed pixel, 576 MB by default, and at most half of the free memory;
* work: 16 passes of the decoder over the largest allowed picture, proportionally more over a smaller
  one; a usual progressive JPEG takes 5 to 8.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from edge_sdk.errors import UnreadableImageError
from edge_sdk.files import size_text
from edge_sdk.machine.board import System
from edge_sdk.machine.load import usable_memory_bytes
from edge_sdk.vision.headers import ImageHeader

# At least the 64 megapixels of the largest camera sold for a Raspberry Pi, below a decompression bomb.
MAX_PIXELS = 64_000_000

# Three for the result and at most six for the decoder: a progressive JPEG's coefficients. Only GIFs need
# more, and must be smaller.
_BYTES_PER_PIXEL = 9
_PASSES = 16
_CAPTURE_BYTES_PER_PIXEL = 16
_CAPTURE_LEAST_BYTES = 128_000_000
# Below this size free memory is not checked: the check takes a millisecond, too long for camera frames.
_UNMEASURED_BYTES = 32_000_000
_SHARE_OF_MEMORY = 0.5
# Interval of repeated checks: other programs may free memory too.
_WAIT_S = 1.0


def file_bytes(max_pixels: int) -> int:
    """The size limit of a picture file: an uncompressed one of 8 or 16 bits."""
    return _BYTES_PER_PIXEL * max_pixels + 1_000_000


def capture_bytes(max_pixels: int, usable_bytes: int | None) -> int:
    """The memory limit of a capture process for a camera or a stream.

    Sixteen bytes for each allowed pixel: a stream's decoder keeps several frames. At most the free
    memory, and at least 128 MB, which FFmpeg's threads need to start.
    """
    most = _CAPTURE_BYTES_PER_PIXEL * max_pixels
    return max(_CAPTURE_LEAST_BYTES, most if usable_bytes is None else min(most, usable_bytes))


def check_pixels(width: int, height: int, name: str, max_pixels: int) -> None:
    """Refuses a picture or a camera's frames that exceed the limit on pixels.

    Raises:
        UnreadableImageError: more than ``max_pixels``.
    """
    if width * height > max_pixels:
        raise UnreadableImageError(
            name,
            f"{width} x {height} pixels are more than the limit of {max_pixels / 1e6:g} megapixels; "
            "raise it with --max-megapixels if this size is intended",
        )


class DecodingRoom:
    """The memory budget for decoding, shared by all threads.

    Args:
        system: the machine whose memory it is.
    """

    def __init__(self, system: System | None = None) -> None:
        self._system = system or System()
        self._freed = threading.Condition()
        self._taken = 0

    @contextlib.contextmanager
    def take(
        self, header: ImageHeader, name: str, max_pixels: int, most_bytes: int | None = None
    ) -> Iterator[None]:
        """Reserves memory for a picture while it is decoded; waits for other threads if needed.

        Args:
            header: of the picture.
            name: of the picture, for the error.
            max_pixels: limit on pixels.
            most_bytes: limit on memory; None: as ``max_pixels`` implies.

        Raises:
            UnreadableImageError: it exceeds the limit on pixels, memory or work.
        """
        check_pixels(header.width, header.height, name, max_pixels)
        pixels, needed = header.width * header.height, header.memory_bytes
        if pixels * header.passes > _PASSES * max_pixels:
            raise UnreadableImageError(
                name,
                f"its scans go {header.passes:.0f} times over {pixels / 1e6:.1f} megapixels, expected "
                f"{_PASSES * max_pixels / pixels:.0f} times at most; save it again as a baseline JPEG",
            )
        most = min(_BYTES_PER_PIXEL * max_pixels, most_bytes or needed)
        if needed > most:
            raise UnreadableImageError(
                name,
                f"decoding it takes {size_text(needed)} of memory ({header.kind}, {header.width} x "
                f"{header.height} pixels), more than the {size_text(most)} allowed; make it smaller, "
                "save it as JPEG or PNG, or raise --max-megapixels",
            )
        with self._freed:
            self._wait(needed, header, name)
            self._taken += needed
        try:
            yield
        finally:
            with self._freed:
                self._taken -= needed
                self._freed.notify_all()

    def _wait(self, needed: int, header: ImageHeader, name: str) -> None:
        if needed <= _UNMEASURED_BYTES:
            return
        while True:
            usable = usable_memory_bytes(self._system)
            room = None if usable is None else int(usable * _SHARE_OF_MEMORY)
            # Memory reserved by others may not be allocated yet, so it is subtracted.
            if room is None or needed + self._taken <= room:
                return
            if not self._taken:
                raise UnreadableImageError(
                    name,
                    f"decoding it takes {size_text(needed)} of memory ({header.width} x "
                    f"{header.height} pixels), more than half of the {size_text(usable or 0)} of free "
                    "memory; make the picture smaller, or free some memory",
                )
            self._freed.wait(_WAIT_S)
