"""Files as a source: pictures and videos, in the order of their names, read ahead."""

from __future__ import annotations

import dataclasses
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import NoFrameYetError, SourceNotFoundError, UnreadableImageError
from edge_sdk.ports import FrameSource
from edge_sdk.sources.video import VideoSource
from edge_sdk.types import Frame
from edge_sdk.vision.images import EXTENSIONS, MAX_PIXELS, read_image


class FolderSource:
    """Reads every picture below the given paths once.

    Args:
        paths: folders, searched recursively for picture extensions, and files with any name.
        max_pixels: larger pictures are refused before decoding.

    Raises:
        SourceNotFoundError: a path does not exist, or none contains a picture.
    """

    def __init__(self, *paths: str | Path, max_pixels: int = MAX_PIXELS) -> None:
        self._files = tuple(file for path in paths for file in list_images(Path(path)))
        if not self._files:
            raise SourceNotFoundError(
                f"{', '.join(map(str, paths))}: no pictures there "
                f"(looked for {' '.join(EXTENSIONS)}, in subfolders too)"
            )
        self._max_pixels = max_pixels
        self._next = 0

    def __len__(self) -> int:
        return len(self._files)

    def read(self) -> Frame | None:
        """The next picture, None after the last one or after ``close()``.

        Raises:
            UnreadableImageError: this one cannot be decoded; the next call goes on behind it.
        """
        if self._next >= len(self._files):
            return None
        index, self._next = self._next, self._next + 1
        return read_image(self._files[index], index=index, max_pixels=self._max_pixels)

    def close(self) -> None:
        """Ends the source."""
        self._next = len(self._files)


def list_images(path: Path) -> Sequence[Path]:
    """The picture files in a folder and its subfolders, sorted, without hidden ones; or the file itself.

    Raises:
        SourceNotFoundError: ``path`` does not exist.
    """
    if path.is_dir():
        return sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in EXTENSIONS
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and file.is_file()
        )
    if not path.exists():
        raise SourceNotFoundError(f"{path}: there is no such file or folder")
    return [path]


class Chain:
    """Reads each source to its end, with continuous frame numbers.

    Args:
        openers: each opens one source when it is needed; ``read()`` raises their errors.
    """

    def __init__(self, openers: Sequence[Callable[[], FrameSource]]) -> None:
        self._openers = list(openers)
        self._source: FrameSource | None = None
        self._index = 0

    def read(self) -> Frame | None:
        """The next frame of the current source, None after the end of the last.

        Raises:
            SourceError: from the source, or from opening it.
        """
        while True:
            if self._source is None:
                if not self._openers:
                    return None
                self._source = self._openers.pop(0)()
            frame = self._source.read()
            if frame is not None:
                index, self._index = self._index, self._index + 1
                return dataclasses.replace(frame, index=index)
            self._source.close()
            self._source = None

    def close(self) -> None:
        """Closes the current source; later ones are never opened."""
        self._openers.clear()
        if self._source is not None:
            self._source.close()
            self._source = None


_log = logging.getLogger("edgecls.sources")

_WAIT_S = 0.4  # the port requires an answer within 0.5 s
_CLOSE_S = 1.0
# Four photographs of 5 megapixels; fewer larger ones are kept ready, and one of the largest.
MOST_BYTES = 64_000_000


