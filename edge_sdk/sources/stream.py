"""Cameras on the network: RTSP, and MJPEG over HTTP."""

from __future__ import annotations

import cv2

from edge_sdk.errors import CameraNotFoundError, NoFrameYetError, SourceLostError
from edge_sdk.sources.capture import as_frame, grab, open_capture
from edge_sdk.sources.specification import redact
from edge_sdk.types import Frame

OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 5000
# TCP: a frame of a lossy UDP stream is a smeared picture, which a classifier takes for a real one.
_ENVIRONMENT = {"OPENCV_FFMPEG_CAPTURE_OPTIONS": "rtsp_transport;tcp"}
_MAX_EMPTY = 30


class Stream:
    """Reads a stream through FFmpeg; frames are ``bgr``, without a time, since none is sent along.

    FFmpeg's own options can be set in ``$OPENCV_FFMPEG_CAPTURE_OPTIONS``, as in
    ``rtsp_transport;udp|buffer_size;1024000``.

    Args:
        url: ``rtsp(s)://`` or ``http(s)://``; user and password in it are never printed.
        open_timeout_ms, read_timeout_ms: after which an address that says nothing is given up.

    Raises:
        CameraNotFoundError: nothing answers there, it wants another password, or it is no stream.
    """

    def __init__(
        self,
        url: str,
        *,
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
                f"{self.name}: cannot be opened (tried for up to {open_timeout_ms / 1e3:g} s): nothing "
                "answers there, the user or password is wrong, or it is no video; try the same URL "
                "with ffplay, and write %40 for an @ in a password"
            )
        self._capture: cv2.VideoCapture | None = capture
        # A recording on a web server has a length and may end; a camera has none.
        self._frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._lost = False
        self._index = self._empty = 0

    def read(self) -> Frame | None:
        """Waits for the next frame; None after ``close()``, or at the end of a recording.

        Raises:
            NoFrameYetError: FFmpeg had no picture in what came; the next call goes on.
            SourceLostError: the stream broke off, or was silent for longer than the timeout.
        """
        if self._lost:
            raise self._gone()
        if self._capture is None:
            return None
        ok, picture = grab(self._capture)
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
            raise NoFrameYetError(f"{self.name}: no picture in what came; ask again")
        self._empty = 0
        pixels, format_ = as_frame(picture, self.name)
        index, self._index = self._index, self._index + 1
        return Frame(pixels, format_, index, None, self.name)

    def _gone(self) -> SourceLostError:
        return SourceLostError(
            f"{self.name}: the stream broke off after {self._index} frames (ended, or silent for "
            f"{self._read_timeout_s:g} s); look whether the camera and the network are up"
        )

    def close(self) -> None:
        """Ends the source."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
