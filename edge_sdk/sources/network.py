"""Cameras on the network: RTSP, and MJPEG over HTTP."""

from __future__ import annotations

import time
from typing import Any

import cv2
from numpy.typing import NDArray

from edge_sdk.errors import (
    CameraNotFoundError,
    NoFrameYetError,
    SourceLostError,
    UnreadableImageError,
)
from edge_sdk.redaction import redact
from edge_sdk.sources.capture import as_frame, check_size, deliver_encoded, grab, open_capture
from edge_sdk.types import Frame
from edge_sdk.vision.images import decode_image
from edge_sdk.vision.limits import MAX_PIXELS

OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 5000
# TCP: a lossy UDP stream gives corrupted pictures, which a classifier cannot recognise as such.
_ENVIRONMENT = {"OPENCV_FFMPEG_CAPTURE_OPTIONS": "rtsp_transport;tcp"}
_MAX_EMPTY = 30
# FFmpeg fails on a frame without picture data and continues with the next; after the end of the stream
# every call fails at once.
_MAX_FAILED = 5
_SILENT_SHARE = 0.9


class NetworkStream:
    """Reads a stream through FFmpeg; frames are ``bgr``, without a timestamp, since none is sent.

    FFmpeg's own options can be set in ``$OPENCV_FFMPEG_CAPTURE_OPTIONS``, as in
    ``rtsp_transport;udp|buffer_size;1024000``. Frames of Motion-JPEG are ``rgb``: they are decoded like
    picture files, so that a damaged one is refused and the next one is read.

    Args:
        url: ``rtsp(s)://`` or ``http(s)://``; user and password in it are never printed.
        max_pixels: larger frames are refused.
        open_timeout_ms, read_timeout_ms: timeouts for an address that sends nothing.

    Raises:
        CameraNotFoundError: no answer, a wrong password, or no stream.
    """

    def __init__(
        self,
        url: str,
        *,
        max_pixels: int = MAX_PIXELS,
        open_timeout_ms: int = OPEN_TIMEOUT_MS,
        read_timeout_ms: int = READ_TIMEOUT_MS,
    ) -> None:
        self.name = redact(url)
        self._read_timeout_s = read_timeout_ms / 1e3
        capture = open_capture(
            url,
            cv2.CAP_FFMPEG,
            {
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: open_timeout_ms,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC: read_timeout_ms,
            },
            _ENVIRONMENT,
        )
        if capture is None:
            raise CameraNotFoundError(
                f"{self.name}: cannot be opened (timeout {open_timeout_ms / 1e3:g} s): no answer, a "
                "wrong user or password, or no video; try the same URL with ffplay, and write %40 for an "
                "@ in a password"
            )
        try:
            check_size(capture, self.name, max_pixels)
        except UnreadableImageError as error:
            capture.release()
            raise CameraNotFoundError(str(error)) from error
        self._encoded = deliver_encoded(capture)
        self._max_pixels = max_pixels
        self._capture: cv2.VideoCapture | None = capture
        # A recording on a web server has a length and may end; a camera has none.
        self._frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._lost = False
        self._index = self._empty = 0

    def read(self) -> Frame | None:
        """Waits for the next frame; None after ``close()``, or at the end of a recording.

        Raises:
            NoFrameYetError: FFmpeg found no picture in the data; the next call continues.
            UnreadableImageError: a Motion-JPEG frame is damaged or too large; the next call continues.
            SourceLostError: the stream ended, or sent nothing within the timeout.
        """
        if self._lost:
            raise self._gone()
        if self._capture is None:
            return None
        ok, picture = self._grab(self._capture)
        if not ok:
            finished = 0 < self._frames <= self._index
            self.close()
            if finished:
                return None
            self._lost = True
            raise self._gone()
        if picture is None:
            self._empty += 1
            if self._empty >= _MAX_EMPTY:
                self.close()
                self._lost = True
                raise self._gone()
            raise NoFrameYetError(f"{self.name}: no picture in the data; call read() again")
        self._empty = 0
        index, self._index = self._index, self._index + 1
        if self._encoded:
            return decode_image(
                picture.tobytes(),
                name=self.name,
                index=index,
                max_pixels=self._max_pixels,
                live=True,
            )
        pixels, format_ = as_frame(picture, self.name)
        return Frame(pixels, format_, index, None, self.name)

    def _grab(self, capture: cv2.VideoCapture) -> tuple[bool, NDArray[Any] | None]:
        for _ in range(_MAX_FAILED - 1):
            began_s = time.monotonic()
            ok, picture = grab(capture)
            silent = time.monotonic() - began_s >= _SILENT_SHARE * self._read_timeout_s
            if ok or silent or self._frames:
                return ok, picture
        return grab(capture)

    def _gone(self) -> SourceLostError:
        return SourceLostError(
            f"{self.name}: the stream was lost after {self._index} frames (it ended, or sent nothing "
            f"for {self._read_timeout_s:g} s); check the camera and the network"
        )

    def close(self) -> None:
        """Ends the source."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
