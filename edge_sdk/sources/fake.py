"""A fake camera: plays pictures or a video at a rate, with scripted faults."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import (
    CameraNotFoundError,
    SourceLostError,
    SourceNotFoundError,
    UnreadableImageError,
)
from edge_sdk.sources.faults import (
    UNPLUGGED_S,
    FakeState,
    Fault,
    PictureFault,
    Replay,
    blocking_fault,
    parse_replay,
    picture_fault,
)
from edge_sdk.sources.folder import list_images
from edge_sdk.sources.video import VideoSource
from edge_sdk.types import Frame, PixelFormat
from edge_sdk.vision.images import read_image
from edge_sdk.vision.preprocess import Preprocessing, Preprocessor

_log = logging.getLogger("edgecls.sources")

# Limit on decoded pictures kept in memory, so that a small folder is decoded once.
_KEPT_BYTES = 64_000_000


class FakePictures(Protocol):
    """Pictures of one size and format; the result of ``next`` is valid until the next call."""

    format: PixelFormat

    def next(self) -> NDArray[np.uint8] | None:
        """The next picture, None after the last."""
        ...

    def rewind(self) -> None:
        """Goes back to the first."""
        ...

    def close(self) -> None:
        """Closes the files."""
        ...


def open_pictures(path: Path, size: tuple[int, int] | None) -> FakePictures:
    """Opens a folder, a picture or a video.

    Args:
        path: of the folder, picture or video.
        size: ``(width, height)`` in pixels; None: that of the first picture.

    Raises:
        SourceNotFoundError: no pictures and no video.
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
            raise SourceNotFoundError(
                f"{path}: no readable picture or video there; name a folder of pictures or a video"
            )
        self._place = 0

    def next(self) -> NDArray[np.uint8] | None:
        while self._place < len(self._files):
            file = self._files[self._place]
            try:
                pixels = self._read(file)
            except UnreadableImageError as error:
                _log.warning("skipped, cannot be read: %s", error)
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
            raise UnreadableImageError(str(path), "the video contains no picture")
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
        except UnreadableImageError:  # cut off: the readable part is played
            return None

    def rewind(self) -> None:
        self._file.close()
        self._file = VideoSource(self._path)

    def close(self) -> None:
        self._file.close()


# A sensor's dark picture contains noise.
_NOISE_MAX = 4
_NOISE_ROWS = 61


class FakeCamera:
    """Behaves like a camera: ``read()`` blocks until the next frame is due, frames have timestamps.

    Frames are due at fixed times. A late reader gets the latest frame and loses those in between, as
    with a driver that has one buffer.

    Args:
        path: a folder of pictures or a video. All pictures are resized to one size, by
            ``preprocess`` with a centre crop; unreadable ones are skipped with a warning.
        replay: rate and faults, as a value or as text: ``"fps=30&stall@100"``, see
            ``edge_sdk.sources.faults``.
        memory: path of a file that keeps the count of frames between openings, in any process;
            empty: every opening starts at 0.

    Raises:
        SourceNotFoundError: no pictures and no video.
        CameraNotFoundError: it is unplugged at this time.
        SourceSpecError: ``replay`` is invalid.
    """

    def __init__(self, path: str | Path, replay: Replay | str = "", *, memory: str = "") -> None:
        self._replay = parse_replay(replay) if isinstance(replay, str) else replay
        self.name = f"fake:{path}"
        self._memory = FakeState(memory)
        try:
            away_s = (self._memory.back_at_ns - time.monotonic_ns()) / 1e9
            if away_s > 0:
                raise CameraNotFoundError(
                    f"{self.name}: there is no such camera (it stays unplugged for {away_s:.1f} s); "
                    "plug it in"
                )
            self._pictures = open_pictures(Path(path), self._replay.size)
        except BaseException:
            self._memory.close()
            raise
        self._opened_at = self._memory.number
        self._index = 0
        self._closed = threading.Event()
        self._reading = (
            threading.RLock()
        )  # close() in another thread waits until read() has returned
        self._lost = False
        self._period_ns = round(1e9 / self._replay.fps) if self._replay.fps else 0
        self._due_ns = time.monotonic_ns()
        self._last: NDArray[np.uint8] | None = None
        self._looks: dict[str, NDArray[np.uint8]] = {}

    def read(self) -> Frame | None:
        """Waits for the next frame; None after ``close()`` or, without ``loop``, at the end.

        Raises:
            SourceLostError: it was unplugged.
        """
        with self._reading:
            return self._read()

    def _read(self) -> Frame | None:
        if self._closed.is_set():
            return None
        if self._lost:
            raise self._gone()
        number = self._memory.number
        while (fault := blocking_fault(self._replay, number)) is not None:
            if self._breaks(fault, number):
                return None
            number += 1
        seen_ns = self._wait()
        pixels = self._pixels(picture_fault(self._replay, number, self._opened_at), number)
        if pixels is None or self._closed.is_set():
            self.close()
            return None
        self._memory.put(number + 1, 0)
        index, self._index = self._index, self._index + 1
        sensed_ns = seen_ns - self._replay.queue_ms * 1_000_000
        return Frame(pixels, self._pictures.format, index, sensed_ns, self.name)

    def _breaks(self, fault: Fault, number: int) -> bool:
        """Performs the fault; True if the camera was closed meanwhile."""
        if fault.kind == "unplug":
            away_s = UNPLUGGED_S if fault.lasts is None else fault.lasts
            self._memory.put(number + 1, time.monotonic_ns() + round(away_s * 1e9))
            self._lost = True
            raise self._gone()
        self._memory.put(number + 1, 0)
        return self._closed.wait(fault.lasts)

    def _gone(self) -> SourceLostError:
        return SourceLostError(f"{self.name}: the camera is gone (unplugged); plug it in again")

    def _wait(self) -> int:
        """Sleeps until the next frame is due; returns that monotonic time."""
        now = time.monotonic_ns()
        if not self._period_ns:
            return now
        late = max(0, now - self._due_ns)
        seen_ns = self._due_ns + late // self._period_ns * self._period_ns
        self._due_ns = seen_ns + self._period_ns
        if seen_ns > now:
            self._closed.wait((seen_ns - now) / 1e9)
        return seen_ns

    def _pixels(self, look: PictureFault, number: int) -> NDArray[np.uint8] | None:
        if not look.frozen or self._last is None:
            self._last = self._pictures.next()
            if self._last is None and self._replay.loop:
                self._pictures.rewind()
                self._last = self._pictures.next()
            if self._last is None:
                return None
        pixels = self._last
        if look.swapped:
            pixels = np.bitwise_not(pixels[::-1], out=self._kept("swapped", pixels.shape))
        if look.black:
            pixels = self._dark(pixels.shape, number)
        return pixels

    def _dark(self, shape: tuple[int, ...], number: int) -> NDArray[np.uint8]:
        if "dark" not in self._looks:
            noise = np.random.default_rng(0)
            tall = (shape[0] + _NOISE_ROWS, *shape[1:])
            self._looks["dark"] = noise.integers(0, _NOISE_MAX + 1, tall, np.uint8)
        row = number * 7 % _NOISE_ROWS  # another part of the noise in every frame
        return self._looks["dark"][row : row + shape[0]]

    def _kept(self, look: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        if look not in self._looks:
            self._looks[look] = np.empty(shape, np.uint8)
        return self._looks[look]

    def close(self) -> None:
        """Ends the source, and a ``read()`` that blocks in another thread."""
        if not self._closed.is_set():
            self._closed.set()
            with self._reading:
                self._pictures.close()
                self._memory.close()
