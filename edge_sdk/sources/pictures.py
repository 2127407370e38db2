"""What a fake camera plays: a folder or a video as pictures of one size, from the start at will."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import SourceNotFoundError, UnreadableImageError
from edge_sdk.sources.folder import list_images
from edge_sdk.sources.video import VideoSource
from edge_sdk.types import Frame, PixelFormat
from edge_sdk.vision.images import read_image
from edge_sdk.vision.preprocess import Preprocessing, Preprocessor

_log = logging.getLogger("edgecls.sources")

# Decoded pictures that are kept, so that a small folder is not decoded again at every turn.
_KEPT_BYTES = 64_000_000


class Pictures(Protocol):
    """Pictures of one size and format; what ``next`` gives is valid until the next call."""

    format: PixelFormat

    def next(self) -> NDArray[np.uint8] | None:
        """The next picture, None after the last."""
        ...

    def rewind(self) -> None:
        """Goes back to the first."""
        ...

    def close(self) -> None:
        """Lets go of files."""
        ...


def open_pictures(path: Path, size: tuple[int, int] | None) -> Pictures:
    """Opens a folder, a picture or a video.

    Args:
        path: which.
        size: ``(width, height)`` in pixels; None: that of the first picture.

    Raises:
        SourceNotFoundError: nothing to play.
    """
    if path.is_file():
        try:
            return _Video(path, size)
        except UnreadableImageError:
            pass  # a picture, perhaps
    return _Folder(path, size)


class _Folder:
    format: PixelFormat = "rgb"

    def __init__(self, path: Path, size: tuple[int, int] | None) -> None:
        self._files = list(list_images(path))
        self._size = size
        self._fit: Preprocessor | None = None
        self._decoded: dict[Path, NDArray[np.uint8]] = {}
        self._kept_bytes = 0
        self._place = 0
        if self.next() is None:
            raise SourceNotFoundError(f"{path}: no picture or video that can be played there")
        self._place = 0

    def next(self) -> NDArray[np.uint8] | None:
        while self._place < len(self._files):
            file = self._files[self._place]
            try:
                pixels = self._read(file)
            except UnreadableImageError as error:
                _log.warning("left out, cannot be read: %s", error)
                del self._files[self._place]
                continue
            self._place += 1
            return pixels
        return None

    def _read(self, file: Path) -> NDArray[np.uint8]:
        if file in self._decoded:
            return self._decoded[file]
        frame = read_image(file)
        if self._fit is None:
            height, width = frame.pixels.shape[:2]
            self._fit = Preprocessor(Preprocessing(*(self._size or (width, height))))
        pixels = self._fit(frame)
        if self._kept_bytes + pixels.nbytes <= _KEPT_BYTES:
            pixels = self._decoded[file] = pixels.copy()
            self._kept_bytes += pixels.nbytes
        return pixels

    def rewind(self) -> None:
        self._place = 0

    def close(self) -> None:
        self._files.clear()


class _Video:
    def __init__(self, path: Path, size: tuple[int, int] | None) -> None:
        self._path = path
        self._fit = Preprocessor(Preprocessing(*size)) if size else None
        self._file = VideoSource(path)
        first = self._next()
        if first is None:
            raise UnreadableImageError(str(path), "there is no picture in this video")
        self.format: PixelFormat = "rgb" if self._fit else first.format
        self.rewind()

    def next(self) -> NDArray[np.uint8] | None:
        frame = self._next()
        if frame is None:
            return None
        return self._fit(frame) if self._fit else frame.pixels

    def _next(self) -> Frame | None:
        try:
            return self._file.read()
        except UnreadableImageError:  # cut off: what there is of it is played
            return None

    def rewind(self) -> None:
        self._file.close()
        self._file = VideoSource(self._path)

    def close(self) -> None:
        self._file.close()
