"""Crop, resize and colours: shapes, places, and no stripes that were not there."""

from __future__ import annotations

from typing import Any, get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.errors import FrameError
from edge_sdk.types import Frame, PixelFormat
from edge_sdk.vision.preprocess import CROPS, Crop, Preprocessing, Preprocessor, preprocess

pytestmark = pytest.mark.computes

Pixels = NDArray[np.uint8]
_FORMATS: tuple[PixelFormat, ...] = get_args(PixelFormat)


def _noise(width: int, height: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _as_frame(rgb: Pixels, format_: PixelFormat) -> Frame:
    codes = {
        "bgr": cv2.COLOR_RGB2BGR,
        "rgba": cv2.COLOR_RGB2RGBA,
        "gray": cv2.COLOR_RGB2GRAY,
        "i420": cv2.COLOR_RGB2YUV_I420,
    }
    pixels = cv2.cvtColor(rgb, codes[format_]) if format_ in codes else rgb
    return Frame(pixels.astype(np.uint8, copy=False), format_)


@pytest.mark.parametrize("channels", [3, 1], ids=["to-rgb", "to-gray"])
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("format_", _FORMATS)
@pytest.mark.parametrize(
    "target", [(32, 32), (33, 17), (640, 480), (64, 48)], ids=["small", "odd", "larger", "same"]
)
def test_every_format_becomes_the_models_input(
    target: tuple[int, int], format_: PixelFormat, crop: Crop, channels: int
) -> None:
    frame = _as_frame(_noise(64, 48), format_)
    width, height = target
    out = preprocess(frame, Preprocessing(width, height, channels, crop))
    assert out.shape == (height, width, channels)
    assert out.dtype == np.uint8


@pytest.mark.parametrize("format_", [f for f in _FORMATS if f != "gray"])
@pytest.mark.parametrize("crop", CROPS)
def test_the_format_of_a_frame_does_not_change_its_colours(
    format_: PixelFormat, crop: Crop
) -> None:
    # Large areas of one colour: i420 halves the resolution of colours.
    rgb = np.full((48, 64, 3), (200, 30, 90), np.uint8)
    rgb[:, 32:] = (10, 120, 250)
    how = Preprocessing(32, 24, 3, crop)
    difference = preprocess(_as_frame(rgb, format_), how).astype(int) - preprocess(rgb, how)
    assert np.abs(difference).max() <= (4 if format_ == "i420" else 0)


def test_gray_is_the_luminance_of_bt601() -> None:
    rgb = np.full((4, 4, 3), (200, 30, 90), np.uint8)
    expected = round(0.299 * 200 + 0.587 * 30 + 0.114 * 90)
    for format_ in ("rgb", "bgr", "rgba"):
        out = preprocess(_as_frame(rgb, format_), Preprocessing(4, 4, 1))
        assert np.unique(out).tolist() == [expected]


def test_gray_is_spread_over_three_channels() -> None:
    gray = _noise(32, 32)[..., 0]
    out = preprocess(Frame(gray, "gray"), Preprocessing(32, 32))
    np.testing.assert_array_equal(out, np.dstack([gray] * 3))


def test_a_gray_frame_may_have_a_channel_axis() -> None:
    gray = _noise(64, 48)[..., :1]
    how = Preprocessing(32, 32)
    expected = preprocess(Frame(gray[..., 0], "gray"), how)
    np.testing.assert_array_equal(preprocess(Frame(gray, "gray"), how), expected)


@pytest.mark.parametrize("crop", CROPS)
def test_a_picture_of_the_right_size_is_left_as_it_is(crop: Crop) -> None:
    rgb = _noise(64, 48)
    np.testing.assert_array_equal(preprocess(rgb, Preprocessing(64, 48, 3, crop)), rgb)


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((40, 120), (slice(0, 40), slice(40, 80))),
        ((120, 40), (slice(40, 80), slice(0, 40))),
        ((40, 41), (slice(0, 40), slice(0, 40))),
        ((43, 40), (slice(1, 41), slice(0, 40))),
    ],
    ids=["wide", "tall", "odd-width", "odd-height"],
)
def test_center_cuts_out_the_middle(shape: tuple[int, int], window: tuple[slice, slice]) -> None:
    rgb = _noise(shape[1], shape[0])
    out = preprocess(rgb, Preprocessing(40, 40, 3, "center"))
    np.testing.assert_array_equal(out, rgb[window])