class ReadAhead:
    """Reads a source in a thread, some frames ahead; delivers every frame, in order.

    Errors are raised at their place in the order. Decoding a file and running a model both release the
    GIL, so two cores run them at the same time. Not for cameras: their frames would age in the queue.

    Args:
        source: owned and closed by this object.
        frames: how many to keep ready, at least 1.
        copies: each frame is copied once, into one of a few reused buffers; False: the source
            returns each frame in a new array.
        most_bytes: limit on ready frames; one frame of any size is always allowed.
    """

    def __init__(
        self,
        source: FrameSource,
        frames: int = 4,
        *,
        copies: bool = True,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._source = source
        self._copies = copies
        self._most_bytes = most_bytes
        self._kept_bytes = most_bytes // (frames + 2)
        self._taken = threading.Condition()
        self._ready_bytes = self._last_bytes = 0
        self._ready: queue.Queue[Frame | BaseException | None] = queue.Queue(frames)
        self._free: queue.SimpleQueue[NDArray[np.uint8]] = queue.SimpleQueue()
        for _ in range(frames + 2):  # one is being filled, one is in use by the reader
            self._free.put(np.empty(0, np.uint8))
        self._handed_out: NDArray[np.uint8] | None = None
        self._end: Frame | BaseException | None = None
        self._ended = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="edgecls-ahead", daemon=True)
        self._thread.start()

    def read(self) -> Frame | None:
        """The next frame, None after the last one or after ``close()``.

        Raises:
            NoFrameYetError: none was ready within 0.4 s.
            UnreadableImageError: this one cannot be decoded; the next call continues after it.
            Exception: the error that ended the source, at every later call.
        """
        if self._handed_out is not None:
            large = self._handed_out.nbytes > self._kept_bytes
            self._free.put(np.empty(0, np.uint8) if large else self._handed_out)
            self._handed_out = None
        if self._closing.is_set():
            return None
        if not self._ended:
            try:
                item = self._ready.get(timeout=_WAIT_S)
            except queue.Empty:
                raise NoFrameYetError(f"no frame within {_WAIT_S:g} s; call read() again") from None
            if isinstance(item, Frame):
                with self._taken:
                    self._ready_bytes -= _bytes(item)
                    self._taken.notify()
                # The frame is one of our buffers.
                self._handed_out = item.pixels if self._copies and _is_picture(item) else None
                return item
            if isinstance(item, UnreadableImageError):
                raise item
            self._ended, self._end = True, item
        if isinstance(self._end, BaseException):
            raise self._end
        return None

    def _work(self) -> None:
        try:
            while self._wait_for_room():
                try:
                    frame = self._source.read()
                except NoFrameYetError:
                    continue
                except UnreadableImageError as error:
                    self._put(error)
                    continue
                if frame is None:
                    break
                frame = self._copy(frame) if self._copies else frame
                with self._taken:
                    self._last_bytes = _bytes(frame)
                    self._ready_bytes += self._last_bytes
                self._put(frame)
                del frame
            self._put(None)
        except BaseException as error:  # noqa: BLE001  # read() raises it again
            self._put(error)
        try:
            self._source.close()
        except Exception as error:  # noqa: BLE001  # no reader is left to raise it to
            _log.warning("the source could not be closed: %s", error)

    def _wait_for_room(self) -> bool:
        """Waits until one more frame like the last fits; False: the thread must end."""
        with self._taken:
            while not self._closing.is_set():
                if (
                    not self._ready_bytes
                    or self._ready_bytes + self._last_bytes <= self._most_bytes
                ):
                    return True
                self._taken.wait(_WAIT_S)
        return False

    def _copy(self, frame: Frame) -> Frame:
        if not _is_picture(frame):
            return frame  # no picture: the classifier refuses it
        pixels = self._free.get()
        if pixels.shape != frame.pixels.shape:
            pixels = np.empty(frame.pixels.shape, np.uint8)
        np.copyto(pixels, frame.pixels)
        return dataclasses.replace(frame, pixels=pixels)

    def _put(self, item: Frame | BaseException | None) -> None:
        while not self._closing.is_set():
            try:
                self._ready.put(item, timeout=_WAIT_S)
            except queue.Full:
                continue
            return

    def close(self) -> None:
        """Ends the thread, which closes the source; a thread that hangs in its driver is abandoned."""
        self._closing.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _bytes(frame: Frame) -> int:
    return frame.pixels.nbytes if _is_picture(frame) else 0


def _is_picture(frame: Frame) -> bool:
    return isinstance(frame.pixels, np.ndarray) and frame.pixels.dtype == np.uint8


def open_files(paths: Sequence[Path], *, max_pixels: int = MAX_PIXELS) -> FrameSource:
    """Every frame of folders, pictures and videos, in the given order.

    With more than one core, pictures are decoded in a thread while the model runs. Videos are decoded
    ahead by FFmpeg's own threads; another thread with a copy of each frame was slower (1280 x 720 to a
    MobileNetV2: 0.86 of the rate, median of eleven pairs of runs on two busy cores).

    Args:
        paths: at least one. A file without a picture extension is opened as a video; if it is none,
            as a picture.
        max_pixels: larger pictures are refused before decoding.

    Raises:
        SourceNotFoundError: a path does not exist, or consecutive folders contain no picture.
    """
    openers: list[Callable[[], FrameSource]] = []
    pictures: list[Path] = []

    def gather() -> None:
        if pictures:
            source = FolderSource(*pictures, max_pixels=max_pixels)
            openers.append(partial(_ahead, source))
            pictures.clear()

    for path in paths:
        if path.is_dir() or path.suffix.lower() in EXTENSIONS or not _is_video(path):
            pictures.append(path)
        else:
            gather()
            openers.append(partial(VideoSource, path, max_pixels=max_pixels))
    gather()
    return openers[0]() if len(openers) == 1 else Chain(openers)


def _ahead(source: FrameSource) -> FrameSource:
    # Each picture is decoded into a new array.
    return ReadAhead(source, copies=False) if (os.cpu_count() or 1) > 1 else source


def _is_video(path: Path) -> bool:
    """Whether a file can be opened as a video: a picture may have any name."""
    from edge_sdk.errors import UnreadableImageError

    try:
        VideoSource(path).close()
    except UnreadableImageError:
        return False
    return True
