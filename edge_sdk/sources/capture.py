"""Shared by webcams, streams and video files: OpenCV's capture, without its log, as frames.

OpenCV and FFmpeg log to the terminal, and their messages may contain the URL with its password; here
their logs are off, and the source that opens a capture reports errors.
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

# OpenCV 5 has its log level in a submodule, OpenCV 4 at the top level.
_logging: Any = getattr(cv2.utils, "logging", cv2)
_SILENT = 0  # LOG_LEVEL_SILENT, not exported by OpenCV 4
_quiet_lock = threading.Lock()
_quiet = _level_before = 0

_QUIET = {"OPENCV_FFMPEG_LOGLEVEL": "-8"}  # AV_LOG_QUIET


def open_capture(
    target: str,
    backend: int,
    settings: Mapping[int, int],
    environment: Mapping[str, str] | None = None,
) -> cv2.VideoCapture | None:
    """Opens a capture; None if OpenCV cannot.

    Args:
        target: a device, a path or a URL.
        backend: ``cv2.CAP_V4L2`` or ``cv2.CAP_FFMPEG``.
        settings: ``cv2.CAP_PROP_*`` to open with; V4L2 accepts none.
        environment: variables that OpenCV reads while it opens; already set ones are kept.
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
    """Makes a Motion-JPEG capture return each frame undecoded: a JPEG file as ``(1, N) uint8``.

    FFmpeg would fill the missing part of a damaged frame from the previous one without a warning.

    Returns:
        False if the frames have another format, or the capture cannot do this: it then decodes them.
    """
    number = int(capture.get(cv2.CAP_PROP_FOURCC))
    name = bytes(number >> shift & 0xFF for shift in (0, 8, 16, 24)).lower()
    return name in (b"mjpg", b"mjpe") and bool(capture.set(cv2.CAP_PROP_FORMAT, -1))


def check_size(capture: cv2.VideoCapture, name: str, max_pixels: int) -> None:
    """Refuses frames that are too large, before the first is decoded.

    Raises:
        UnreadableImageError: they have more than ``max_pixels``.
    """
    width, height = (
        capture.get(which) for which in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    check_pixels(max(0, int(width)), max(0, int(height)), name, max_pixels)


def grab(capture: cv2.VideoCapture) -> tuple[bool, NDArray[Any] | None]:
    """The next picture: whether the capture continues, and its picture, which may be missing."""
    with quiet():
        try:
            return capture.read()
        except cv2.error:  # an incomplete JPEG
            return True, None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Turns OpenCV's log off; several threads may do so at the same time."""
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
    """A picture that OpenCV captured, as pixels and their format.

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
        f"{name} returned pictures of {picture.dtype} {picture.shape}; expected uint8 with 1, 3 or 4 "
        "channels: set another format of the camera with v4l2-ctl --set-fmt-video"
    )


# An older frame did not just come from a sensor: its timestamp is on another clock.
_MAX_AGE_NS = 10_000_000_000
# Tolerance between the driver's reading of the clock and ours.
_AHEAD_NS = 5_000_000


def on_monotonic_clock(stamp_ns: int | None) -> int | None:
    """Converts a driver's timestamp to the monotonic clock, in ns; None if its clock is unknown.

    libcamera uses ``CLOCK_BOOTTIME``, most drivers ``CLOCK_MONOTONIC``; the two differ by the time
    that the machine was suspended.
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