def test_center_takes_the_shape_of_the_target() -> None:
    rgb = np.zeros((100, 100, 3), np.uint8)
    rgb[25:75] = (10, 200, 30)
    out = preprocess(rgb, Preprocessing(40, 20, 3, "center"))
    assert np.unique(out.reshape(-1, 3), axis=0).tolist() == [[10, 200, 30]]


def test_squash_keeps_the_whole_picture() -> None:
    rgb = np.zeros((30, 90, 3), np.uint8)
    rgb[:, :30], rgb[:, 30:60], rgb[:, 60:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    out = preprocess(rgb, Preprocessing(30, 30, 3, "squash"))
    assert out[15, [4, 15, 25]].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize("channels", [3, 1], ids=["rgb", "gray"])
@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((50, 100), (slice(10, 30), slice(0, 40))),
        ((100, 50), (slice(0, 40), slice(10, 30))),
        ((10, 20), (slice(10, 30), slice(0, 40))),
        ((1, 400), (slice(19, 20), slice(0, 40))),
    ],
    ids=["wide", "tall", "enlarged", "a-line"],
)
def test_letterbox_puts_black_bars_around_the_picture(
    shape: tuple[int, int], window: tuple[slice, slice], channels: int
) -> None:
    expected = np.zeros((40, 40, channels), np.uint8)
    expected[window] = 255
    white = np.full((*shape, 3), 255, np.uint8)
    out = preprocess(white, Preprocessing(40, 40, channels, "letterbox"))
    np.testing.assert_array_equal(out, expected)


def test_the_bars_of_a_letterbox_stay_black_from_frame_to_frame() -> None:
    prepare = Preprocessor(Preprocessing(40, 40, 3, "letterbox"))
    prepare(np.full((40, 40, 3), 255, np.uint8))
    assert not prepare(np.full((20, 40, 3), 255, np.uint8))[:10].any()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)], ids=str)
@pytest.mark.parametrize("crop", CROPS)
def test_the_thinnest_pictures_are_still_pictures(size: tuple[int, int], crop: Crop) -> None:
    out = preprocess(np.full((size[1], size[0], 3), 77, np.uint8), Preprocessing(32, 24, 3, crop))
    assert out.shape == (24, 32, 3)
    assert 77 in out


_SIDES = st.integers(1, 400)


