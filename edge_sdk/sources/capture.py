"""What webcams, streams and video files share: OpenCV's capture, kept quiet and turned into frames.

OpenCV and FFmpeg speak to the terminal by themselves, and what they say may hold the URL with its
password; here they keep silent, and whoever opens something says what went wrong.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import FrameError
from edge_sdk.types import PixelFormat
from edge_sdk.vision.limits import check_pixels

# OpenCV 5 has its logging's level in a module of its own, OpenCV 4 beside everything else.
_logging: Any = getattr(cv2.utils, "logging", cv2)
_SILENT = 0  # LOG_LEVEL_SILENT, which OpenCV 4 has no name for
_quiet_lock = threading.Lock()
_quiet = _level_before = 0

_QUIET = {"OPENCV_FFMPEG_LOGLEVEL": "-8"}  # AV_LOG_QUIET


def open_capture(
    target: str,
    backend: int,
    settings: Mapping[int, int],
    environment: Mapping[str, str] | None = None,
) -> cv2.VideoCapture | None:
    """Opens a capture, or gives None where OpenCV cannot.

    Args:
        target: a device, a path or a URL.
        backend: ``cv2.CAP_V4L2`` or ``cv2.CAP_FFMPEG``.
        settings: ``cv2.CAP_PROP_*`` to open with; V4L2 takes none.
        environment: variables that OpenCV reads while it opens; those that are set already stay.
    """
    flat = [int(value) for item in settings.items() for value in item]
    with quiet(), _environment({**_QUIET, **(environment or {})}):
        try:
            capture = cv2.VideoCapture(target, backend, flat)
        except cv2.error:
            return None
    if capture.isOpened():
        return capture
    capture.release()
    return None


def deliver_encoded(capture: cv2.VideoCapture) -> bool:
    """Has a capture of Motion-JPEG give each frame as it came: whole files, as ``(1, N) uint8``.

    FFmpeg fills the missing part of a damaged frame with the frame before, and says nothing.

    Returns:
        False where the frames are of another kind, or the capture cannot do so: it decodes them.
    """
    number = int(capture.get(cv2.CAP_PROP_FOURCC))
    name = bytes(number >> shift & 0xFF for shift in (0, 8, 16, 24)).lower()
    return name in (b"mjpg", b"mjpe") and bool(capture.set(cv2.CAP_PROP_FORMAT, -1))


def check_size(capture: cv2.VideoCapture, name: str, max_pixels: int) -> None:
    """Refuses frames that are too large, before the first is decoded for us.

    Raises:
        UnreadableImageError: they have more than ``max_pixels``.
    """
    width, height = (
        capture.get(which) for which in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    check_pixels(max(0, int(width)), max(0, int(height)), name, max_pixels)


def grab(capture: cv2.VideoCapture) -> tuple[bool, NDArray[Any] | None]:
    """The next picture: whether the capture goes on, and what it gave, which may be nothing."""
    with quiet():
        try:
            return capture.read()
        except cv2.error:  # a JPEG that arrived in pieces
            return True, None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """OpenCV logs nothing meanwhile; several threads may ask for it at the same time."""
    global _quiet, _level_before
    with _quiet_lock:
        if not _quiet:
            _level_before = _logging.getLogLevel()
            _logging.setLogLevel(_SILENT)
        _quiet += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet -= 1
            if not _quiet:
                _logging.setLogLevel(_level_before)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    ours = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def as_frame(picture: NDArray[Any], name: str) -> tuple[NDArray[np.uint8], PixelFormat]:
    """What OpenCV captured, as pixels and their format.

    Args:
        picture: ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` B,G,R or ``(H, W, 4)`` B,G,R,A; uint8.
        name: of the source, for the error.

    Raises:
        FrameError: the array is none of these.
    """
    if picture.dtype == np.uint8 and picture.size:
        if picture.ndim == 2:
            return picture, "gray"
        if picture.ndim == 3 and picture.shape[2] == 1:
            return picture[:, :, 0], "gray"
        if picture.ndim == 3 and picture.shape[2] == 3:
            return picture, "bgr"
        if picture.ndim == 3 and picture.shape[2] == 4:
            return np.ascontiguousarray(picture[:, :, :3]), "bgr"
    raise FrameError(
        f"{name} gave pictures of {picture.dtype} {picture.shape}; expected uint8 with 1, 3 or 4 "
        "channels: choose another format of the camera with v4l2-ctl --set-fmt-video"
    )


# A frame that is older than this has not just come from a sensor: its time is on some other clock.
_MAX_AGE_NS = 10_000_000_000
# The end of a frame's exposure and our clock are read at different places.
_AHEAD_NS = 5_000_000


def on_monotonic_clock(stamp_ns: int | None) -> int | None:
    """A driver's timestamp on the monotonic clock, in ns; None where it is on neither of two clocks.

    libcamera promises ``CLOCK_BOOTTIME``, most drivers give ``CLOCK_MONOTONIC``; the two differ by
    the time that the machine has slept.
    """
    if not stamp_ns:
        return None
    now = time.monotonic_ns()
    asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - now if _BOOTTIME else 0
    for candidate in (stamp_ns, stamp_ns - asleep_ns):
        if -_AHEAD_NS <= now - candidate <= _MAX_AGE_NS:
            return min(candidate, now)
    return None


_BOOTTIME = hasattr(time, "CLOCK_BOOTTIME")
