"""Reading ahead: the next frames are decoded while this one is classified; for files."""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import NoFrameYetError, UnreadableImageError
from edge_sdk.ports import FrameSource
from edge_sdk.types import Frame

_log = logging.getLogger("edgecls.sources")

_WAIT_S = 0.4  # the port promises an answer within half a second
_CLOSE_S = 1.0
# Four photographs of 5 megapixels; of larger ones fewer are ready, and one of the largest.
MOST_BYTES = 64_000_000


class ReadAhead:
    """Reads a source in a thread, up to some frames ahead; every frame comes, in order.

    Errors come at their place in the order, too. Decoding a file and running a model both leave
    Python's lock alone, so that two cores do them at the same time. For a camera this would be wrong:
    its frames would grow old in the queue.

    Args:
        source: belongs to this one from now on: it is closed with it.
        frames: how many to keep ready, at least 1.
        copies: each frame is copied once, into one of a few buffers that are used again; False: the
            source gives each frame in an array of its own.
        most_bytes: of frames that are ready; one is kept ready whatever its size.
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
        for _ in range(frames + 2):  # one is being filled, one is handed out
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
            UnreadableImageError: this one cannot be decoded; the next call goes on behind it.
            Exception: whatever ended the source, at every call from there on.
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
                raise NoFrameYetError(f"no frame within {_WAIT_S:g} s; ask again") from None
            if isinstance(item, Frame):
                with self._taken:
                    self._ready_bytes -= _bytes(item)
                    self._taken.notify()
                # Then it is one of our buffers.
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
        except BaseException as error:  # noqa: BLE001  # it is raised again, where somebody reads
            self._put(error)
        try:
            self._source.close()
        except Exception as error:  # noqa: BLE001  # nobody is left to raise it to
            _log.warning("the source could not be closed: %s", error)

    def _wait_for_room(self) -> bool:
        """Waits until another frame like the last may be ready; False: it is to end."""
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
            return frame  # no picture, which is for others to say
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
        """Ends the thread, which closes the source; one that hangs in its driver is left behind."""
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
