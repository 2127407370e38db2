"""Raspberry Pi cameras through picamera2; the only module that uses it.

The image processor scales the whole field of view: the chosen sensor mode crops nothing, and the
requested size has that mode's aspect ratio. The resulting configuration is read back, since picamera2
silently adjusts what it cannot do.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import CameraNotFoundError, SourceLostError
from edge_sdk.sources.capture import on_monotonic_clock
from edge_sdk.types import Frame, PixelFormat


def choose_mode(
    modes: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> Mapping[str, Any] | None:
    """The sensor mode with the largest view, then one that covers ``size``, then smallest, then fastest.

    None if the sensor reports no modes.
    """
    known = [mode for mode in modes if "size" in mode and "crop_limits" in mode]
    if not known:
        return None

    def rank(mode: Mapping[str, Any]) -> tuple[float, ...]:
        width, height = mode["size"]
        covers = width >= size[0] and height >= size[1]
        area = width * height
        seen = mode["crop_limits"][2] * mode["crop_limits"][3]
        return (-seen, not covers, area if covers else -area, -mode.get("fps", 0.0))

    return min(known, key=rank)


def covering(size: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """The smallest even size of the sensor's aspect ratio covering ``size``; all ``(width, height)``."""
    scale = max(size[0] / shape[0], size[1] / shape[1])
    return _even(max(size[0], shape[0] * scale)), _even(max(size[1], shape[1] * scale))


def _even(length: float) -> int:
    return 2 * math.ceil(round(length, 6) / 2)


_log = logging.getLogger("edgecls.sources")

_DEFAULT_SIZE = (640, 480)
_BUFFERS = 4
# A smaller fraction of the sensor, along one side, is a crop and not a rounded size.
_WHOLE = 0.98
# Devices that libcamera opens; without permission it finds no camera and gives no reason.
_DEVICES = ("/dev/media*", "/dev/video*", "/dev/dma_heap/*")
_RIGHTS = "type sudo usermod -aG video $USER, then log in again"


class _Layout(NamedTuple):
    """The memory layout of a picamera2 format: our name for it, and channels (0: planes)."""

    format: PixelFormat
    channels: int


# libcamera uses DRM's format names: the first letter is the highest byte of a little-endian word, so
# RGB888 is B, G, R in memory (picamera2 manual, "Image formats"). The alpha of XRGB8888 follows B, G, R
# and is dropped.
_LAYOUTS = {
    "RGB888": _Layout("bgr", 3),
    "BGR888": _Layout("rgb", 3),
    "XBGR8888": _Layout("rgba", 4),
    "XRGB8888": _Layout("bgr", 4),
    "YUV420": _Layout("i420", 0),
}


