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

# The count in a container's header is an estimate in some formats; a file counts as cut off only if
# more than this is missing.
_MISSING_SHARE = 0.02
_MISSING_FRAMES = 5


class VideoSource:
    """Reads each frame of a video once, as fast as ``read()`` is called; none is dropped.

    Frames are ``bgr``, as OpenCV decodes them, with the file's ``presentation_ns``; ``timestamp_ns`` is
    None, since they were not captured now. Frames of Motion-JPEG are ``rgb``: they are decoded like
    picture files, so that damaged ones are refused.

    Args:
        path: a file that FFmpeg can decode.
        max_pixels: larger frames are refused.

    Raises:
        SourceNotFoundError: there is no such file.
        UnreadableImageError: no video, no decodable frame, or frames that are too large.
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
                "check it with ffprobe, or copy it again",
            )
        try:
            check_size(capture, self.name, max_pixels)
        except UnreadableImageError:
            capture.release()
            raise
        self._max_pixels = max_pixels
        # For rotated videos OpenCV decodes and turns the pictures.
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
            UnreadableImageError: a Motion-JPEG frame is damaged, and the next call continues after it;
                or once, at the end of a truncated file.
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
            if (
                frame.pixels.shape[:2] != self._shape
            ):  # one field of two: FFmpeg can interleave them
                self._reopen_decoded(index)
                return self.read()
            return dataclasses.replace(frame, presentation_ns=max(0, shown_ns))
        pixels, format_ = as_frame(picture, self.name)
        return Frame(pixels, format_, index, None, self.name, max(0, shown_ns))

    def _reopen_decoded(self, index: int) -> None:
        """Reopens the file from frame ``index`` on, decoded by FFmpeg."""
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
