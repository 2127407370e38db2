"""From scores to a temperature, a threshold and a verdict: pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_sdk.errors import ValidationError
from edge_sdk.vision.tensors import NO_TEMPERATURE, temper
from host_tools.scores.calibrate import Gathered
from host_tools.scores.figures import Belief, Figures, Share, believe, measure
from host_tools.scores.temperature import Temperature, fit_temperature
from host_tools.scores.threshold import Chosen, Goal, TooFew, choose
from host_tools.validate.gates import Verdict


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted: a temperature, a threshold for a goal, or both."""

    temperature: bool = True
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was found.

    Attributes:
        wish: what was wanted.
        temperature: fitted, or 1 with the reason.
        threshold: for the goal; 0 where there is no goal, or none that can be promised.
        too_few: why there is no threshold for the goal; None where there is one, or no goal.
        before, after: how well the scores fit the truth of the pictures reported on, without and with
            the temperature.
        fit, report: what temperature and threshold do to the pictures they were chosen by, and to
            the others.
        verdict: *inconclusive* where what was wanted cannot be promised, *fail* where the 95 %
            interval on the pictures reported on lies beyond the goal, else *pass*.
    """

    wish: Wish
    temperature: Temperature
    threshold: float
    too_few: TooFew | None
    before: Belief
    after: Belief
    fit: Figures
    report: Figures
    verdict: Verdict


def fit(gathered: Gathered, wish: Wish) -> Fitted:
    """Chooses on one part of the pictures, and measures on the other, once.

    Args:
        gathered: scores of both parts, before any temperature.
        wish: what is wanted; a goal of ``false_accept`` needs unknown pictures.

    Raises:
        MissingExtraError: SciPy is not installed.
        ValidationError: false accepts are to be limited, and no unknown picture was given.
    """
    goal = wish.goal
    if goal is not None and goal.kind == "false_accept" and not len(gathered.unknown_fit):
        raise ValidationError(
            "a false-accept rate needs pictures of unknown things; give a folder with --unknown DIR"
        )
    known, other = gathered.fit, gathered.report
    temperature = Temperature(NO_TEMPERATURE, None, len(known.truth), 0, "not asked for")
    if wish.temperature:
        temperature = fit_temperature(known.scores, known.truth)
    # From here on what a device computes with this temperature, in its own precision.
    t = temperature.value
    chosen_by, reported = temper(known.scores, t), temper(other.scores, t)
    unknown_by, unknown_on = temper(gathered.unknown_fit, t), temper(gathered.unknown_report, t)
    right_by = chosen_by.argmax(axis=1) == known.truth
    right_on = reported.argmax(axis=1) == other.truth
    best_by, best_on = chosen_by.max(axis=1), reported.max(axis=1)
    strange_by, strange_on = unknown_by.max(axis=1), unknown_on.max(axis=1)
    threshold, too_few = 0.0, None
    if goal is not None:
        match choose(goal, best_by, right_by, strange_by):
            case Chosen(value) if (best_by >= np.float32(value)).any():
                threshold = value
            case Chosen():  # a device that answers nothing at all keeps every promise
                too_few = TooFew(len(known.truth), None)
            case TooFew() as few:
                too_few = few
    report = measure(best_on, right_on, strange_on, threshold)
    return Fitted(
        wish=wish,
        temperature=temperature,
        threshold=threshold,
        too_few=too_few,
        before=believe(other.scores, other.truth),
        after=believe(reported, other.truth),
        fit=measure(best_by, right_by, strange_by, threshold),
        report=report,
        verdict=_verdict(wish, temperature, too_few, report),
    )


def _verdict(
    wish: Wish, temperature: Temperature, too_few: TooFew | None, report: Figures
) -> Verdict:
    if wish.goal is None:
        return "inconclusive" if temperature.reason else "pass"
    if too_few is not None:
        return "inconclusive"
    return "fail" if _broken(wish.goal, report) else "pass"


def _broken(goal: Goal, report: Figures) -> bool:
    """Whether other pictures tell that a promise was not kept."""
    measured: Share | None
    match goal.kind:
        case "coverage":
            measured = report.coverage
        case "accuracy":
            measured = report.selective_accuracy
        case "false_accept":
            measured = report.false_accepts
    if measured is None or measured.ci95 is None:
        return False
    low, high = measured.ci95
    return low > goal.wanted if goal.kind == "false_accept" else high < goal.wanted
