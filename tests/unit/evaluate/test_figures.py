"""Every figure of an evaluation, against cases worked out by hand, scikit-learn and properties."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason="the extra [host] is not installed")

from sklearn import metrics

from host_tools.evaluate.figures import (
    BINS,
    MOST_POINTS,
    Averages,
    calibration,
    evaluate,
    ranking,
    top5,
    wilson_interval,
)

pytestmark = pytest.mark.computes

# scikit-learn checks its arguments for milliseconds.
_few = settings(max_examples=40, deadline=None)
_Case = tuple[NDArray[np.float32], NDArray[np.int64]]


@st.composite
def _cases(draw: st.DrawFn, fewest: int = 1) -> _Case:
    """Scores of a softmax and a truth; some classes may be absent, some scores equal."""
    classes, n = draw(st.integers(2, 9)), draw(st.integers(fewest, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = np.round(random.normal(0, draw(st.sampled_from([0.5, 3, 30])), (n, classes)))
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    truth = random.integers(0, draw(st.integers(1, classes)), n)
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32), truth


def _labels(scores: NDArray[np.float32]) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(scores.shape[1]))


def _one_hot(answers: list[int], classes: int, score: float = 1.0) -> NDArray[np.float32]:
    scores = np.full((len(answers), classes), (1 - score) / (classes - 1), np.float32)
    scores[np.arange(len(answers)), answers] = score
    return scores


def test_a_case_worked_out_by_hand() -> None:
    # Truth a a a b b; answers a a b b a; c is neither there nor answered.
    scores = _one_hot([0, 0, 1, 1, 0], 3, 0.8)
    found = evaluate(scores, np.array([0, 0, 0, 1, 1]), ("a", "b", "c"), "test")
    assert found.confusion == ((2, 1, 0), (1, 1, 0), (0, 0, 0))
    assert found.accuracy == 0.6
    a, b, c = found.per_class
    assert (a.precision, a.recall, a.n) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)
    assert (b.precision, b.recall, b.f1) == (0.5, 0.5, 0.5)
    assert (c.precision, c.recall, c.f1, c.n) == (None, None, None, 0)
    assert found.macro.f1 == pytest.approx((2 / 3 + 1 / 2) / 2)  # c does not count
    assert found.weighted.recall == pytest.approx(0.6)
    assert found.log_loss == pytest.approx(-(3 * math.log(0.8) + 2 * math.log(0.1)) / 5, rel=1e-5)
    assert [(one.truth, one.answer, one.n) for one in found.confused] == [
        ("a", "b", 1),
        ("b", "a", 1),
    ]
    # Right: (1 - 0.8)^2 + 2 * 0.1^2; wrong: 0.8^2 + 0.9^2 + 0.1^2.
    assert found.calibration.brier == pytest.approx((3 * 0.06 + 2 * 1.46) / 5, rel=1e-5)
    assert found.calibration.ece == pytest.approx(0.2)
    assert found.top5 is None


def test_a_class_that_is_never_answered_has_no_precision_but_counts_in_the_mean() -> None:
    found = evaluate(_one_hot([0, 0], 2), np.array([0, 1]), ("a", "b"), "test")
    assert found.per_class[1].precision is None
    assert found.per_class[1].f1 == 0
    assert found.macro == Averages(0.25, 0.5, pytest.approx(1 / 3))


def test_an_absent_class_that_is_answered_has_precision_0_and_no_recall() -> None:
    found = evaluate(_one_hot([0, 2], 3), np.array([0, 0]), ("a", "b", "c"), "test")
    assert (found.per_class[2].precision, found.per_class[2].recall) == (0, None)
    assert found.roc_auc is None  # one class alone has no ranking


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_without_pictures_every_figure_is_none_or_empty(classes: int) -> None:
    labels = tuple("abcdefgh"[:classes])
    scores = np.empty((0, classes), np.float32)
    found = evaluate(scores, np.empty(0, np.int64), labels, "validation")
    content = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
    for key in ("accuracy", "accuracy_ci95", "top5", "log_loss", "positive", "roc_auc", "roc"):
        assert content[key] is None
    assert content["calibration"] == {"ece": None, "mce": None, "brier": None, "bins": []}
    assert (
        content["macro"] == content["weighted"] == {"precision": None, "recall": None, "f1": None}
    )
    assert (content["n"], content["confused"], content["robustness"]) == (0, [], None)
    assert {row["recall"] for row in content["per_class"]} == {None}


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 labels"):
        evaluate(_one_hot([0, 1], 2), np.array([0, 1]), ("a", "b", "c"), "test")
    broken = _one_hot([0, 1], 2)
    broken[0, 0] = np.nan
    with pytest.raises(ValueError, match="not numbers"):
        evaluate(broken, np.array([0, 1]), ("a", "b"), "test")


@_few
@given(_cases())
def test_figures_are_those_of_scikit_learn(case: _Case) -> None:
    scores, truth = case
    found = evaluate(scores, truth, _labels(scores), "test")
    answers, classes = scores.argmax(axis=1), range(scores.shape[1])
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, answers))
    wanted = metrics.confusion_matrix(truth, answers, labels=classes)
    assert np.array_equal(found.confusion, wanted)
    assert found.weighted.f1 == pytest.approx(
        metrics.f1_score(truth, answers, average="weighted", zero_division=0)
    )
    assert found.macro.recall == pytest.approx(
        np.mean([(answers[truth == label] == label).mean() for label in np.unique(truth)])
    )
    # A score of 0 counts as the smallest step of a float32.
    own = np.clip(scores[np.arange(len(truth)), truth], 2**-23, 1 - 2**-23)
    assert found.log_loss == pytest.approx(-np.log(own).mean(), rel=1e-3, abs=1e-5)
    if len(np.unique(truth)) == scores.shape[1] > 2:
        wanted = metrics.roc_auc_score(truth, scores, multi_class="ovr", average="macro")
        assert found.roc_auc == pytest.approx(wanted)


@_few
@given(_cases())
def test_what_must_hold_of_any_scores(case: _Case) -> None:
    scores, truth = case
    found = evaluate(scores, truth, _labels(scores), "test")
    assert found.accuracy is not None
    assert found.accuracy_ci95 is not None
    low, high = found.accuracy_ci95
    assert 0 <= low <= found.accuracy <= high <= 1
    assert (found.top5 is None) == (scores.shape[1] <= 5)
    assert found.top5 is None or found.accuracy <= found.top5 <= 1
    measured = found.calibration
    assert sum(one.n for one in measured.bins) == len(truth)
    assert measured.ece is not None
    assert measured.mce is not None
    assert measured.brier is not None
    assert 0 <= measured.ece <= measured.mce + 1e-12 <= 1 + 1e-6
    assert 0 <= measured.brier <= 2 + 1e-6
    hits = sum(one.n * (one.accuracy or 0) for one in measured.bins)
    assert hits / len(truth) == pytest.approx(found.accuracy)
    wrong = sum(one.n for one in found.confused)
    assert wrong <= len(truth) - round(found.accuracy * len(truth))
    json.dumps(dataclasses.asdict(found), allow_nan=False)


@_few
@given(_cases(), st.integers(0, 2**32))
def test_the_order_of_the_pictures_does_not_matter(case: _Case, seed: int) -> None:
    scores, truth = case
    mixed = np.random.default_rng(seed).permutation(len(truth))
    one = dataclasses.asdict(evaluate(scores, truth, _labels(scores), "test"))
    other = dataclasses.asdict(evaluate(scores[mixed], truth[mixed], _labels(scores), "test"))
    for figures in (one, other):
        for key in ("roc", "pr"):
            figures[key] = figures[key] and figures[key].popitem()
    assert _flat(one) == pytest.approx(_flat(other))
    assert (one["confusion"], one["confused"]) == (other["confusion"], other["confused"])


def _flat(value: object) -> list[float]:
    if isinstance(value, dict):
        return [figure for part in value.values() for figure in _flat(part)]
    if isinstance(value, (tuple, list)):
        return [figure for part in value for figure in _flat(part)]
    return [float(value)] if isinstance(value, (int, float)) else []


def test_top5_counts_a_tie_as_argmax_would() -> None:
    scores = np.full((7, 7), 1 / 7, np.float32)
    assert top5(scores, np.arange(7)) == pytest.approx(5 / 7)
    assert top5(scores[:, :5], np.zeros(7, np.int64)) is None


@given(st.integers(0, 400), st.integers(1, 400))
def test_wilson_interval_is_that_of_its_definition(right: int, n: int) -> None:
    right = min(right, n)
    low, high = wilson_interval(right, n)
    for end in (low, high):
        # Its ends are the shares that are 1.96 of their own standard deviations away.
        if 0 < end < 1:
            spread = math.sqrt(end * (1 - end) / n)
            assert abs(right / n - end) == pytest.approx(1.959964 * spread, rel=1e-4, abs=1e-7)
    assert low <= right / n <= high


def test_wilson_interval_of_a_published_case() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


# ---------------------------------------------------------------- calibration


def test_scores_that_keep_their_promise_have_no_calibration_error() -> None:
    # In each of ten groups as many are right as the score says.
    parts = []
    for tenths in range(6, 11):
        wanted = [0] * tenths + [1] * (10 - tenths)
        parts.append((_one_hot([0] * 10, 2, tenths / 10), np.array(wanted)))
    scores, truth = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = calibration(scores, truth)
    assert found.ece == pytest.approx(0, abs=1e-6)
    assert found.mce == pytest.approx(0, abs=1e-6)


def test_a_model_that_is_too_sure_of_itself_is_found_out() -> None:
    found = calibration(_one_hot([0] * 100, 2, 0.99), np.arange(100) % 2)
    assert found.ece == pytest.approx(0.49)
    assert found.mce == pytest.approx(0.49)
    assert [one.n for one in found.bins] == [0] * (BINS - 1) + [100]


def test_the_error_of_two_bins_is_their_weighted_mean() -> None:
    scores = np.concatenate([_one_hot([0] * 3, 2, 0.9), _one_hot([0], 2, 0.6)])
    found = calibration(scores, np.array([0, 0, 0, 1]))
    assert found.ece == pytest.approx((3 * 0.1 + 1 * 0.6) / 4)
    assert found.mce == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("score", "place"), [(2 / 3, 9), (np.nextafter(np.float32(2 / 3), 1), 10), (1.0, 14)]
)
def test_a_score_on_an_edge_belongs_to_the_lower_bin(score: float, place: int) -> None:
    scores = np.array([[score, 1 - score]], np.float64)
    found = calibration(scores, np.array([0]))  # type: ignore[arg-type]  # to sit on the edge
    assert [one.n for one in found.bins].index(1) == place


def test_scores_of_a_quantised_model_may_exceed_1_a_little() -> None:
    found = calibration(np.array([[1.004, 0.0]], np.float32), np.array([0]))
    assert found.ece == 0
    assert found.bins[-1].n == 1


# ---------------------------------------------------------------- two classes


def test_two_classes_have_curves_and_the_rarer_one_is_positive() -> None:
    random = np.random.default_rng(0)
    truth = (random.random(3000) < 0.8).astype(np.int64)
    score = np.clip(0.3 * (1 - truth) + random.random(3000) * 0.7, 0, 1)
    scores = np.stack([score, 1 - score], axis=1).astype(np.float32)
    found = evaluate(scores, truth, ("rare", "common"), "test")
    assert found.positive == "rare"
    wanted = truth == 0
    assert found.roc_auc == pytest.approx(metrics.roc_auc_score(wanted, scores[:, 0]))
    assert found.average_precision == pytest.approx(
        metrics.average_precision_score(wanted, scores[:, 0])
    )
    assert found.roc is not None
    assert found.pr is not None
    assert len(found.roc.fpr) == len(found.roc.tpr) <= MOST_POINTS
    assert len(found.pr.recall) == len(found.pr.precision) <= MOST_POINTS
    assert (found.roc.fpr[0], found.roc.tpr[0]) == (0, 0)
    assert (found.roc.fpr[-1], found.roc.tpr[-1]) == (1, 1)
    assert (found.pr.recall[0], found.pr.precision[0], found.pr.recall[-1]) == (0, 1, 1)
    assert np.trapezoid(found.roc.tpr, found.roc.fpr) == pytest.approx(found.roc_auc, abs=0.005)


@_few
@given(_cases(fewest=2))
def test_curves_only_rise(case: _Case) -> None:
    scores, truth = case
    two = scores[:, :2] / np.maximum(scores[:, :2].sum(axis=1, keepdims=True), 1e-30)
    found = ranking(two, truth % 2)
    if len(np.unique(truth % 2)) < 2:
        assert (found.roc_auc, found.average_precision, found.roc, found.pr) == (None,) * 4
        return
    assert found.roc is not None
    assert found.pr is not None
    for axis in (found.roc.fpr, found.roc.tpr, found.pr.recall):
        assert list(axis) == sorted(axis)


def test_more_classes_have_an_area_but_no_curves() -> None:
    truth = np.array([0, 1, 2, 0, 1, 2])
    found = evaluate(_one_hot(truth.tolist(), 4, 0.7), truth, ("a", "b", "c", "d"), "test")
    assert found.roc_auc == 1
    assert (found.positive, found.average_precision, found.roc, found.pr) == (None,) * 4
