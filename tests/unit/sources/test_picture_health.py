from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.sources.picture_health import DamagedFrames, PictureHealth, sample
from edge_sdk.types import Frame, PixelFormat

_Pixels = NDArray[np.uint8]
_SHAPE = (48, 64)


def _scene(seed: int) -> NDArray[np.float64]:
    """A still life: smooth patches, 40..200."""
    coarse = np.random.default_rng(seed).integers(40, 200, (6, 8)).astype(np.float64)
    return np.kron(coarse, np.ones((_SHAPE[0] // 6, _SHAPE[1] // 8)))


def _noisy(scene: NDArray[np.float64], i: int, sigma: float = 2.0) -> _Pixels:
    noise = np.random.default_rng(i).normal(0, sigma, scene.shape)
    return np.clip(scene + noise, 0, 255).astype(np.uint8)


def _events(
    pictures: Iterable[_Pixels], fps: float = 10.0, health: PictureHealth | None = None
) -> list[str]:
    health = health or PictureHealth()
    return [
        event.what
        for i, pixels in enumerate(pictures)
        for event in health.see(Frame(pixels, "gray"), i / fps)
    ]


def test_a_still_life_seen_by_a_sensor_is_healthy() -> None:
    assert _events(_noisy(_scene(0), i, 0.5) for i in range(1200)) == []


@pytest.mark.parametrize("fps", [1.0, 7.0, 30.0])
def test_a_frozen_picture_is_told_once_and_told_to_be_over(fps: float) -> None:
    n = int(20 * fps)
    moving = [_noisy(_scene(0), i) for i in range(n)]
    still = [moving[-1]] * n
    assert _events([*moving, *still, *moving], fps) == ["frozen", "recovered"]


def test_frozen_is_told_after_its_time() -> None:
    health = PictureHealth(frozen_s=3.0)
    picture = _noisy(_scene(0), 0)
    when = [i / 10 for i in range(100) if health.see(Frame(picture, "gray"), i / 10)]
    assert when == [pytest.approx(3.0, abs=0.11)]


def test_where_nothing_can_differ_nothing_is_frozen() -> None:
    white = np.full(_SHAPE, 255, np.uint8)
    assert _events([white] * 300) == []


def test_a_still_picture_may_be_allowed() -> None:
    health = PictureHealth(frozen_s=None)
    assert _events([_noisy(_scene(0), 0)] * 300, health=health) == []


def test_after_a_restart_frozen_is_told_again() -> None:
    health = PictureHealth(frozen_s=2.0, changed_s=None)
    frame = Frame(_noisy(_scene(0), 0), "gray")
    reported = [i for i in range(40) if health.see(frame, i / 10)]
    assert not health.moving
    health.restart()
    reported += [i for i in range(40, 80) if health.see(frame, i / 10)]
    assert reported == [pytest.approx(20, abs=1), pytest.approx(60, abs=1)]
    health.see(Frame(_noisy(_scene(0), 1), "gray"), 9.0)
    assert health.moving


@pytest.mark.parametrize(
    "dark",
    [
        lambda _: np.zeros(_SHAPE, np.uint8),  # a sensor that gives nothing: not frozen, but black
        lambda i: np.random.default_rng(i).integers(0, 5, _SHAPE, np.uint8),
    ],
)
def test_black_is_told_once_and_told_to_be_over(dark: Callable[[int], _Pixels]) -> None:
    day = [_noisy(_scene(0), i) for i in range(100)]
    assert _events([*day, *map(dark, range(600)), *day]) == ["black", "recovered"]


def test_night_with_its_noise_is_no_event() -> None:
    night = np.full(_SHAPE, 6.0)
    pictures = [_noisy(night, i, 12.0) for i in range(600)]
    assert _events(pictures) == []


def test_dusk_and_dawn_are_no_event() -> None:
    scene = _scene(1)
    light = np.concatenate([np.linspace(1, 0.1, 300), np.linspace(0.1, 1, 300)])
    assert _events((_noisy(scene * share, i) for i, share in enumerate(light)), 2.0) == []


def test_lamps_switched_off_and_on_are_no_event() -> None:
    scene = _scene(1)
    levels = [1.0] * 600 + [0.4] * 600 + [1.0] * 600
    assert _events(_noisy(scene * level, i) for i, level in enumerate(levels)) == []


def test_light_at_the_border_of_black_does_not_flood() -> None:
    levels = [15.0, 18.0] * 300
    pictures = [np.full(_SHAPE, level, np.uint8) for level in levels for _ in range(15)]
    assert len(_events(pictures)) <= 2


def test_a_camera_that_was_moved_is_told_once() -> None:
    pictures = [_noisy(_scene(0 if i < 600 else 1), i) for i in range(1800)]
    health = PictureHealth()
    found = [
        (i / 10, event)
        for i, pixels in enumerate(pictures)
        for event in health.see(Frame(pixels, "gray"), i / 10)
    ]
    assert [event.what for _, event in found] == ["changed"]
    assert 60 < found[0][0] < 90
    assert "moved" in found[0][1].detail


def test_a_lens_that_was_covered_by_day_is_told() -> None:
    paper = np.full(_SHAPE, 120.0)
    pictures = [_noisy(_scene(0) if i < 600 else paper, i) for i in range(1200)]
    assert _events(pictures) == ["changed"]


def test_who_walks_by_changes_nothing() -> None:
    def picture(i: int) -> _Pixels:
        scene = _scene(0)
        column = i * 2 % 160
        scene[:, column : column + 16] = 30.0  # a quarter of the picture, four seconds each time
        return _noisy(scene, i)

    assert _events(picture(i) for i in range(1800)) == []


def test_a_camera_that_never_stands_still_is_not_judged() -> None:
    assert _events((_noisy(_scene(i // 16), i) for i in range(480)), 2.0) == []


def test_a_picture_that_changes_again_and_again_does_not_flood() -> None:
    events = _events((_noisy(_scene(i // 50), i) for i in range(1200)), 2.0)
    assert events.count("changed") <= 10  # ten minutes


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.3, 30.0), st.floats(0.0, 255.0))
def test_noise_alone_is_never_frozen(seed: int, sigma: float, level: float) -> None:
    scene = np.full(_SHAPE, level)
    assert "frozen" not in _events(_noisy(scene, seed + i, sigma) for i in range(80))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 3))
@example(1, 1, 3)
def test_every_size_and_format_gives_a_grid_of_the_picture(
    height: int, width: int, which: int
) -> None:
    formats: tuple[PixelFormat, ...] = ("gray", "rgb", "rgba", "i420")
    shape = (height, width)
    plane = (np.arange(height * width) % 251).astype(np.uint8).reshape(shape)
    pixels = {
        "gray": plane,
        "rgb": np.stack([plane * 0, plane, plane * 0], axis=2),
        "rgba": np.stack([plane * 0, plane, plane * 0, plane * 0], axis=2),
        "i420": np.concatenate([plane, plane[: height // 2]]),
    }[formats[which]]
    grid = sample(Frame(pixels, formats[which]))
    assert grid.shape == (48, 64)
    if formats[which] != "i420" or height % 2 == 0:
        np.testing.assert_array_equal(grid, sample(Frame(plane, "gray")))


def test_a_grid_covers_the_whole_picture() -> None:
    height, width = 95, 127  # just below twice the grid
    ramp = np.broadcast_to(np.arange(width, dtype=np.uint8), (height, width))
    grid = sample(Frame(ramp, "gray"))
    assert grid[0, 0] <= 1
    assert grid[0, -1] >= width - 2


def test_a_real_video_gives_no_false_alarm(tmp_path: Path) -> None:
    """The pictures of a noisy camera that pans, encoded as video files are."""
    path = str(tmp_path / "pan.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 30, (160, 120))
    wide = np.kron(
        np.random.default_rng(3).integers(30, 220, (12, 60)).astype(np.float64), np.ones((10, 20))
    )
    for i in range(600):
        view = _noisy(wide[:, i : i + 160], i)
        writer.write(np.repeat(view[:, :, None], 3, axis=2))
    writer.release()
    capture = cv2.VideoCapture(path)
    health = PictureHealth()
    events = []
    for i in range(600):
        ok, pixels = capture.read()
        assert ok
        events += health.see(Frame(pixels, "bgr"), i / 30)
    assert events == []


def test_damaged_frames_are_reported_at_once_and_then_once_a_minute() -> None:
    damaged = DamagedFrames()
    first = damaged.see("premature end", 100.0)
    assert first is not None
    assert first.what == "damaged"
    assert first.detail == "1 frame dropped, 1 in all: premature end; the stream continues"
    assert [damaged.see("again", 100.0 + i) for i in range(1, 60)] == [None] * 59
    later = damaged.see("bad Huffman code", 160.0)
    assert later is not None
    assert later.detail == "60 frames dropped, 61 in all: bad Huffman code; the stream continues"
    assert damaged.see("x", 219.9) is None
    assert damaged.count == 62
