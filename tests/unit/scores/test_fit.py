"""Temperatures and thresholds fitted to scores whose truth is known, and the promises they make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy", reason="the extra [host] is not installed")

from edge_sdk.errors import ValidationError
from edge_sdk.vision.tensors import softmax, temper
from host_tools.scores.calibrate import advice
from host_tools.scores.fit import (
    LEAST_MISTAKES,
    ChosenThreshold,
    FitRequest,
    Goal,
    TooFew,
    accuracy_threshold,
    coverage_threshold,
    false_accept_threshold,
    fit,
    fit_temperature,
    measure,
    score_fit,
    share,
)
from host_tools.scores.gather import Gathered, Known

pytestmark = pytest.mark.computes


def _drawn(n: int, temperature: float, seed: int = 0, classes: int = 10) -> tuple[Any, Any]:
    """Scores that are calibrated once divided by ``temperature``, and truths drawn from those."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes))
    honest = softmax(logits.astype(np.float32)).astype(np.float64)
    truth = (honest.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, classes - 1)
    return softmax((logits * temperature).astype(np.float32)), truth.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.7, 5.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    scores, truth = _drawn(5000, temperature)
    found = fit_temperature(scores, truth)
    assert found.value == pytest.approx(temperature, rel=0.06)
    assert found.reason is None
    assert found.ci95 is not None
    low, high = found.ci95
    assert low < found.value < high
    assert low / temperature < 1.02
    assert high / temperature > 0.98
    before, after = score_fit(scores, truth), score_fit(temper(scores, found.value), truth)
    assert after.nll.value <= before.nll.value
    assert after.ece.value < 0.02


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        interval = fit_temperature(*_drawn(300, 2.0, seed, classes=4)).ci95
        assert interval is not None
        covered += interval[0] <= 2.0 <= interval[1]
    assert 180 <= covered <= 199


def test_scores_of_zero_do_not_stop_the_fit() -> None:
    scores, truth = _drawn(2000, 60.0)
    assert (scores == 0).any()
    assert np.isfinite(score_fit(scores, truth).nll.value)
    assert np.isfinite(fit_temperature(scores, truth).value)


def _mostly_right(score: float, wrong: int, n: int) -> tuple[Any, Any]:
    scores = np.tile(np.array([[score, 1 - score]], np.float32), (n, 1))
    truth = np.zeros(n, np.int64)
    truth[:wrong] = 1
    return scores, truth


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (0, "no wrong answer among 500 pictures"),
        (4, "4 wrong answers of 500 are too few to separate a temperature from 1"),
        (7, "7 wrong answers of 500 are too few to separate a temperature from 1"),
    ],
)
def test_a_model_with_few_mistakes_keeps_its_scores(wrong: int, reason: str) -> None:
    # Of 500 answers given with 99 %, 5 should be wrong.
    found = fit_temperature(*_mostly_right(0.99, wrong, 500))
    assert (found.value, found.ci95, found.mistakes) == (1.0, None, wrong)
    assert reason in str(found.reason)


def test_few_mistakes_will_do_where_the_scores_are_far_off() -> None:
    # Of 500 answers given with 80 %, 100 should be wrong, not 5.
    found = fit_temperature(*_mostly_right(0.8, 5, 500))
    assert found.reason is None
    # log(0.99 / 0.01) = log(0.8 / 0.2) / T
    assert found.value == pytest.approx(np.log(4) / np.log(99), rel=0.01)


def test_from_ten_mistakes_on_a_temperature_of_one_is_a_finding() -> None:
    found = fit_temperature(*_mostly_right(0.98, LEAST_MISTAKES, 500))
    assert found.value == pytest.approx(1, abs=0.01)
    assert found.reason is None


def test_uninformative_scores_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    scores = softmax(rng.normal(0, 3, (2000, 5)).astype(np.float32))
    # The answer is always the class with the lowest score.
    found = fit_temperature(scores, scores.argmin(axis=1))
    assert found.value == 1.0
    assert "do not separate right from wrong" in str(found.reason)


