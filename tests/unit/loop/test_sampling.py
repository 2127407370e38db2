"""What is looked at: parts of frames, moved ones, every how many, how often."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.errors import FrameError
from edge_sdk.loop.sampling import Attention, Motion, MotionGate, Pace, Region, parse_region, view
from edge_sdk.types import Frame, PixelFormat
from edge_sdk.vision.preprocess import Preprocessing, preprocess

# Regions


def _picture(height: int, width: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(height * 1000 + width)
    small = rng.integers(0, 256, (4, 4, 3), np.uint8)
    big: Any = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(big, np.uint8)


_SHARES = st.tuples(st.floats(0, 0.99), st.floats(0.001, 1)).map(
    lambda pair: (pair[0], min(pair[1], 1 - pair[0]))
)


@given(x=_SHARES, y=_SHARES, width=st.integers(1, 200), height=st.integers(1, 200))
def test_a_region_is_within_the_picture_and_never_empty(
    x: tuple[float, float], y: tuple[float, float], width: int, height: int
) -> None:
    left, top, right, bottom = Region(x[0], y[0], x[1], y[1]).pixels(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert abs(left - x[0] * width) <= 1
    assert abs(right - (x[0] + x[1]) * width) <= 1


@pytest.mark.parametrize("format_", ["rgb", "bgr", "rgba", "gray"])
def test_a_view_is_a_view(format_: PixelFormat) -> None:
    channels = {"rgb": (3,), "bgr": (3,), "rgba": (4,), "gray": ()}[format_]
    pixels = np.arange(8 * 12 * (channels[0] if channels else 1)).astype(np.uint8)
    frame = Frame(pixels.reshape(8, 12, *channels), format_, 7, 5, "cam")
    part = view(frame, Region(0.5, 0.25, 0.5, 0.5))
    assert np.shares_memory(part.pixels, frame.pixels)
    np.testing.assert_array_equal(part.pixels, frame.pixels[2:6, 6:12])
    assert (part.format, part.index, part.timestamp_ns, part.name) == (format_, 7, 5, "cam")


def test_all_of_a_picture_is_a_region_too() -> None:
    frame = Frame(_picture(9, 7))
    np.testing.assert_array_equal(view(frame, Region(0, 0, 1, 1)).pixels, frame.pixels)


@pytest.mark.parametrize("size", [(64, 96), (66, 98), (48, 50)])
@pytest.mark.parametrize("region", [Region(0, 0, 1, 1), Region(0.25, 0.5, 0.5, 0.5)])
def test_a_part_of_i420_has_the_colours_of_the_same_part_in_rgb(
    size: tuple[int, int], region: Region
) -> None:
    rgb = _picture(*size)
    i420 = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8)
    part = view(Frame(i420, "i420"), region)
    whole = np.asarray(cv2.cvtColor(i420, cv2.COLOR_YUV2RGB_I420), np.uint8)
    left, top, right, bottom = (2 * n for n in region.pixels(size[1] // 2, size[0] // 2))
    expected = whole[top:bottom, left:right]
    how = Preprocessing(expected.shape[1], expected.shape[0])
    np.testing.assert_array_equal(preprocess(part, how), expected)


@pytest.mark.parametrize("pixels", [None, np.zeros(5, np.uint8), np.zeros((0, 5, 3), np.uint8)])
def test_a_part_of_no_picture_is_refused(pixels: Any) -> None:
    with pytest.raises(FrameError):
        view(Frame(pixels), Region(0, 0, 1, 1))


def test_a_part_of_a_crooked_i420_is_refused() -> None:
    with pytest.raises(FrameError, match="i420"):
        view(Frame(np.zeros((10, 6), np.uint8), "i420"), Region(0, 0, 1, 1))


def test_a_region_is_read_from_a_text() -> None:
    assert parse_region("0.1,0.2,0.3,0.4") == Region(0.1, 0.2, 0.3, 0.4)
    assert str(parse_region("door=0,0,0.5,1")) == "door"
    assert str(parse_region("0,0,0.5,1")) == "0,0,0.5,1"
    assert parse_region("0.333,0,0.334,1").pixels(300, 10) == (100, 0, 200, 10)


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "a,b,c,d", "0.5,0,0.6,1", "-0.1,0,1,1", "0,0,0,1", "nan,0,1,1", "0,0,2,1"]
)
def test_what_is_no_region_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"as in 0\.25,0,0\.5,1"):
        parse_region(text)


# Motion

_SECOND = 1.0


def _scene(shift: int = 0, noise: int = 0, seed: int = 0) -> Frame:
    pixels = np.full((240, 320, 3), 90, np.uint8)
    pixels[80:160, 40 + shift : 100 + shift] = 200
    if noise:
        rng = np.random.default_rng(seed)
        pixels = np.clip(pixels + rng.normal(0, noise, pixels.shape), 0, 255).astype(np.uint8)
    return Frame(pixels)


def test_the_first_frame_passes_and_the_same_again_does_not() -> None:
    gate = MotionGate(Motion())
    assert [gate.passes(_scene(), t * _SECOND) for t in range(4)] == [True, False, False, False]


def test_a_sensors_noise_does_not_pass_and_a_thing_that_moves_does() -> None:
    gate = MotionGate(Motion())
    gate.passes(_scene(noise=5), 0)
    assert not any(gate.passes(_scene(noise=5, seed=i), i * 0.1) for i in range(1, 20))
    assert gate.passes(_scene(shift=30, noise=5), 2.5)


def test_slow_motion_adds_up() -> None:
    gate = MotionGate(Motion(refresh_s=1e9))
    passed = [gate.passes(_scene(shift=i), i * 0.1) for i in range(40)]
    assert 2 <= sum(passed) <= 20


def test_now_and_then_a_frame_passes_all_the_same() -> None:
    gate = MotionGate(Motion(refresh_s=10))
    passed = [t for t in range(35) if gate.passes(_scene(), float(t))]
    assert passed == [0, 10, 20, 30]


@pytest.mark.parametrize("pixels", [None, np.zeros(3, np.uint8), np.zeros((0, 0), np.uint8)])
def test_what_is_no_picture_passes_for_others_to_refuse(pixels: Any) -> None:
    gate = MotionGate(Motion())
    assert all(gate.passes(Frame(pixels), t) for t in (0.0, 1.0))


def test_another_size_passes() -> None:
    gate = MotionGate(Motion())
    assert gate.passes(Frame(np.zeros((48, 64, 3), np.uint8)), 0)
    assert gate.passes(Frame(np.zeros((64, 48, 3), np.uint8)), 1)


@pytest.mark.parametrize("format_", ["gray", "i420", "rgba"])
def test_every_format_is_looked_at(format_: PixelFormat) -> None:
    shape = (96, 64, 4) if format_ == "rgba" else (96, 64)
    dark, light = np.zeros(shape, np.uint8), np.full(shape, 200, np.uint8)
    gate = MotionGate(Motion())
    assert [gate.passes(Frame(p, format_), 0.0) for p in (dark, dark, light)] == [True, False, True]


@given(values=st.lists(st.sampled_from([0, 30, 60, 250]), min_size=1, max_size=10))
def test_the_difference_does_not_wrap_around(values: list[int]) -> None:
    gate, last = MotionGate(Motion(levels=29)), None
    for value in values:
        passed = gate.passes(Frame(np.full((8, 8, 3), value, np.uint8)), 0.0)
        assert passed == (value != last)
        last = value


@pytest.mark.parametrize(
    "wrong",
    [{"share": 0}, {"share": 1}, {"levels": 0}, {"refresh_s": 0}, {"refresh_s": float("nan")}],
)
def test_a_gate_without_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="motion gate"):
        Motion(**wrong)


# Pace


@given(every=st.integers(1, 9), frames=st.integers(0, 50))
def test_one_of_every_so_many_is_taken_the_first_included(every: int, frames: int) -> None:
    pace = Pace(Attention(every=every))
    taken = [i for i in range(frames) if pace.takes(float(i))]
    assert taken == list(range(0, frames, every))


@given(fps=st.floats(0.1, 100), work_s=st.floats(0, 0.5), zero=st.floats(-1e6, 1e6))
def test_the_rate_is_kept_and_reached_where_the_work_allows(
    fps: float, work_s: float, zero: float
) -> None:
    pace, now_s, taken = Pace(Attention(max_fps=fps)), zero, []
    for _ in range(40):
        now_s += pace.wait_s(now_s)
        assert pace.takes(now_s)
        taken.append(now_s)
        now_s += work_s
    seconds = taken[-1] - taken[0]
    assert seconds >= 39 / fps * 0.999 - 1e-3
    assert seconds <= 39 * max(1 / fps, work_s) * 1.001 + 1e-3


def test_beats_that_were_missed_are_not_caught_up() -> None:
    pace = Pace(Attention(max_fps=10))
    assert pace.takes(0.0)
    assert pace.takes(5.0)  # a long pause
    assert pace.wait_s(5.0) <= 0.1
    assert pace.takes(5.0)
    assert pace.wait_s(5.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0},
        {"max_fps": 0},
        {"max_fps": -1},
        {"regions": (Region(0, 0, 1, 1), Region(0, 0, 1, 1))},
    ],
    ids=str,
)
def test_attention_without_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="got"):
        Attention(**wrong)
