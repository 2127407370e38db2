"""The webcams there are, asked of Linux without opening a stream."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import NamedTuple

# linux/videodev2.h: struct v4l2_capability is driver[16], card[32], bus_info[32], version,
# capabilities, device_caps, reserved[3]; VIDIOC_QUERYCAP is _IOR('V', 0, that).
_CAPABILITY = struct.Struct("=16s32s32sIII12x")
_QUERYCAP = 2 << 30 | _CAPABILITY.size << 16 | ord("V") << 8
_VIDEO_CAPTURE = 0x1
_DEVICE_CAPS = 0x80000000
# What stands in /dev/video* on a Raspberry Pi beside webcams: the raw ends of its camera, its image
# processor and its codecs. Their pictures are for libcamera and the decoder, not for us.
_NOT_WEBCAMS = ("unicam", "rp1-cfe", "bcm2835-isp", "bcm2835-codec", "pispbe", "rpi-hevc", "rpivid")


class V4L2Device(NamedTuple):
    """A device file, and what its driver calls the camera."""

    path: str
    card: str


def list_webcams(folder: str = "/dev") -> list[V4L2Device]:
    """The webcams, by their numbers."""
    found = sorted(
        (int(match[1]), str(path))
        for path in Path(folder).glob("video*")
        if (match := re.fullmatch(r"video(\d+)", path.name))
    )
    return [device for _, path in found if (device := _webcam(path)) is not None]


def _webcam(path: str) -> V4L2Device | None:
    import fcntl  # Linux's, as the whole of V4L2: this module loads everywhere

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