@pytest.mark.parametrize(("wanted", "least"), [(0.95, 59), (0.9, 29), (0.99, 299)])
def test_a_coverage_needs_pictures_to_be_promised(wanted: float, least: int) -> None:
    # 0.95^59 < 0.05 < 0.95^58: the rule of three, exactly.
    scores = np.linspace(0.1, 0.9, least).astype(np.float32)
    assert coverage_threshold(scores, wanted) == ChosenThreshold(float(scores[0]))
    assert coverage_threshold(scores[1:], wanted) == TooFew(least - 1, least)
    at_most = 1 - wanted
    limit = false_accept_threshold(scores, at_most)
    assert limit == ChosenThreshold(float(np.nextafter(scores[-1], np.float32(2))))
    assert false_accept_threshold(scores[1:], at_most) == TooFew(least - 1, least)


@pytest.mark.slow
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("kind", ["coverage", "false_accept", "accuracy"])
def test_a_promise_is_kept_in_95_of_100_draws(kind: str, ties: bool) -> None:
    rng = np.random.default_rng(1)

    def draw(n: int) -> tuple[Any, Any]:
        scores = rng.beta(5, 1.5, n).astype(np.float32)
        if ties:
            scores = np.round(scores, 1)  # as coarse as a quantised softmax of many classes
        return scores, rng.random(n) < scores

    fresh, fresh_right = draw(50_000)
    kept = draws = 0
    for _ in range(150):
        scores, right = draw(400)
        match kind:
            case "coverage":
                found = coverage_threshold(scores, 0.9)
            case "false_accept":
                found = false_accept_threshold(scores, 0.1)
            case _:
                found = accuracy_threshold(scores, right, 0.85)
        if isinstance(found, TooFew):
            continue
        draws += 1
        figures = measure(fresh, fresh_right, fresh, found.value)
        assert figures.false_accepts is not None
        reached: dict[str, bool] = {
            "coverage": (figures.coverage.value or 0) >= 0.9,
            "false_accept": (figures.false_accepts.value or 0) <= 0.1,
            "accuracy": (figures.selective_accuracy.value or 1) >= 0.85,
        }
        kept += reached[kind]
    assert draws >= 90
    # 95 % of the draws, less three standard errors of so many.
    assert kept >= 0.89 * draws


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.5000001, 1.0]), min_size=60, max_size=300),
    st.floats(0.02, 0.95),
)
def test_ties_never_break_a_promise_on_the_pictures_themselves(
    values: list[float], share_: float
) -> None:
    scores = np.array(values, np.float32)
    found = coverage_threshold(scores, share_)
    if isinstance(found, ChosenThreshold):
        assert np.float32(found.value) == found.value
        assert (scores >= np.float32(found.value)).mean() >= share_
    limit = false_accept_threshold(scores, share_)
    if isinstance(limit, ChosenThreshold):
        assert np.float32(limit.value) == limit.value
        assert (scores >= np.float32(limit.value)).mean() <= share_
    right = scores > 0.3
    selective = accuracy_threshold(scores, right, share_)
    if isinstance(selective, ChosenThreshold):
        answered = scores >= np.float32(selective.value)
        assert answered.any()
        assert right[answered].mean() >= share_


def test_where_all_answers_are_right_no_threshold_is_needed() -> None:
    scores = np.linspace(0.3, 1, 600).astype(np.float32)
    assert accuracy_threshold(scores, np.ones(600, np.bool_), 0.98) == ChosenThreshold(0.0)


def test_more_pictures_do_not_help_where_the_scores_are_uninformative() -> None:
    rng = np.random.default_rng(0)
    scores, right = rng.random(2000).astype(np.float32), rng.random(2000) < 0.5
    assert accuracy_threshold(scores, right, 0.9) == TooFew(2000, None)
    few = accuracy_threshold(scores[:20], right[:20], 0.9)
    assert isinstance(few, TooFew)
    assert few.needed is not None
    assert few.needed > 20


