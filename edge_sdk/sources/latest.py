"""The newest frame of a live source: a thread reads, a slow consumer misses frames."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import NoFrameYetError, SourceLostError, UnreadableImageError
from edge_sdk.ports import FrameSource
from edge_sdk.types import Frame, Health

_log = logging.getLogger("edgecls.sources")

# The port requires an answer within 0.5 s.
_WAIT_S = 0.4
_CLOSE_S = 1.0
# One being written, the newest one, and the one in use by the reader.
_BUFFERS = 3


class LatestFrame:
    """Reads a source in a thread and returns the newest frame; older ones are dropped and counted.

    Each frame is copied once, into one of three buffers; the returned one is unchanged until the next
    ``read()``. If the driver may hang, use ``open_camera`` instead: a thread cannot be killed.

    Args:
        source: owned by this object: the thread closes it.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._changed = threading.Condition()
        self._buffers: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * _BUFFERS
        self._newest: tuple[int, Frame] | None = None
        self._handed_out = -1
        self._unreadable: UnreadableImageError | None = None
        self._failure: BaseException | None = None
        self._ended = self._closing = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, name="edgecls-latest", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced before they were read."""
        return self._dropped

    def take_health(self) -> Sequence[Health]:
        """Always empty: ``read()`` raises all errors."""
        return ()

    def read(self) -> Frame | None:
        """The newest unread frame; None once the source has ended or is closed.

        Raises:
            NoFrameYetError: none arrived within 0.4 s.
            UnreadableImageError: one picture could not be decoded; the next call continues.
            Exception: the error that ended the source, at every later call.
        """
        with self._changed:
            self._changed.wait_for(self._something, _WAIT_S)
            if self._closing:
                return None
            if self._newest is not None:
                self._handed_out, frame = self._newest
                self._newest = None
                return frame
            if self._unreadable is not None:
                unreadable, self._unreadable = self._unreadable, None
                raise unreadable
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return None
        raise NoFrameYetError(f"no frame within {_WAIT_S:g} s; call read() again")

    def _something(self) -> bool:
        return (
            self._newest is not None or self._unreadable is not None or self._ended or self._closing
        )

    def _work(self) -> None:
        try:
            while not self._closing:
                try:
                    frame = self._source.read()
                except NoFrameYetError:
                    continue
                except UnreadableImageError as error:
                    with self._changed:
                        self._unreadable = error
                        self._changed.notify_all()
                    continue
                if frame is None:
                    break
                self._keep(frame)
        except BaseException as error:  # noqa: BLE001  # read() raises it again
            self._failure = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        try:
            self._source.close()
        except Exception as error:  # noqa: BLE001  # no reader is left to raise it to
            _log.warning("the source could not be closed: %s", error)

    def _keep(self, frame: Frame) -> None:
        if not isinstance(frame.pixels, np.ndarray):
            raise SourceLostError(
                f"{frame.name}: returned {frame.pixels!r}, expected an array of pixels; open it again"
            )
        with self._changed:
            taken = (self._handed_out, self._newest[0] if self._newest else -1)
        free = next(i for i in range(_BUFFERS) if i not in taken)
        if frame.pixels.dtype != np.uint8:  # no picture: the classifier refuses it
            pixels = frame.pixels.copy()
        else:
            if self._buffers[free].shape != frame.pixels.shape:
                self._buffers[free] = np.empty(frame.pixels.shape, np.uint8)
            pixels = self._buffers[free]
            np.copyto(pixels, frame.pixels)
        with self._changed:
            self._dropped += self._newest is not None
            self._newest = free, dataclasses.replace(frame, pixels=pixels)
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the thread, which closes the source; a thread that hangs in its driver is abandoned."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)
            if self._thread.is_alive():
                _log.warning("the source hangs in read(); it is closed when read() returns")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
