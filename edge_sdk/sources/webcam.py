"""USB cameras: V4L2 through OpenCV."""

from __future__ import annotations

import logging
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2

from edge_sdk.errors import (
    CameraNotFoundError,
    NoFrameYetError,
    SourceLostError,
    UnreadableImageError,
)
from edge_sdk.sources.capture import (
    as_frame,
    check_size,
    grab,
    on_monotonic_clock,
    open_capture,
    quiet,
)
from edge_sdk.types import Frame
from edge_sdk.vision.jpeg import damage, decode_with_warning
from edge_sdk.vision.limits import MAX_PIXELS

# linux/videodev2.h: struct v4l2_capability is driver[16], card[32], bus_info[32], version,
# capabilities, device_caps, reserved[3]; VIDIOC_QUERYCAP is _IOR('V', 0, that).
_CAPABILITY = struct.Struct("=16s32s32sIII12x")
_QUERYCAP = 2 << 30 | _CAPABILITY.size << 16 | ord("V") << 8
_VIDEO_CAPTURE = 0x1
_DEVICE_CAPS = 0x80000000
# Other devices in /dev/video* on a Raspberry Pi: the raw camera interface, the image processor and the
# codecs. Only libcamera and the decoder use them.
_NOT_WEBCAMS = ("unicam", "rp1-cfe", "bcm2835-isp", "bcm2835-codec", "pispbe", "rpi-hevc", "rpivid")


class V4L2Device(NamedTuple):
    """A device file, and the driver's name for the camera."""

    path: str
    card: str


def list_webcams(folder: str = "/dev") -> list[V4L2Device]:
    """The webcams, sorted by number."""
    found = sorted(
        (int(match[1]), str(path))
        for path in Path(folder).glob("video*")
        if (match := re.fullmatch(r"video(\d+)", path.name))
    )
    return [device for _, path in found if (device := _webcam(path)) is not None]


def _webcam(path: str) -> V4L2Device | None:
    import fcntl  # Linux only, as V4L2 is; this module can be imported anywhere

    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    answer = bytearray(_CAPABILITY.size)
    try:
        fcntl.ioctl(descriptor, _QUERYCAP, answer)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return _read_capability(path, bytes(answer))


def _read_capability(path: str, answer: bytes) -> V4L2Device | None:
    driver, card, _, _, capabilities, device_caps = _CAPABILITY.unpack(answer)
    able = device_caps if capabilities & _DEVICE_CAPS else capabilities
    if not able & _VIDEO_CAPTURE or _text(driver).startswith(_NOT_WEBCAMS):
        return None
    return V4L2Device(path, _text(card))


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "replace")


_log = logging.getLogger("edgecls.sources")

# Sizes that every webcam supports; the first that covers the model's input is requested.
_SIZES = ((640, 480), (1280, 720), (1920, 1080))
# Larger uncompressed pictures reach only 10 or 5 fps over USB 2 (640 * 480 * 2 bytes * 30 fps are 18 of
# its 35 MB/s); as JPEGs they keep their rate.
_UNCOMPRESSED_MAX = 640 * 480
_MAX_EMPTY = 30