def test_no_picture_is_too_few_for_anything() -> None:
    none, nothing = np.empty(0, np.float32), np.empty(0, np.bool_)
    assert isinstance(coverage_threshold(none, 0.9), TooFew)
    assert isinstance(false_accept_threshold(none, 0.1), TooFew)
    assert isinstance(accuracy_threshold(none, nothing, 0.9), TooFew)


def test_an_interval_is_clopper_and_pearsons() -> None:
    # From R: binom.test(8, 10)$conf.int.
    measured = share(8, 10)
    assert measured.ci95 == pytest.approx((0.4439045, 0.9747893), abs=1e-6)
    assert share(0, 0).value is None


def _gathered(n: int, known_at: float = 1.7, report_at: float = 1.7, unknown: int = 0) -> Gathered:
    rng = np.random.default_rng(5)
    strange = softmax(rng.normal(0, 1, (unknown, 10)).astype(np.float32))
    return Gathered(
        Known(*_drawn(n, known_at, 1)),
        Known(*_drawn(n, report_at, 2)),
        strange[: unknown // 2],
        strange[unknown // 2 :],
    )


@pytest.mark.parametrize(
    "goal", [Goal("coverage", 0.9), Goal("false_accept", 0.05), Goal("accuracy", 0.8)]
)
def test_what_is_promised_holds_on_the_other_pictures(goal: Goal) -> None:
    fitted = fit(_gathered(3000, unknown=2000), FitRequest(goal=goal))
    assert fitted.verdict == "pass"
    assert fitted.temperature.value == pytest.approx(1.7, rel=0.1)
    report = fitted.report
    assert report.false_accepts is not None
    reached = {
        "coverage": (report.coverage, 1),
        "accuracy": (report.selective_accuracy, 1),
        "false_accept": (report.false_accepts, -1),
    }
    measured, sign = reached[goal.kind]
    assert measured.value is not None
    assert sign * (measured.value - goal.wanted) > -0.02
    assert measured.n > 500


def test_other_pictures_that_break_a_promise_are_a_failure() -> None:
    # The pictures reported on get lower scores than those that the threshold was chosen by.
    fitted = fit(_gathered(2000, 3.0, 0.6), FitRequest(goal=Goal("coverage", 0.9)))
    assert fitted.verdict == "fail"


def test_too_few_pictures_are_inconclusive_and_have_no_threshold() -> None:
    fitted = fit(_gathered(40), FitRequest(goal=Goal("coverage", 0.95)))
    assert (fitted.verdict, fitted.threshold, fitted.too_few) == ("inconclusive", 0, TooFew(40, 59))


def test_a_temperature_that_cannot_be_fitted_does_not_stop_a_threshold() -> None:
    scores = np.linspace(0.6, 0.99, 500).astype(np.float32)
    known = Known(np.stack([scores, 1 - scores], axis=1), np.zeros(500, np.int64))
    nothing = np.empty((0, 2), np.float32)
    gathered = Gathered(known, known, nothing, nothing)
    fitted = fit(gathered, FitRequest(goal=Goal("coverage", 0.9)))
    assert (fitted.verdict, fitted.temperature.value) == ("pass", 1.0)
    assert fitted.threshold > 0.6
    assert fit(gathered, FitRequest()).verdict == "inconclusive"


def test_false_accepts_need_unknown_pictures() -> None:
    with pytest.raises(ValidationError, match="--unknown DIR"):
        fit(_gathered(100), FitRequest(goal=Goal("false_accept", 0.1)))


def test_a_device_that_answers_nothing_is_no_solution() -> None:
    # Unknown pictures have the highest scores.
    known, certain = Known(*_drawn(500, 1.0)), np.tile(np.eye(1, 10, dtype=np.float32), (500, 1))
    request = FitRequest(temperature=False, goal=Goal("false_accept", 0.05))
    fitted = fit(Gathered(known, known, certain, certain), request)
    assert (fitted.verdict, fitted.too_few) == ("inconclusive", TooFew(500, None))
    assert "and still answer known ones" in str(advice(fitted))
