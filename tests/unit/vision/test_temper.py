"""The temperature on the device: what it does to scores, and what it must not do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_sdk.artifact import Artifact
from edge_sdk.artifact.manifest import SelfTest
from edge_sdk.classifier import Classifier
from edge_sdk.errors import EngineError, SelfTestError
from edge_sdk.testing import FakeEngine
from edge_sdk.vision.tensors import TEMPERATURES, softmax, temper

pytestmark = pytest.mark.computes

_FRAME = np.zeros((32, 32, 3), np.uint8)
_SCORES = np.array([[0, 0, 0, 0.75, 0, 0, 0, 0.25, 0, 0]], np.float32)
_TEMPERATURES = st.floats(*TEMPERATURES)
_LOGITS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=1, min_side=2, max_side=40),
    elements=st.floats(-60, 60, width=32),
)


@settings(deadline=None)
@given(_LOGITS, _TEMPERATURES)
def test_the_order_of_the_scores_is_kept(logits: Any, temperature: float) -> None:
    scores = softmax(logits)
    order = np.argsort(scores, kind="stable")
    tempered = temper(scores, temperature)[order]
    assert (np.diff(tempered) >= 0).all()
    assert float(tempered.sum()) == pytest.approx(1, abs=1e-5)


# Scores more than e^40 apart lie near float32's end, where digits are lost before the temperature.
@settings(deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(2, 40), elements=st.floats(-20, 20, width=32)),
    st.floats(0.05, 20),
)
def test_it_is_the_softmax_of_divided_logits(logits: Any, temperature: float) -> None:
    exact = logits.astype(np.float64)
    exact = np.exp((exact - exact.max()) / temperature)
    tempered = temper(softmax(logits), temperature)
    assert tempered.dtype == np.float32
    # At a low temperature the last bit of a score's logarithm counts 20 times.
    assert tempered == pytest.approx(exact / exact.sum(), rel=1e-4, abs=1e-6)


@given(_LOGITS)
def test_a_temperature_of_one_gives_back_the_very_array(logits: Any) -> None:
    scores = softmax(logits)
    before = scores.copy()
    assert temper(scores, 1.0) is scores
    assert np.array_equal(scores, before)


@pytest.mark.parametrize("temperature", [*TEMPERATURES, 0.5, 2.0])
def test_a_score_of_zero_stays_zero_without_a_warning(temperature: float) -> None:
    tempered = temper(np.array([0, 1, 0], np.float32), temperature)
    assert tempered.tolist() == [0, 1, 0]


def test_rows_are_tempered_as_single_pictures_are() -> None:
    rng = np.random.default_rng(0)
    scores = softmax(rng.normal(0, 5, (200, 37)).astype(np.float32))
    rows = np.stack([temper(row, 1.7) for row in scores])
    assert np.array_equal(temper(scores, 1.7), rows)  # a threshold is compared to the last bit


def test_scores_that_a_float_rounds_to_one_are_told_apart() -> None:
    sure, surer = np.array([[1, 1e-9], [1, 1e-20]], np.float32)
    assert sure.max() == surer.max() == 1
    assert temper(sure, 2).max() < temper(surer, 2).max()


def _classifier(path: Path, answer: Any, temperature: float) -> Classifier:
    artifact = Artifact.open(path)
    assert artifact.manifest is not None
    manifest = replace(artifact.manifest, temperature=temperature, threshold=0.7)
    return Classifier(replace(artifact, manifest=manifest), FakeEngine(lambda _: answer.copy()))


def test_a_classifier_applies_what_the_manifest_says(int8_artifact: Path) -> None:
    plain = _classifier(int8_artifact, _SCORES, 1.0).classify(_FRAME)
    warm = _classifier(int8_artifact, _SCORES, 2.0).classify(_FRAME)
    assert plain.scores[[3, 7]].tolist() == [0.75, 0.25]
    # 3 : 1 becomes the square root of it.
    assert warm.scores[3] / warm.scores[7] == pytest.approx(3**0.5, rel=1e-5)
    assert warm.scores.sum() == pytest.approx(1)
    assert (plain.label, warm.label) == ("3", None)  # the threshold is for tempered scores


def test_a_foreign_model_has_no_temperature(int8_artifact: Path) -> None:
    artifact = replace(Artifact.open(int8_artifact), manifest=None)
    assert Classifier(artifact, FakeEngine(lambda _: _SCORES)).temperature == 1.0


@pytest.mark.parametrize("bad", [np.zeros((1, 10)), -_SCORES, np.full((1, 10), np.nan)])
def test_what_has_no_logarithm_is_no_answer(bad: Any, int8_artifact: Path) -> None:
    classifier = _classifier(int8_artifact, bad.astype(np.float32), 2.0)
    with pytest.raises(EngineError, match="returned NaN"):
        classifier.classify(_FRAME)


def test_the_self_test_looks_at_scores_before_the_temperature(int8_artifact: Path) -> None:
    classifier = _classifier(int8_artifact, _SCORES, 20.0)
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    classifier.check(SelfTest(pixels, _SCORES))
    with pytest.raises(SelfTestError):
        classifier.check(SelfTest(pixels, temper(_SCORES, 20.0)))
