"""From a 720p frame to 224x224 pixels: crops and pixel formats."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from edge_sdk import Frame
from edge_sdk.types import PixelFormat
from edge_sdk.vision.preprocess import Crop, Preprocessing, Preprocessor

_SIDE = 224
_CROPS = "preprocess 720p rgb to 224x224"
_FORMATS = "preprocess 720p to 224x224, center"
# Linear steps and one exact area average differ at sharp edges, by this much on the average.
_CLOSE = 4.0


def _expected(pixels: NDArray[np.uint8], crop: Crop) -> NDArray[np.uint8]:
    """The same by OpenCV's slow and exact area average in one step."""
    height, width = pixels.shape[:2]
    if crop == "center":
        left = (width - height) // 2
        pixels = pixels[:, left : left + height]
    inner = round(_SIDE * height / width) if crop == "letterbox" else _SIDE
    out = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    top = (_SIDE - inner) // 2
    out[top : top + inner] = cv2.resize(pixels, (_SIDE, inner), interpolation=cv2.INTER_AREA)
    return out


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


@pytest.mark.benchmark(group=_CROPS)
@pytest.mark.parametrize("crop", ["center", "squash", "letterbox"])
def test_crop(benchmark: BenchmarkFixture, cat: Frame, crop: Crop) -> None:
    work = Preprocessor(Preprocessing(_SIDE, _SIDE, crop=crop))
    assert _difference(work(cat), _expected(cat.pixels, crop)) < _CLOSE
    benchmark(work, cat)


@pytest.mark.benchmark(group=_CROPS)
def test_plain_resize(benchmark: BenchmarkFixture, cat: Frame) -> None:
    # What most scripts do instead of squash: four pixels of thousands, so fine stripes alias.
    out = np.empty((_SIDE, _SIDE, 3), np.uint8)
    assert cv2.resize(cat.pixels, (_SIDE, _SIDE), dst=out) is out
    assert _difference(out, _expected(cat.pixels, "squash")) < 4 * _CLOSE
    benchmark(cv2.resize, cat.pixels, (_SIDE, _SIDE), dst=out)


@pytest.mark.benchmark(group=_FORMATS)
@pytest.mark.parametrize("pixel_format", ["rgb", "bgr", "i420"])
def test_format(benchmark: BenchmarkFixture, cat: Frame, pixel_format: PixelFormat) -> None:
    frame = Frame(_converted(cat.pixels, pixel_format), pixel_format)
    work = Preprocessor(Preprocessing(_SIDE, _SIDE))
    assert _difference(work(frame), _expected(cat.pixels, "center")) < _CLOSE
    benchmark(work, frame)


def _converted(rgb: NDArray[np.uint8], pixel_format: PixelFormat) -> NDArray[np.uint8]:
    if pixel_format == "rgb":
        return rgb
    code = cv2.COLOR_RGB2BGR if pixel_format == "bgr" else cv2.COLOR_RGB2YUV_I420
    return cv2.cvtColor(rgb, code).astype(np.uint8, copy=False)