@settings(deadline=None, max_examples=150)
@given(
    width=_SIDES,
    height=_SIDES,
    target=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    crop=st.sampled_from(["center", "squash"]),
    low=st.integers(0, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_value_comes_out_that_lies_beyond_those_put_in(
    width: int, height: int, target: tuple[int, int], crop: Crop, low: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    rgb = random.integers(low, low + 50, (height, width, 3), np.uint8)
    out = preprocess(rgb, Preprocessing(*target, 3, crop))
    assert out.shape == (target[1], target[0], 3)
    assert rgb.min() <= out.min()
    assert out.max() <= rgb.max()


# Stripes closer than two pixels of the target cannot be shown by it: whatever contrast is left is
# an alias. Halving takes most of it away and the linear step at the end leaves some, at worst (four
# pixels in a centre crop, which halving passes on whole) seven tenths of what linear alone leaves.
_SHARE_OF_LINEAR = 0.72
_FRAME = (1280, 720)
_TARGET = (224, 224)
_CROPPED: dict[Crop, slice] = {"squash": slice(0, 1280), "center": slice(280, 1000)}
_FINE = [
    (crop, period)
    for crop, columns in _CROPPED.items()
    for period in (2, 2.5, 3, 3.3, 4, 5, 5.9, 6, 7, 8, 9, 10, 11, 12)
    if period * _TARGET[0] / (columns.stop - columns.start) < 2
]


def _stripes(period: float) -> Pixels:
    row = np.where(np.arange(_FRAME[0]) % period < period / 2, 255, 0).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (_FRAME[1], _FRAME[0], 3)))


def _contrast_left(crop: Crop, period: float, interpolation: int) -> float:
    region = np.ascontiguousarray(_stripes(period)[:, _CROPPED[crop]])
    return float(cv2.resize(region, _TARGET, interpolation=interpolation).std())


@pytest.mark.parametrize(("crop", "period"), _FINE)
def test_fine_stripes_fade(crop: Crop, period: float) -> None:
    out = preprocess(_stripes(period), Preprocessing(*_TARGET, 3, crop))
    linear = _contrast_left(crop, period, cv2.INTER_LINEAR)
    assert out.std() <= _SHARE_OF_LINEAR * linear
    # One halving alone leaves 54 of these stripes when a whole 720p frame is squashed.
    if crop == "squash" and period < 6:
        assert out.std() < 40


@pytest.mark.parametrize("crop", CROPS)
def test_a_preprocessor_reuses_its_memory(crop: Crop) -> None:
    prepare = Preprocessor(Preprocessing(32, 32, 3, crop))
    first = prepare(_noise(100, 100, seed=1))
    assert np.shares_memory(first, prepare(_noise(100, 100, seed=2)))


@pytest.mark.parametrize("side", [32, 100], ids=["same-size", "resized"])
@pytest.mark.parametrize("format_", _FORMATS)
@pytest.mark.parametrize("crop", CROPS)
def test_what_preprocess_returns_belongs_to_the_caller(
    crop: Crop, format_: PixelFormat, side: int
) -> None:
    frame = _as_frame(_noise(side, side), format_)
    before = frame.pixels.copy()
    how = Preprocessing(32, 32, 1 if format_ == "gray" else 3, crop)
    first = preprocess(frame, how)
    assert not np.shares_memory(first, frame.pixels)
    assert not np.shares_memory(first, preprocess(frame, how))
    first[:] = 0
    np.testing.assert_array_equal(frame.pixels, before)


@pytest.mark.parametrize("channels", [3, 1], ids=["rgb", "gray"])
@pytest.mark.parametrize("crop", CROPS)
def test_a_preprocessor_fed_with_many_sizes_does_what_preprocess_does(
    crop: Crop, channels: int
) -> None:
    how = Preprocessing(32, 24, channels, crop)
    prepare = Preprocessor(how)
    random = np.random.default_rng(3)
    # Forty sizes in two rounds: more than it keeps buffers for, and each one again.
    sizes = [(int(w) * 2, int(h) * 2) for w, h in random.integers(1, 90, (40, 2))] * 2
    for i, (width, height) in enumerate(sizes):
        frame = _as_frame(_noise(width, height, seed=i), _FORMATS[i % len(_FORMATS)])
        np.testing.assert_array_equal(prepare(frame), preprocess(frame, how))


_VIEWS = {
    "mirrored": lambda p: p[:, ::-1],
    "channels-reversed": lambda p: p[..., ::-1],
    "transposed": lambda p: p.transpose(1, 0, 2),
    "every-other": lambda p: p[::2, ::3],
    "fortran-order": np.asfortranarray,
}


@pytest.mark.parametrize("view", _VIEWS.values(), ids=_VIEWS)
@pytest.mark.parametrize("crop", CROPS)
def test_a_view_is_as_good_as_a_copy(crop: Crop, view: Any) -> None:
    how = Preprocessing(32, 24, 3, crop)
    rgb = view(_noise(90, 70))
    np.testing.assert_array_equal(preprocess(rgb, how), preprocess(rgb.copy(order="C"), how))


def test_a_read_only_frame_is_enough() -> None:
    rgb = _noise(90, 70)
    rgb.flags.writeable = False
    assert preprocess(rgb, Preprocessing(32, 24)).flags.writeable


_NO_PICTURES: dict[str, Any] = {
    "a-list": [[[1, 2, 3]]],
    "floats": np.zeros((8, 8, 3), np.float32),
    "int8": np.zeros((8, 8, 3), np.int8),
    "no-channels": np.zeros((8, 8), np.uint8),
    "four-channels": np.zeros((8, 8, 4), np.uint8),
    "a-batch": np.zeros((1, 8, 8, 3), np.uint8),
    "a-number": np.array(7, np.uint8),
    "empty": np.zeros((0, 8, 3), np.uint8),
    "rgba-of-three": Frame(np.zeros((8, 8, 3), np.uint8), "rgba"),
    "gray-of-three": Frame(np.zeros((8, 8, 3), np.uint8), "gray"),
    "i420-of-odd-height": Frame(np.zeros((10, 8), np.uint8), "i420"),
    "i420-of-odd-width": Frame(np.zeros((12, 7), np.uint8), "i420"),
    "unknown-format": Frame(np.zeros((8, 8, 3), np.uint8), "hsv"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("given", _NO_PICTURES.values(), ids=_NO_PICTURES)
def test_what_cannot_be_a_picture_is_refused(given: Any) -> None:
    with pytest.raises(FrameError):
        preprocess(given, Preprocessing(4, 4))
