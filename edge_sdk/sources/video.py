"""Video files: every frame, in order, to the end."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2

from edge_sdk.errors import SourceNotFoundError, UnreadableImageError
from edge_sdk.sources.capture import as_frame, check_size, deliver_encoded, grab, open_capture
from edge_sdk.types import Frame
from edge_sdk.vision.images import decode_image
from edge_sdk.vision.limits import MAX_PIXELS

# The count in a container's head is an estimate in some formats; a file is called cut off only
# where more than this is missing.
_MISSING_SHARE = 0.02
_MISSING_FRAMES = 5


class VideoSource:
    """Reads each frame of a video once, losslessly and as fast as it is asked.

    Frames are ``bgr``, as OpenCV decodes them, with ``presentation_ns`` as the file has it;
    ``timestamp_ns`` is None, since no sensor saw them now. Frames of Motion-JPEG are ``rgb``: they are
    decoded as picture files are, so that damaged ones are refused by name.

    Args:
        path: anything that FFmpeg decodes.
        max_pixels: larger frames are refused.

    Raises:
        SourceNotFoundError: there is no such file.
        UnreadableImageError: it is no video, nothing in it can be decoded, or its frames are too large.
    """

    def __init__(self, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> None:
        self.name = str(path)
        if not Path(path).is_file():
            raise SourceNotFoundError(f"{path}: there is no such file; name a video or a folder")
        capture = open_capture(self.name, cv2.CAP_FFMPEG, {})
        if capture is None:
            raise UnreadableImageError(
                self.name,
                "no video that can be decoded (damaged, cut off, or another kind of file); "
                "look at it with ffprobe, or copy it again",
            )
        try:
            check_size(capture, self.name, max_pixels)
        except UnreadableImageError:
            capture.release()
            raise
        self._max_pixels = max_pixels
        # A picture that is stored on its side is turned by OpenCV, which decodes it then.
        upright = not capture.get(cv2.CAP_PROP_ORIENTATION_META)
        self._shape = tuple(
            int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        )
        self._encoded = upright and deliver_encoded(capture)
        self._capture: cv2.VideoCapture | None = capture
        self._promised = int(max(0.0, capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._index = 0

    def read(self) -> Frame | None:
        """The next frame, None after the last one or after ``close()``.

        Raises:
            UnreadableImageError: a frame of Motion-JPEG is damaged, and the next call goes on behind it;
                or once, at the end of a file that ends long before it should.
        """
        if self._capture is None:
            return None
        ok, picture = grab(self._capture)
        if not ok or picture is None:
            self._end()
            return None
        shown_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        index, self._index = self._index, self._index + 1
        if self._encoded:
            frame = decode_image(
                picture.tobytes(), name=self.name, index=index, max_pixels=self._max_pixels
            )
            if frame.pixels.shape[:2] != self._shape:  # one field of two: FFmpeg knows how to weave
                self._reopen_decoded(index)
                return self.read()
            return dataclasses.replace(frame, presentation_ns=max(0, shown_ns))
        pixels, format_ = as_frame(picture, self.name)
        return Frame(pixels, format_, index, None, self.name, max(0, shown_ns))

    def _reopen_decoded(self, index: int) -> None:
        """Has FFmpeg decode, from frame ``index`` on."""
        self.close()
        self._encoded, self._index = False, index
        self._capture = open_capture(self.name, cv2.CAP_FFMPEG, {})
        for _ in range(index):
            if self._capture is not None:
                grab(self._capture)

    def _end(self) -> None:
        self.close()
        missing = self._promised - self._index
        if missing > max(_MISSING_FRAMES, _MISSING_SHARE * self._promised):
            raise UnreadableImageError(
                self.name,
                f"ends after {self._index} of {self._promised} frames: damaged or cut off; "
                "copy it again",
            )

    def close(self) -> None:
        """Ends the source."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