class PiCamera:
    """Reads a camera on the Pi's camera connector; frames have the sensor's timestamp.

    Args:
        number: as ``rpicam-hello --list-cameras`` counts; None: the first that is not on USB.
        size: ``(width, height)`` in pixels that a frame must cover; None: 640 x 480.
        note: called with a sentence about frames that are too small or cropped.

    Raises:
        CameraNotFoundError: picamera2 is missing, there is no such camera, or it is in use.
    """

    def __init__(
        self,
        number: int | None = None,
        *,
        size: tuple[int, int] | None = None,
        note: Callable[[str], None] = _log.info,
    ) -> None:
        picamera2 = _import()
        number = _choose(picamera2.Picamera2, number)
        self.name = f"picamera:{number}"
        self._note = note
        try:
            self._camera: Any = picamera2.Picamera2(number)
        except Exception as error:
            raise CameraNotFoundError(_cannot_be_opened(self.name, number, error)) from error
        self._index, self._lost = 0, False
        try:
            self._start(size)
        except Exception as error:
            self.close()
            if isinstance(error, CameraNotFoundError):
                raise
            raise CameraNotFoundError(
                f"{self.name}: cannot be started ({_reason(error)}); try it with rpicam-hello --camera "
                f"{number}"
            ) from error

    def _start(self, size: tuple[int, int] | None) -> None:
        camera = self._camera
        wanted = size or _DEFAULT_SIZE
        mode = choose_mode(self._modes(), wanted)
        self._field = tuple(mode["crop_limits"][2:]) if mode else None
        shape = mode["size"] if mode else camera.sensor_resolution
        main = {"size": covering(wanted, shape), "format": "RGB888"}
        extra = _sensor_request(camera, mode) if mode else {}
        camera.configure(
            camera.create_video_configuration(main=main, buffer_count=_BUFFERS, **extra)
        )
        got = camera.camera_configuration()["main"]
        self.size: tuple[int, int] = (int(got["size"][0]), int(got["size"][1]))
        layout = _LAYOUTS.get(str(got["format"]))
        if layout is None:
            raise CameraNotFoundError(
                f"{self.name}: has pictures as {got['format']}; expected one of {' '.join(_LAYOUTS)}; "
                "for a USB camera use --camera webcam"
            )
        self._layout = layout
        self._picamera_format = str(got["format"])
        if self.size != main["size"]:  # silently adjusted
            _log.info("%s: requested %s pixels, got %s", self.name, main["size"], self.size)
        if size is not None and (self.size[0] < size[0] or self.size[1] < size[1]):
            self._note(
                f"{self.name} delivers {self.size[0]} x {self.size[1]} pixels, less than the model's "
                f"{size[0]} x {size[1]}: its pictures are enlarged"
            )
        camera.start()

    def _modes(self) -> Sequence[Mapping[str, Any]]:
        try:
            modes: Sequence[Mapping[str, Any]] = self._camera.sensor_modes
        except Exception as error:  # noqa: BLE001  # drivers without raw streams raise various errors
            self._note(
                f"{self.name} does not report its sensor modes ({error}); its view may be cropped"
            )
            return ()
        return modes

    def read(self) -> Frame | None:
        """Waits for the next frame; None after ``close()``.

        Raises:
            SourceLostError: the camera failed, or a picture does not match the configuration.
        """
        if self._lost:
            raise SourceLostError(f"{self.name}: the camera was lost; open it again")
        if self._camera is None:
            return None
        try:
            request = self._camera.capture_request()
            try:
                array, metadata = request.make_array("main"), request.get_metadata()
            finally:
                request.release()
        except Exception as error:
            raise self._gone(str(error) or type(error).__name__) from error
        pixels = self._pixels(array)
        if self._index == 0:
            self._check_crop(metadata)
        index, self._index = self._index, self._index + 1
        stamp_ns = on_monotonic_clock(metadata.get("SensorTimestamp"))
        return Frame(pixels, self._layout.format, index, stamp_ns, self.name)

    def _pixels(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture, if its shape matches the configuration."""
        width, height = self.size
        channels = self._layout.channels
        if not channels:
            if array.ndim == 2 and array.shape[0] == height * 3 // 2 and array.shape[1] >= width:
                return _without_padding(array, width, height)
        elif array.shape == (height, width, channels):
            if channels == 4 and self._layout.format == "bgr":
                return np.ascontiguousarray(array[:, :, :3])
            return array
        raise self._gone(
            f"got a picture of shape {array.shape}, configured are {self._picamera_format} and "
            f"{width} x {height} pixels"
        )

    def _check_crop(self, metadata: Mapping[str, Any]) -> None:
        crop = metadata.get("ScalerCrop")
        if crop is None or self._field is None:
            return
        if crop[2] < _WHOLE * self._field[0] or crop[3] < _WHOLE * self._field[1]:
            self._note(
                f"{self.name} uses {crop[2]} x {crop[3]} of the sensor's {self._field[0]} x "
                f"{self._field[1]} pixels: not its whole field of view"
            )

    def _gone(self, reason: str) -> SourceLostError:
        self.close()
        self._lost = True
        return SourceLostError(
            f"{self.name}: the camera was lost after {self._index} frames ({reason}); check its cable "
            "and the end of dmesg"
        )

    def close(self) -> None:
        """Stops and releases the camera."""
        camera, self._camera = self._camera, None
        if camera is not None:
            with contextlib.suppress(Exception):  # a camera that is gone cannot be stopped
                camera.stop()
            with contextlib.suppress(Exception):
                camera.close()


def _sensor_request(camera: Any, mode: Mapping[str, Any]) -> dict[str, Any]:
    """The request for a sensor mode, in the form that this version of picamera2 accepts."""
    if "sensor" in inspect.signature(camera.create_video_configuration).parameters:
        return {"sensor": {"output_size": mode["size"], "bit_depth": mode["bit_depth"]}}
    return {"raw": {"size": mode["size"], "format": str(mode["format"])}}


def _without_padding(array: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """I420 planes without the padding of their rows; ``(H * 3 / 2, width)``.

    One row of the array holds two rows of a half-width plane, each padded to half the stride.
    """
    stride = array.shape[1]
    if stride == width:
        return array
    chroma = array[height:].reshape(height, stride // 2)[:, : width // 2]
    return np.concatenate((array[:height, :width], chroma.reshape(height // 2, width)))


def _reason(error: BaseException) -> str:
    """The first error of a chain: picamera2's own says only that something did not complete."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def _cannot_be_opened(name: str, number: int, error: Exception) -> str:
    reason = _reason(error)
    if "busy" in reason.lower():
        advice = "another program has it; close that, or find it with fuser -v /dev/media*"
    elif "permission" in reason.lower() or "not permitted" in reason.lower():
        advice = f"this user may not open its device; {_RIGHTS}"
    else:
        advice = f"another program may have it (fuser -v /dev/media*); try rpicam-hello --camera {number}"
    return f"{name}: found, but cannot be opened ({reason}): {advice}"


def _forbidden(root: Path = Path("/")) -> list[str]:
    """Devices that libcamera needs and that this user may not open."""
    there = (path for pattern in _DEVICES for path in sorted(root.glob(pattern.lstrip("/"))))
    return [str(path) for path in there if not os.access(path, os.R_OK | os.W_OK)]


def _import() -> Any:
    # libcamera logs a dozen lines for every opening; warnings and errors are still logged.
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:WARN")
    try:
        return importlib.import_module("picamera2")
    except ImportError as error:
        raise CameraNotFoundError(
            f"picamera2 cannot be imported ({error}). On a Raspberry Pi type: sudo apt install -y "
            "python3-picamera2 --no-install-recommends; and make the environment with python3 -m venv "
            "--system-site-packages, since libcamera comes from apt alone"
        ) from error
    except Exception as error:  # apt's simplejpeg, built for numpy 1, beside pip's numpy 2
        raise CameraNotFoundError(
            f"picamera2 is installed, but cannot be imported ({error}): another package is "
            "incompatible. Type: pip install 'edgecls[pi]'"
        ) from error


def _choose(picamera2: Any, number: int | None) -> int:
    """The number of the selected camera."""
    cameras = picamera2.global_camera_info()
    on_usb = ["usb" in str(camera.get("Id", "")).lower() for camera in cameras]
    if number is None:
        number = next((i for i, usb in enumerate(on_usb) if not usb), None)
    if number is not None and number < len(cameras) and not on_usb[number]:
        return number
    forbidden = [] if cameras else _forbidden()
    if forbidden:
        raise CameraNotFoundError(
            f"there is no Pi camera that this user may open ({', '.join(forbidden[:3])} is forbidden); "
            f"{_RIGHTS}"
        )
    found = ", ".join(
        f"{i} ({camera.get('Model', 'unknown')}{', USB: --camera webcam' if usb else ''})"
        for i, (camera, usb) in enumerate(zip(cameras, on_usb, strict=True))
    )
    raise CameraNotFoundError(
        f"there is no Pi camera{'' if number is None else f' {number}'}; libcamera finds: "
        f"{found or 'none'}. Switch the Pi off, seat the cable, and try rpicam-hello --list-cameras"
    )
