"""How large a picture may be: pixels, memory and work, known before anything is decoded.

The limits hold for pictures from everywhere: files, folders, cameras, streams, videos, uploads. Those on
memory and work follow from the one on pixels, which a user sets, and from the memory that the process may
still take (the control group's included, see ``edge_sdk.machine.load``):

* pixels: ``max_pixels``, 64 million by default;
* memory: 9 bytes for each pixel that is allowed, 576 MB by default, and at most half of what is left;
* work: 16 passes of the decoder over the largest picture allowed, or as many more over a smaller one; a
  progressive JPEG as encoders write it takes 5 to 8.
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

# Above the 64 megapixels of the largest camera sold for a Raspberry Pi, below a decompression bomb.
MAX_PIXELS = 64_000_000

# Three for the result and six for what the decoder needs besides, at most: a progressive JPEG's
# coefficients. Only GIFs need more, and have to be smaller.
_BYTES_PER_PIXEL = 9
_PASSES = 16
_CAPTURE_BYTES_PER_PIXEL = 16
_CAPTURE_LEAST_BYTES = 128_000_000
# What a camera's frame takes is not worth a look at the machine's files, which takes a millisecond.
_UNMEASURED_BYTES = 32_000_000
_SHARE_OF_MEMORY = 0.5
# Other programs may free memory, too: then it is looked at again.
_WAIT_S = 1.0


def file_bytes(max_pixels: int) -> int:
    """The largest file that is read for a picture: one without compression, of 8 or 16 bits."""
    return _BYTES_PER_PIXEL * max_pixels + 1_000_000


def capture_bytes(max_pixels: int, usable_bytes: int | None) -> int:
    """Memory that a capture process may take for a camera or a stream.

    Sixteen bytes for each pixel that is allowed: a stream's decoder keeps several frames. At most
    what is left, and 128 MB in any case, which FFmpeg's threads want to start at all.
    """
    most = _CAPTURE_BYTES_PER_PIXEL * max_pixels
    return max(_CAPTURE_LEAST_BYTES, most if usable_bytes is None else min(most, usable_bytes))


def check_pixels(width: int, height: int, name: str, max_pixels: int) -> None:
    """Refuses a picture, or a camera's frames, for their size.

    Raises:
        UnreadableImageError: more than ``max_pixels``.
    """
    if width * height > max_pixels:
        raise UnreadableImageError(
            name,
            f"{width} x {height} pixels are more than the limit of {max_pixels / 1e6:g} megapixels; "
            "raise it with --max-megapixels if the picture is meant",
        )


class DecodingRoom:
    """Memory for pictures that are being decoded, in all threads together.

    Args:
        system: whose memory it is.
    """

    def __init__(self, system: System | None = None) -> None:
        self._system = system or System()
        self._freed = threading.Condition()
        self._taken = 0

    @contextlib.contextmanager
    def take(
        self, header: ImageHeader, name: str, max_pixels: int, most_bytes: int | None = None
    ) -> Iterator[None]:
        """Room for a picture while it is decoded; waits for other threads' pictures where need be.

        Args:
            header: of the picture.
            name: of the picture, for the error.
            max_pixels: pixels that are allowed.
            most_bytes: memory that is allowed; None: as much as the pixels allow.

        Raises:
            UnreadableImageError: it exceeds the limit on pixels, memory or work.
        """
        check_pixels(header.width, header.height, name, max_pixels)
        pixels, needed = header.width * header.height, header.memory_bytes
        if pixels * header.passes > _PASSES * max_pixels:
            raise UnreadableImageError(
                name,
                f"its scans go {header.passes:.0f} times over {pixels / 1e6:.1f} megapixels, expected "
                f"{_PASSES * max_pixels / pixels:.0f} times at most; save it anew as an ordinary JPEG",
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
            # What others have reserved may be taken already, or not yet: it is subtracted.
            if room is None or needed + self._taken <= room:
                return
            if not self._taken:
                raise UnreadableImageError(
                    name,
                    f"decoding it takes {size_text(needed)} of memory ({header.width} x "
                    f"{header.height} pixels), more than half of the {size_text(usable or 0)} that are "
                    "left here; make the picture smaller, or free some memory",
                )
            self._freed.wait(_WAIT_S)
