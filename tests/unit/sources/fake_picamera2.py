"""A picamera2 that behaves as the real one, the parts that are used; test_picamera2 keeps it honest.

Sizes and formats are adjusted without a word, arrays lie in memory as libcamera's names say, rows are
padded to a stride, a request must be given back, two openings clash.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

# As sensor_modes gives them, shortened: Camera Module 2 (IMX219) and 3 (IMX708).
IMX219 = (
    ((640, 480), (1000, 752, 1280, 960), 206.65),
    ((1640, 1232), (0, 0, 3280, 2464), 41.85),
    ((1920, 1080), (680, 692, 1920, 1080), 47.57),
    ((3280, 2464), (0, 0, 3280, 2464), 21.19),
)
IMX708 = (
    ((1536, 864), (768, 432, 3072, 1728), 120.13),
    ((2304, 1296), (0, 0, 4608, 2592), 56.03),
    ((4608, 2592), (0, 0, 4608, 2592), 14.35),
)
RED = (200, 30, 10)
_ALIGN = 64
_ORDER = {
    "RGB888": (2, 1, 0),
    "BGR888": (0, 1, 2),
    "XBGR8888": (0, 1, 2, None),
    "XRGB8888": (2, 1, 0, None),
}


def modes(table: tuple[Any, ...]) -> list[dict[str, Any]]:
    """``sensor_modes`` of a sensor."""
    return [
        {"format": "SRGGB10_CSI2P", "bit_depth": 10, "size": size, "crop_limits": crop, "fps": fps}
        for size, crop, fps in table
    ]


def stride_of(format_: str, width: int) -> int:
    """Bytes from one row to the next, as the image processor pads them."""
    bytes_each = 1 if format_ == "YUV420" else len(_ORDER[format_])
    return -(-width * bytes_each // _ALIGN) * _ALIGN


def buffer_of(format_: str, width: int, height: int) -> NDArray[np.uint8]:
    """A red picture as the driver leaves it: one row of bytes, padding of 77 included."""
    stride = stride_of(format_, width)
    if format_ == "YUV420":
        planes = np.full((height * 3 // 2, stride), 77, np.uint8)
        planes[:height, :width] = 82  # the limited-range BT.601 values of a pure red
        chroma = planes[height:].reshape(height, stride // 2)
        chroma[: height // 2, : width // 2], chroma[height // 2 :, : width // 2] = 90, 240
        return planes.reshape(-1)
    pixel = [255 if part is None else RED[part] for part in _ORDER[format_]]
    rows = np.full((height, stride), 77, np.uint8)
    rows[:, : width * len(pixel)] = np.tile(np.array(pixel, np.uint8), width)
    return rows.reshape(-1)


def array_of(buffer: NDArray[np.uint8], config: dict[str, Any]) -> NDArray[np.uint8]:
    """What ``make_array`` makes of a buffer: pixels without their padding, planes with it."""
    (width, height), stride = config["size"], config["stride"]
    if config["format"] == "YUV420":
        return buffer.reshape(height * 3 // 2, stride)
    channels = len(_ORDER[config["format"]])
    return buffer.reshape(height, stride)[:, : width * channels].reshape(height, width, channels)


class CompletedRequest:
    """A frame that must be given back."""

    def __init__(self, camera: Picamera2) -> None:
        self.camera = camera
        camera.requests_out += 1

    def make_array(self, name: str) -> NDArray[np.uint8]:
        assert name == "main"
        if self.camera.broken_shape:
            return np.zeros((5, 5, 3), np.uint8)
        config = self.camera.configured
        if config["format"] == "MJPEG":
            return np.zeros(1000, np.uint8)
        return np.ascontiguousarray(array_of(buffer_of(config["format"], *config["size"]), config))

    def get_metadata(self) -> dict[str, Any]:
        full = max(self.camera.modes, key=lambda m: m["crop_limits"][2])["crop_limits"]
        crop = (0, 0, full[2] // 2, full[3] // 2) if self.camera.cropped else full
        return {"SensorTimestamp": time.monotonic_ns() - 20_000_000, "ScalerCrop": crop}

    def release(self) -> None:
        self.camera.requests_out -= 1


class Picamera2:
    """Tests change what the class attributes say."""

    cameras: ClassVar[list[dict[str, Any]]] = []
    modes: ClassVar[list[dict[str, Any]]] = []
    answers_with: ClassVar[str] = "RGB888"
    largest: ClassVar[tuple[int, int]] = (10_000, 10_000)
    multiple_of: ClassVar[tuple[int, int]] = (2, 2)
    in_use: ClassVar[set[int]] = set()
    fails_to_open: ClassVar[str] = ""
    fails_to_start: ClassVar[bool] = False
    cropped: ClassVar[bool] = False
    broken_shape: ClassVar[bool] = False
    unplugged: ClassVar[bool] = False
    last: ClassVar[Picamera2]

    def __init__(
        self,
        camera_num: int = 0,
        verbose_console: Any = None,
        tuning: Any = None,
    ) -> None:
        self.sensor_resolution = (4608, 2592)
        reason = self.fails_to_open
        if camera_num in self.in_use:
            reason = "Failed to acquire camera: Device or resource busy"
        if reason:
            raise RuntimeError("Camera __init__ sequence did not complete.") from RuntimeError(
                reason
            )
        self.in_use.add(camera_num)
        self.number, self.requests_out, self.started = camera_num, 0, False
        type(self).last = self

    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        return Picamera2.cameras

    @property
    def sensor_modes(self) -> list[dict[str, Any]]:
        return self.modes

    def create_video_configuration(
        self,
        main: dict[str, Any] | None = None,
        buffer_count: int = 6,
        sensor: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        return {"main": main, "sensor": sensor, "buffer_count": buffer_count}

    def configure(self, camera_config: dict[str, Any]) -> None:
        assert not self.started
        self.asked = camera_config
        size = zip(camera_config["main"]["size"], self.largest, self.multiple_of, strict=True)
        width, height = (min(-(-side // step) * step, limit) for side, limit, step in size)
        format_ = self.answers_with
        stride = 0 if format_ == "MJPEG" else stride_of(format_, width)
        self.configured = {"size": (width, height), "format": format_, "stride": stride}

    def camera_configuration(self) -> dict[str, Any]:
        return {"main": self.configured}

    def start(self) -> None:
        if self.fails_to_start:
            raise RuntimeError("Failed to start camera: Device or resource busy")
        self.started = True

    def capture_request(self) -> CompletedRequest:
        if self.unplugged:
            raise RuntimeError("camera has gone")
        assert self.started
        return CompletedRequest(self)

    def stop(self) -> None:
        self.started = False

    def close(self) -> None:
        self.in_use.discard(self.number)


class OldPicamera2(Picamera2):
    """0.3.12, as bookworm began with, has no ``sensor`` argument."""

    def create_video_configuration(  # type: ignore[override]
        self,
        main: dict[str, Any] | None = None,
        raw: dict[str, Any] | None = None,
        buffer_count: int = 6,
    ) -> dict[str, Any]:
        return {"main": main, "raw": raw}
