"""``read_image``, with its look at the header, beside OpenCV's ``imread`` alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from edge_sdk import read_image

_JPEG = "decode a 720p JPEG"
_PNG = "decode a 32x32 PNG"


@pytest.mark.benchmark(group=_JPEG)
def test_imread_jpeg(benchmark: BenchmarkFixture, cat_file: Path) -> None:
    _imread(benchmark, cat_file, (720, 1280, 3))


@pytest.mark.benchmark(group=_JPEG)
def test_read_image_jpeg(benchmark: BenchmarkFixture, cat_file: Path) -> None:
    _read_image(benchmark, cat_file)


@pytest.mark.benchmark(group=_PNG)
def test_imread_png(benchmark: BenchmarkFixture, golden: Path) -> None:
    _imread(benchmark, golden / "digits" / "3" / "0003.png", (32, 32, 3))


@pytest.mark.benchmark(group=_PNG)
def test_read_image_png(benchmark: BenchmarkFixture, golden: Path) -> None:
    _read_image(benchmark, golden / "digits" / "3" / "0003.png")


def _imread(benchmark: BenchmarkFixture, path: Path, shape: tuple[int, ...]) -> None:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert pixels is not None
    assert pixels.shape == shape
    benchmark(cv2.imread, str(path), cv2.IMREAD_COLOR_RGB)


def _read_image(benchmark: BenchmarkFixture, path: Path) -> None:
    expected = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert expected is not None
    np.testing.assert_array_equal(read_image(path).pixels, expected)
    benchmark(read_image, path)
