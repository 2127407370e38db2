"""The lint of calibration pictures: every fault by its own code, and sound sets by none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason="the extra [host] is not installed")
from sklearn.datasets import load_digits, load_sample_image

from host_tools.cli.convert import convert
from host_tools.quantize.activations import RangeGrowth
from host_tools.quantize.calibrate import (
    CalibrationSet,
    PixelStatistics,
    statistics_from,
    statistics_of,
)
from host_tools.quantize.lint import RULES, LintReference, Severity, lint

pytestmark = pytest.mark.computes

_DOCUMENT = Path(__file__).parents[3] / "docs" / "calibration.md"
_SIDE = 32
_STEADY = RangeGrowth("conv1", (0.0, 4.0), (0.0, 4.5))
_MOVING = RangeGrowth("conv2", (0.0, 2.0), (-1.0, 4.0))


def _tiles(name: str) -> NDArray[np.uint8]:
    """Squares of a photograph as a warm lamp would light it, in an order that mixes all of it."""
    photograph = (load_sample_image(name) * np.array([1.0, 0.85, 0.6])).astype(np.uint8)
    rows, columns = photograph.shape[0] // _SIDE, photograph.shape[1] // _SIDE
    cut = photograph[: rows * _SIDE, : columns * _SIDE].reshape(rows, _SIDE, columns, _SIDE, 3)
    tiles = cut.swapaxes(1, 2).reshape(-1, _SIDE, _SIDE, 3)
    return np.asarray(tiles[np.random.default_rng(0).permutation(len(tiles))], np.uint8)


def _digits() -> NDArray[np.uint8]:
    values = (load_digits().images * (255 / 16)).astype(np.uint8)
    return np.repeat(values[..., np.newaxis], 3, axis=3)


def _set(pixels: NDArray[np.uint8], labels: tuple[str, ...] | None) -> CalibrationSet:
    digests = tuple(hashlib.sha256(picture.tobytes()).hexdigest() for picture in pixels)
    return CalibrationSet(pixels, digests, labels, "train", 0)


@pytest.fixture(scope="module")
def photographs() -> tuple[CalibrationSet, LintReference]:
    """A sound set of 120 squares of two photographs, its training split, and other squares."""
    china, flower = _tiles("china.jpg"), _tiles("flower.jpg")
    mixed = np.stack([china[:60], flower[:60]], axis=1).reshape(120, _SIDE, _SIDE, 3)
    training = statistics_of(np.concatenate([china[:200], flower[:200]]))
    evaluated = _set(np.concatenate([china[200:], flower[200:]]), None).digests
    return _set(mixed, ("china", "flower") * 60), LintReference(2, training, evaluated, _steady)


def _steady(_: CalibrationSet) -> list[RangeGrowth]:
    return [_STEADY]


_Fault = Callable[[CalibrationSet, LintReference], tuple[CalibrationSet, LintReference]]


def _with_pixels(calibration: CalibrationSet, pixels: NDArray[np.generic]) -> CalibrationSet:
    return replace(calibration, pixels=pixels)


def _one_class(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    return _set(_tiles("flower.jpg")[:120], ("flower",) * 120), reference


def _repeated(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    two = np.concatenate([calibration.pixels[:2]] * 60)
    return _set(two, ("china", "flower") * 60), reference


def _a_fifth_repeated(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    digests = (*calibration.digests[:96], *calibration.digests[:24])
    return replace(calibration, digests=digests), reference


def _too_few(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    return _set(calibration.pixels[:20], ("china", "flower") * 10), reference


def _fewer_than_classes(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    return calibration, replace(reference, classes=200)


def _divided(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    return _with_pixels(calibration, (calibration.pixels / 255).astype(np.float32)), reference


def _divided_and_stored(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    return _with_pixels(calibration, calibration.pixels // 255), reference


def _symmetric(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    return _with_pixels(calibration, calibration.pixels / np.float32(127.5) - 1), reference


def _standardised(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    assert reference.training is not None
    mean, std = np.array(reference.training.mean), reference.training.std
    stored = np.clip((calibration.pixels - mean) / std, 0, 255).astype(np.uint8)
    return _with_pixels(calibration, stored), reference


def _mean_subtracted(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    assert reference.training is not None
    stored = np.clip(calibration.pixels - np.array(reference.training.mean), 0, 255)
    return _with_pixels(calibration, stored.astype(np.uint8)), reference


def _too_large(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    return _with_pixels(calibration, calibration.pixels.astype(np.float32) * 255), reference


def _swapped(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    return _with_pixels(calibration, calibration.pixels[..., ::-1]), reference


def _overlap(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    return calibration, replace(reference, evaluated={calibration.digests[3], "another"})


def _unstable(
    calibration: CalibrationSet, reference: LintReference
) -> tuple[CalibrationSet, LintReference]:
    return calibration, replace(reference, growth=lambda _: [_MOVING, _STEADY])


_FAULTS: list[tuple[_Fault, str, str]] = [
    (_one_class, "one-class", "all 120 pictures are of 'flower'"),
    (_repeated, "repeated", "118 of 120 pictures are copies of others"),
    (_a_fifth_repeated, "repeated", "24 of 120 pictures are copies of others"),
    (_too_few, "too-few", "20 pictures, expected at least 100"),
    (_fewer_than_classes, "too-few", "120 pictures, expected at least 200, one of each of 200"),
    (_divided, "value-range", "no pixel is above 1, expected 0 to 255"),
    (_divided_and_stored, "value-range", "no pixel is above 1, expected 0 to 255"),
    (_symmetric, "value-range", "pixels from -1 to 1, expected 0 to 255"),
    (_standardised, "value-range", "pixels with mean "),
    (_mean_subtracted, "value-range", "pixels with mean "),
    (_too_large, "value-range", "expected 0 to 255"),
    (_swapped, "channels-swapped", "red is on average "),
    (_overlap, "overlap", "1 of 120 pictures are in the validation or test split"),
    (_unstable, "unstable-range", "conv2 goes from 0..2 on the first 60 pictures to -1..4 on all"),
]


@pytest.mark.parametrize(
    ("fault", "code", "reason"), _FAULTS, ids=[fault.__name__[1:] for fault, _, _ in _FAULTS]
)
def test_a_fault_is_found_by_its_own_code_and_no_other(
    fault: _Fault, code: str, reason: str, photographs: tuple[CalibrationSet, LintReference]
) -> None:
    findings = lint(*fault(*photographs)).findings
    assert [finding.code for finding in findings] == [code]
    assert reason in findings[0].reason
    assert findings[0].severity == RULES[code].severity
    assert findings[0].remedy == RULES[code].remedy


def test_the_table_has_every_code() -> None:
    assert {code for _, code, _ in _FAULTS} == set(RULES)


def test_a_sound_set_has_no_finding_and_every_code_was_checked(
    photographs: tuple[CalibrationSet, LintReference],
) -> None:
    result = lint(*photographs)
    assert result.findings == ()
    assert result.skipped == {}


@pytest.mark.parametrize("seed", range(10))
def test_sound_digits_are_not_accused(seed: int) -> None:
    pixels = _digits()
    order = np.random.default_rng(seed).permutation(len(pixels))
    labels = tuple(str(label) for label in load_digits().target[order[:100]])
    reference = LintReference(10, statistics_of(pixels), set(), _steady)
    result = lint(_set(pixels[order[:100]], labels), reference)
    assert result.findings == ()
    assert set(result.skipped) == {"channels-swapped"}
    assert "too alike" in result.skipped["channels-swapped"]


def test_a_set_as_dark_as_its_training_split_is_sound() -> None:
    masks = (_digits() > 127).astype(np.uint8)
    reference = LintReference(10, statistics_of(masks), set(), _steady)
    distinct = replace(_set(masks[:120], None), digests=tuple(map(str, range(120))))
    assert lint(distinct, reference).findings == ()


def test_what_is_not_known_is_listed_without_a_finding(
    photographs: tuple[CalibrationSet, LintReference],
) -> None:
    calibration, _ = photographs
    result = lint(replace(calibration, labels=None), LintReference(2, None, None, None))
    assert result.findings == ()
    assert set(result.skipped) == set(RULES) - {"repeated", "too-few"}


def test_normalised_pixels_are_found_without_anything_to_compare_with(
    photographs: tuple[CalibrationSet, LintReference],
) -> None:
    calibration, _ = photographs
    found = lint(
        _with_pixels(calibration, calibration.pixels // 255), LintReference(2, None, None, None)
    )
    assert [finding.code for finding in found.findings] == ["value-range"]


def test_a_gray_set_has_no_order_of_channels(
    photographs: tuple[CalibrationSet, LintReference],
) -> None:
    calibration, reference = photographs
    gray = calibration.pixels[..., :1]
    result = lint(_with_pixels(calibration, gray), replace(reference, training=statistics_of(gray)))
    assert result.findings == ()
    assert result.skipped == {"channels-swapped": "a gray model has no order of channels"}


def test_ranges_are_not_measured_on_a_set_that_is_faulty_already(
    photographs: tuple[CalibrationSet, LintReference],
) -> None:
    def never(_: CalibrationSet) -> list[RangeGrowth]:
        raise AssertionError

    calibration, reference = _too_few(*photographs)
    result = lint(calibration, replace(reference, growth=never))
    assert "found to be too-few" in result.skipped["unstable-range"]


@given(
    pixels=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)).flatmap(
        lambda one: hnp.arrays(np.uint8, (one.shape[0] * 30, *one.shape[1:], 3))
    )
)
def test_statistics_do_not_depend_on_how_pictures_are_batched(pixels: NDArray[np.uint8]) -> None:
    found = statistics_of(pixels)
    exact = pixels.astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(axis=(0, 1, 2)), atol=1e-9)
    np.testing.assert_allclose(found.std, exact.std(), atol=1e-6)
    means = exact.mean(axis=(1, 2))
    np.testing.assert_allclose(
        found.red_less_blue_std, (means[:, 0] - means[:, 2]).std(), atol=1e-9
    )
    assert (found.lowest, found.highest) == (pixels.min(), pixels.max())


def test_statistics_survive_the_provenance() -> None:
    statistics = PixelStatistics((1.25, 2.5, 3.125), 4.5, 1.5, 0.5, 0.0, 255.0)
    assert statistics_from(statistics.to_json()) == statistics


@given(low=st.floats(-9, -1e-3), high=st.floats(1e-3, 9), part=st.floats(0, 1))
def test_growth_is_the_share_of_the_range_that_was_not_seen(
    low: float, high: float, part: float
) -> None:
    growth = RangeGrowth("t", (part * low, part * high), (low, high))
    assert growth.share == pytest.approx(1 - part, abs=1e-6)


def test_the_command_knows_the_codes_and_the_document_explains_them() -> None:
    (option,) = (p for p in convert.params if p.name == "ignored")
    assert tuple(option.type.choices) == tuple(RULES)  # type: ignore[attr-defined]
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", _DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [(code, rule.severity) for code, rule in RULES.items()]
    assert {rule.severity for rule in RULES.values()} == set(get_args(Severity))
