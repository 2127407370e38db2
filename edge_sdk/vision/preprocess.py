"""From a frame to a model's input pixels: the project's only crop, resize and colour conversion.

Crop, then halve each side by area averaging while it is at least twice the target, then resize
linearly, then convert the colours. Averaging prevents aliasing of fine stripes (one halving is not
enough for a 720p frame), and converting colours last touches the fewest pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import FrameError
from edge_sdk.types import Frame, PixelFormat

Crop = Literal["center", "squash", "letterbox"]
CROPS: tuple[Crop, ...] = ("center", "squash", "letterbox")

Pixels = NDArray[np.uint8]

_CHANNELS: dict[PixelFormat, int] = {"rgb": 3, "bgr": 3, "rgba": 4}
_TO_RGB: dict[PixelFormat, int] = {
    "bgr": cv2.COLOR_BGR2RGB,
    "rgba": cv2.COLOR_RGBA2RGB,
    "gray": cv2.COLOR_GRAY2RGB,
}
_TO_GRAY: dict[PixelFormat, int] = {
    "rgb": cv2.COLOR_RGB2GRAY,
    "bgr": cv2.COLOR_BGR2GRAY,
    "rgba": cv2.COLOR_RGBA2GRAY,
}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture is converted to a model's input.

    Attributes:
        width, height: of the model's input, in pixels.
        channels: 3 (RGB) or 1 (gray).
        crop: ``center`` cuts the largest centred region of the target's aspect ratio; ``squash``
            ignores the aspect ratio; ``letterbox`` fits the whole picture in and pads with black.
    """

    width: int
    height: int
    channels: int = 3
    crop: Crop = "center"


def preprocess(frame: Frame | NDArray[np.uint8], how: Preprocessing) -> Pixels:
    """Computes the model's input pixels for one frame.

    Args:
        frame: a frame in any format, or an array taken as RGB ``(H, W, 3)`` uint8.
        how: the target.

    Returns:
        ``(height, width, channels)`` uint8, RGB or gray, owned by the caller.

    Raises:
        FrameError: the pixels are not uint8, or their shape does not fit the frame's format.
    """
    pixels = Preprocessor(how)(frame)
    given = frame.pixels if isinstance(frame, Frame) else frame
    return pixels.copy() if np.may_share_memory(pixels, given) else pixels