class Webcam:
    """Reads a V4L2 camera; frames are ``bgr`` or ``gray``, with the driver's timestamp if known.

    OpenCV's timeout for a frame is ten seconds (``$OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT``).

    Args:
        device: a path, a number N for ``/dev/videoN``, or empty: the first webcam.
        size: ``(width, height)`` in pixels that a frame must cover; None: 640 x 480.
        max_pixels: larger frames are refused.
        note: called with a sentence about the camera chosen, and about frames that are too small.

    Raises:
        CameraNotFoundError: no such camera, no permission, or another program uses it.
    """

    def __init__(
        self,
        device: str | int = "",
        *,
        size: tuple[int, int] | None = None,
        max_pixels: int = MAX_PIXELS,
        note: Callable[[str], None] = _log.info,
    ) -> None:
        path = _find(str(device), note)
        self.name = path
        capture = open_capture(path, cv2.CAP_V4L2, {})
        if capture is None:
            raise CameraNotFoundError(
                f"{path}: found, but cannot be opened: another program uses it, or it is no camera; "
                f"find the program with fuser -v {path}, see all cameras with v4l2-ctl --list-devices"
            )
        self._capture: cv2.VideoCapture | None = capture
        _configure(capture, _covering(size or _SIZES[0]))
        try:
            check_size(capture, path, max_pixels)
        except UnreadableImageError as error:
            capture.release()
            raise CameraNotFoundError(str(error)) from error
        self.size = (
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        if size is not None and (self.size[0] < size[0] or self.size[1] < size[1]):
            note(
                f"{path} delivers at most {self.size[0]} x {self.size[1]} pixels, less than the model's "
                f"{size[0]} x {size[1]}: its pictures are enlarged"
            )
        self._lost = False
        self._index = self._empty = 0

    def read(self) -> Frame | None:
        """Waits for the next frame; None after ``close()``.

        Raises:
            NoFrameYetError: the driver returned an empty picture; the next call continues.
            UnreadableImageError: a JPEG frame is damaged; the next call continues.
            SourceLostError: the camera was unplugged, or sends nothing.
            FrameError: pictures in an unsupported format.
        """
        if self._lost:
            raise self._gone()
        if self._capture is None:
            return None
        capture = self._capture
        (ok, picture), warning = decode_with_warning(lambda: grab(capture))
        if ok and picture is None:
            self._empty += 1
            if self._empty < _MAX_EMPTY:
                raise NoFrameYetError(f"{self.name}: an empty picture; call read() again")
            ok = False
        if not ok or picture is None:
            self.close()
            self._lost = True
            raise self._gone()
        self._empty = 0
        if harm := damage(warning):
            self._index += 1
            raise UnreadableImageError(self.name, f"a JPEG that is damaged inside ({harm})")
        pixels, format_ = as_frame(picture, self.name)
        stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        index, self._index = self._index, self._index + 1
        return Frame(pixels, format_, index, on_monotonic_clock(stamp_ns), self.name)

    def _gone(self) -> SourceLostError:
        there = "silent" if Path(self.name).exists() else "unplugged"
        return SourceLostError(
            f"{self.name}: the camera is {there} after {self._index} frames; check its cable, the "
            "power supply, and the end of dmesg"
        )

    def close(self) -> None:
        """Releases the camera."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def _find(device: str, note: Callable[[str], None]) -> str:
    if not device:
        webcams = list_webcams()
        if not webcams:
            raise CameraNotFoundError(
                "there is no webcam (no /dev/videoN that captures and may be opened); plug one in, and "
                "if one is plugged in: sudo usermod -aG video $USER, then log in again"
            )
        note(f"webcam: {webcams[0].path} ({webcams[0].card})")
        return webcams[0].path
    path = f"/dev/video{device}" if device.isdecimal() else device
    if not Path(path).exists():
        there = ", ".join(f"{w.path} ({w.card})" for w in list_webcams()) or "none"
        raise CameraNotFoundError(
            f"{path}: there is no such device; webcams here: {there}. Plug it in, or name another one"
        )
    if not os.access(path, os.R_OK | os.W_OK):
        raise CameraNotFoundError(
            f"{path}: may not be opened by this user; type sudo usermod -aG video $USER, then log in "
            "again"
        )
    return path


def _configure(capture: cv2.VideoCapture, want: tuple[int, int]) -> None:
    """Requests the size, one setting after the other: V4L2 accepts none at opening.

    Settings that the driver refuses are unchanged; the caller reads the size back.
    """
    with quiet():
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not the oldest of four
        if want[0] * want[1] > _UNCOMPRESSED_MAX:  # before the size: it depends on the format
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, want[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, want[1])


def _covering(size: tuple[int, int]) -> tuple[int, int]:
    covering = (known for known in _SIZES if known[0] >= size[0] and known[1] >= size[1])
    return next(covering, size)