class Preprocessor:
    """``preprocess`` for a stream of frames; buffers are reused from frame to frame.

    The result of a call is overwritten by the next call.
    """

    def __init__(self, how: Preprocessing) -> None:
        self.how = how
        self._buffers: dict[tuple[int, ...], Pixels] = {}
        self._shape: tuple[int, ...] = ()

    def __call__(self, frame: Frame | NDArray[np.uint8]) -> Pixels:
        pixels, format_ = _checked(frame)
        if pixels.shape != self._shape:  # a folder of pictures, each of another size
            self._buffers.clear()
            self._shape = pixels.shape
        if format_ == "i420":
            out = self._buffer(-2, pixels.shape[0] * 2 // 3, pixels.shape[1], 3)
            pixels, format_ = _uint8(cv2.cvtColor(pixels, cv2.COLOR_YUV2RGB_I420, dst=out)), "rgb"
        how = self.how
        if how.crop == "center":
            pixels = _center_crop(pixels, how.width, how.height)
        if how.crop == "letterbox":
            return self._letterbox(pixels, format_)
        return self._colours(self._resize(pixels, how.width, how.height), format_)

    def _letterbox(self, pixels: Pixels, format_: PixelFormat) -> Pixels:
        how = self.how
        height, width = pixels.shape[:2]
        scale = min(how.width / width, how.height / height)
        inner_width = min(how.width, max(1, round(width * scale)))
        inner_height = min(how.height, max(1, round(height * scale)))
        inner = self._colours(self._resize(pixels, inner_width, inner_height), format_)
        out = self._buffer(0, how.height, how.width, how.channels)
        out[:] = 0
        top, left = (how.height - inner_height) // 2, (how.width - inner_width) // 2
        out[top : top + inner_height, left : left + inner_width] = inner
        return out

    def _resize(self, pixels: Pixels, width: int, height: int) -> Pixels:
        step = 1
        while True:
            have_height, have_width = pixels.shape[:2]
            halve_width, halve_height = have_width >= 2 * width, have_height >= 2 * height
            if not (halve_width or halve_height):
                break
            size = (
                have_width // 2 if halve_width else have_width,
                have_height // 2 if halve_height else have_height,
            )
            pixels = self._resized(step, pixels, size, _halving(have_width, have_height, size))
            step += 1
        if pixels.shape[:2] == (height, width):
            return pixels
        return self._resized(step, pixels, (width, height), cv2.INTER_LINEAR)

    def _resized(self, step: int, pixels: Pixels, size: tuple[int, int], how: int) -> Pixels:
        out = self._buffer(step, size[1], size[0], *pixels.shape[2:])
        return _uint8(cv2.resize(pixels, size, dst=out, interpolation=how))

    def _colours(self, pixels: Pixels, format_: PixelFormat) -> Pixels:
        height, width = pixels.shape[:2]
        channels = self.how.channels
        code = (_TO_RGB if channels == 3 else _TO_GRAY).get(format_)
        if code is None:  # already in the target format
            return np.ascontiguousarray(pixels).reshape(height, width, channels)
        # Keys -1, and -2 above: a resize step must never write into its own input.
        out = self._buffer(-1, height, width, *((3,) if channels == 3 else ()))
        converted = cv2.cvtColor(pixels, code, dst=out)
        return _uint8(converted).reshape(height, width, channels)

    def _buffer(self, step: int, *shape: int) -> Pixels:
        key = (step, *shape)
        buffer = self._buffers.get(key)
        if buffer is None:
            buffer = self._buffers[key] = np.empty(shape, np.uint8)
        return buffer


def _halving(width: int, height: int, size: tuple[int, int]) -> int:
    """OpenCV's fastest way to average by two.

    Its fast area path halves both sides at once; if one even side is halved alone, linear
    interpolation gives the same mean of two pixels, five times as fast.
    """
    one_side = (width == size[0]) != (height == size[1])
    even = width % size[0] == 0 and height % size[1] == 0
    return cv2.INTER_LINEAR if one_side and even else cv2.INTER_AREA


def _checked(frame: Frame | NDArray[np.uint8]) -> tuple[Pixels, PixelFormat]:
    if isinstance(frame, Frame):
        pixels, format_ = frame.pixels, frame.format
    else:
        pixels, format_ = frame, "rgb"
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        kind = getattr(pixels, "dtype", type(pixels).__name__)
        raise FrameError(f"a frame needs uint8 pixels in 0..255, got {kind}")
    if format_ in ("gray", "i420"):
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        fits = pixels.ndim == 2
    else:
        fits = pixels.ndim == 3 and pixels.shape[2] == _CHANNELS.get(format_)
    if not fits or pixels.size == 0:
        raise FrameError(
            f"a frame in format {format_!r} cannot have pixels of shape {pixels.shape}; "
            "rgb and bgr are (H, W, 3), rgba (H, W, 4), gray (H, W), i420 (H * 3 / 2, W)"
        )
    if format_ == "i420" and (pixels.shape[0] % 3 or pixels.shape[1] % 2):
        raise FrameError(f"an i420 frame needs (H * 3 / 2, W) pixels, got {pixels.shape}")
    return pixels, format_


def _center_crop(pixels: Pixels, width: int, height: int) -> Pixels:
    have_height, have_width = pixels.shape[:2]
    crop_width = min(have_width, max(1, round(have_height * width / height)))
    crop_height = min(have_height, max(1, round(have_width * height / width)))
    top, left = (have_height - crop_height) // 2, (have_width - crop_width) // 2
    return pixels[top : top + crop_height, left : left + crop_width]


def _uint8(array: NDArray[Any]) -> Pixels:
    # OpenCV's stubs return "integer or floating"; uint8 in gives uint8 out.
    return array
