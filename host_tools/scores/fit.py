"""From scores to a temperature, a threshold and a verdict: pure arithmetic.

A threshold is chosen on some pictures for others of the same kind. A guarantee holds where at least
95 % of the draws of the first give a threshold that satisfies it on the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import ValidationError
from edge_sdk.vision.tensors import NO_TEMPERATURE, temper
from host_tools.evaluate.figures import Bin, calibration
from host_tools.extras import require
from host_tools.scores.gather import Gathered
from host_tools.validate.statistics import Verdict

# One parameter needs about ten events to be estimated by (Peduzzi et al. 1996). The event is a wrong
# answer: a model that was always right would get infinitely certain scores. With fewer, the
# likelihood must separate the temperature from 1: twice its gain is above the 95 % point of chi-square
# with one degree of freedom (Wilks 1938).
LEAST_MISTAKES = 10
_CHI_SQUARE_95 = 3.841458820694124
# The limits of the search; trained networks need 0.5 to 5.
_SEARCHED = (0.05, 20.0)
# The logarithm of a score of 0: float32's smallest normal number, below which engines round to 0.
_LOWEST = math.log(float(np.finfo(np.float32).tiny))
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Temperature:
    """The result of a temperature fit.

    Attributes:
        value: of the temperature; 1 where none was fitted.
        ci95: its 95 % interval; None where none was fitted.
        n, mistakes: pictures that it was fitted on, and wrong answers among them.
        reason: why none was fitted; None where one was.
    """

    value: float
    ci95: tuple[float, float] | None
    n: int
    mistakes: int
    reason: str | None


def fit_temperature(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> Temperature:
    """Minimises the negative log-likelihood over the logarithm of T (Guo et al. 2017, section 4.2).

    The likelihood is convex in 1 / T, so there is one minimum. The interval is Wald's in 1 / T, from
    the observed information: the variance of the logits under the tempered scores, summed.

    Args:
        scores: ``(N, C)`` probabilities as the artifact itself gives them, before any temperature.
        truth: ``(N,)`` label indices.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    n, mistakes = len(truth), int((scores.argmax(axis=1) != truth).sum())

    def none(reason: str) -> Temperature:
        return Temperature(NO_TEMPERATURE, None, n, mistakes, reason)

    if not mistakes:
        return none(f"no wrong answer among {n} pictures, so overconfidence cannot be measured")
    logits = _logits(scores)
    low, high = (math.log(end) for end in _SEARCHED)
    found = require("scipy.optimize").minimize_scalar(
        lambda log_t: _mean_loss(logits, truth, math.exp(-log_t)),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-6},
    )
    if not low + 1e-3 < found.x < high - 1e-3:
        return none(
            f"no temperature between {_SEARCHED[0]:g} and {_SEARCHED[1]:g} fits: the scores do not "
            "separate right from wrong answers on these pictures"
        )
    gain = n * (_mean_loss(logits, truth, 1.0) - float(found.fun))
    if mistakes < LEAST_MISTAKES and 2 * gain < _CHI_SQUARE_95:
        return none(
            f"{mistakes} wrong answers of {n} are too few to separate a temperature from 1; give more "
            f"pictures, at least {LEAST_MISTAKES} wrong answers"
        )
    value = math.exp(float(found.x))
    return Temperature(value, _interval(logits, value), n, mistakes, None)


def losses(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """``(N,)`` negative natural logarithms of the truth's score; a score of 0 counts as 1.2e-38."""
    own = scores[np.arange(len(truth)), truth].astype(np.float64)
    return -np.log(np.maximum(own, np.finfo(np.float32).tiny))


def _logits(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(scores.astype(np.float64)), _LOWEST)


def _mean_loss(logits: NDArray[np.float64], truth: NDArray[np.int64], inverse: float) -> float:
    scaled = logits * inverse
    top = scaled.max(axis=1)
    norm = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top
    return float((norm - scaled[np.arange(len(truth)), truth]).mean())


def _interval(logits: NDArray[np.float64], value: float) -> tuple[float, float]:
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / value)
    shares = powers / powers.sum(axis=1, keepdims=True)
    mean = (shares * logits).sum(axis=1, keepdims=True)
    # The second derivative of the loss in 1 / T.
    information = float((shares * (logits - mean) ** 2).sum())
    half = _Z95 / math.sqrt(information) if information > 0 else math.inf
    inverse = 1 / value
    # A wide interval is cut at the limits of the search.
    return 1 / (inverse + half), 1 / max(inverse - half, 1 / _SEARCHED[1])


CONFIDENCE = 0.95

Kind = Literal["coverage", "false_accept", "accuracy"]


@dataclass(frozen=True, slots=True)
class Goal:
    """The goal of a threshold.

    Attributes:
        kind: ``coverage``: at least this share of known pictures keeps an answer. ``false_accept``:
            at most this share of unknown ones gets one. ``accuracy``: at least this share of the
            answers is right.
        wanted: the share, within 0..1 and neither.
    """

    kind: Kind
    wanted: float


@dataclass(frozen=True, slots=True)
class ChosenThreshold:
    """A threshold: scores below it are "unknown". It is a float32 number exactly."""

    value: float


@dataclass(frozen=True, slots=True)
class TooFew:
    """No threshold can be guaranteed.

    Attributes:
        n: pictures there were.
        needed: the least number that could do, were they to go well; None where there are as many,
            and it is the scores that do not allow it.
    """

    n: int
    needed: int | None


def coverage_threshold(scores: NDArray[np.float32], wanted: float) -> ChosenThreshold | TooFew:
    """The highest threshold that at least ``wanted`` of known pictures reach.

    A distribution-free tolerance limit (Wilks 1941): the share of new pictures below the k-th lowest
    of n scores is at most Beta(k, n - k + 1) distributed; k is the largest whose 95 % point is within
    1 - ``wanted``.

    Args:
        scores: ``(N,)`` best scores of known pictures.
        wanted: share, 0..1.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    k = _order(len(scores), 1 - wanted)
    if k == 0:
        return TooFew(len(scores), _least(1 - wanted))
    return ChosenThreshold(float(np.sort(scores)[k - 1]))


def false_accept_threshold(scores: NDArray[np.float32], at_most: float) -> ChosenThreshold | TooFew:
    """The lowest threshold that at most ``at_most`` of unknown pictures reach.

    The same limit from the other end: the next float32 above the k-th highest score.

    Args:
        scores: ``(N,)`` best scores of unknown pictures.
        at_most: share, 0..1.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    k = _order(len(scores), at_most)
    if k == 0:
        return TooFew(len(scores), _least(at_most))
    kth = np.sort(scores)[len(scores) - k]
    return ChosenThreshold(float(np.nextafter(kth, np.float32(2))))


def accuracy_threshold(
    scores: NDArray[np.float32], right: NDArray[np.bool_], wanted: float
) -> ChosenThreshold | TooFew:
    """The lowest threshold found above which at least ``wanted`` of the answers are right.

    Selection with guaranteed risk (Geifman and El-Yaniv 2017, algorithm 1): bisection over the scores,
    each step an exact binomial bound; the confidence is divided among all steps (Bonferroni).

    Args:
        scores: ``(N,)`` best scores of known pictures.
        right: ``(N,)`` whether each answer is right.
        wanted: share, 0..1.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    n = len(scores)
    steps = max(1, math.ceil(math.log2(max(n, 2)))) + 1  # and one for no threshold at all
    delta = (1 - CONFIDENCE) / steps
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    # Wrong answers among the highest scores, from each place on.
    wrong_from = np.append(np.cumsum(~right[order][::-1])[::-1], 0)

    def keeps(threshold: float) -> bool:
        first = int(np.searchsorted(ordered, np.float32(threshold), side="left"))
        return _upper_bound(int(wrong_from[first]), n - first, delta) <= 1 - wanted

    if n and keeps(0.0):
        return ChosenThreshold(0.0)
    best: float | None = None
    low, high = 0, n  # the place whose score is the threshold
    for _ in range(steps - 1):
        middle = (low + high) // 2
        if middle < n and keeps(float(ordered[middle])):
            best, high = float(ordered[middle]), middle
        else:
            low = middle + 1
        if low >= high:
            break
    if best is None:
        least = math.ceil(math.log(delta) / math.log(wanted))
        return TooFew(n, least if n < least else None)
    return ChosenThreshold(best)


def choose(
    goal: Goal,
    known: NDArray[np.float32],
    right: NDArray[np.bool_],
    unknown: NDArray[np.float32],
) -> ChosenThreshold | TooFew:
    """The threshold for a goal, see the functions for each.

    Args:
        goal: of the threshold.
        known, right: ``(N,)`` best scores of known pictures, and whether the answers are right.
        unknown: ``(M,)`` best scores of unknown pictures; M may be 0 where the goal is another.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    match goal.kind:
        case "coverage":
            return coverage_threshold(known, goal.wanted)
        case "false_accept":
            return false_accept_threshold(unknown, goal.wanted)
        case "accuracy":
            return accuracy_threshold(known, right, goal.wanted)


def _order(n: int, share: float) -> int:
    """The largest k for which Beta(k, n - k + 1) lies within ``share`` with 95 % probability."""
    # P(Beta(k, n - k + 1) <= share) = P(Binomial(n, share) >= k), which falls as k grows.
    binomial = require("scipy.stats").binom
    k = int(binomial.ppf(1 - CONFIDENCE, n, share))
    # Rounding may change the quantile, so the probabilities are compared.
    while k > 0 and binomial.sf(k - 1, n, share) < CONFIDENCE:
        k -= 1
    return k


def _least(share: float) -> int:
    """The least n for which ``_order`` is 1: 1 - (1 - share)^n reaches 95 %."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-share))


def _upper_bound(events: int, n: int, delta: float) -> float:
    """One-sided Clopper-Pearson bound of a probability, wrong in ``delta`` of all cases at most."""
    if events >= n:
        return 1.0
    return float(require("scipy.stats").beta.ppf(1 - delta, events + 1, n - events))


_RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``n``, 0..1, with its exact 95 % interval (Clopper and Pearson 1934).

    ``value`` and ``ci95`` are None with ``n`` of 0.
    """

    value: float | None
    ci95: tuple[float, float] | None
    count: int
    n: int


@dataclass(frozen=True, slots=True)
class Mean:
    """A figure over ``n`` pictures with its 95 % interval."""

    value: float
    ci95: tuple[float, float]
    n: int


@dataclass(frozen=True, slots=True)
class ScoreFit:
    """How well scores fit the truth.

    Attributes:
        nll: mean negative log-likelihood, in nats; the interval is normal.
        ece: expected calibration error, see ``evaluate.calibration``; the interval is of 500
            resamples (percentiles). Few pictures make it too high: chance alone is an error too.
        bins: of the reliability diagram.
    """

    nll: Mean
    ece: Mean
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class ScoreFigures:
    """The effect of a threshold on known and unknown pictures.

    Attributes:
        accuracy: of all answers, threshold or not.
        coverage: known pictures that keep an answer.
        selective_accuracy: right ones of the answers that are kept.
        wrong_caught: wrong answers that become "unknown".
        false_accepts: unknown pictures that get an answer; None where there are none.
    """

    accuracy: Share
    coverage: Share
    selective_accuracy: Share
    wrong_caught: Share
    false_accepts: Share | None


def share(count: int, n: int) -> Share:
    """``count`` of ``n`` with its interval.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    if not n:
        return Share(None, None, 0, 0)
    interval = require("scipy.stats").binomtest(count, n).proportion_ci(0.95, "exact")
    return Share(count / n, (float(interval.low), float(interval.high)), count, n)


def score_fit(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> ScoreFit:
    """How well ``(N, C)`` probabilities fit the ``(N,)`` label indices; N is at least 1."""
    n, loss = len(truth), losses(scores, truth)
    mean = float(loss.mean())
    half = _Z95 * float(loss.std(ddof=1)) / n**0.5 if n > 1 else float("inf")
    measured = calibration(scores, truth)
    assert measured.ece is not None  # there are pictures
    rng = np.random.default_rng(0)
    best = scores.max(axis=1, keepdims=True)
    # The input of the calibration, in two columns: the answer's score, and whether it is right.
    wrong = (scores.argmax(axis=1) != truth).astype(np.int64)
    pair = np.hstack([best, np.zeros_like(best)])
    resampled = [
        calibration(pair[rows], wrong[rows]).ece for rows in rng.integers(0, n, (_RESAMPLES, n))
    ]
    low, high = np.percentile(np.array(resampled, np.float64), [2.5, 97.5])
    return ScoreFit(
        nll=Mean(mean, (max(0.0, mean - half), mean + half), n),
        ece=Mean(measured.ece, (float(low), float(high)), n),
        bins=measured.bins,
    )


def measure(
    best: NDArray[np.float32],
    right: NDArray[np.bool_],
    unknown: NDArray[np.float32],
    threshold: float,
) -> ScoreFigures:
    """Measures the effect of a threshold.

    Args:
        best, right: ``(N,)`` best scores of known pictures, and whether the answers are right.
        unknown: ``(M,)`` best scores of unknown pictures; M may be 0.
        threshold: scores below it are "unknown".
    """
    limit = np.float32(threshold)
    kept = best >= limit
    n, wrong = len(best), ~right
    return ScoreFigures(
        accuracy=share(int(right.sum()), n),
        coverage=share(int(kept.sum()), n),
        selective_accuracy=share(int((kept & right).sum()), int(kept.sum())),
        wrong_caught=share(int((wrong & ~kept).sum()), int(wrong.sum())),
        false_accepts=share(int((unknown >= limit).sum()), len(unknown)) if len(unknown) else None,
    )


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What to fit: a temperature, a threshold for a goal, or both."""

    temperature: bool = True
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """The result of a fit: temperature, threshold, figures and verdict.

    Attributes:
        request: what was requested.
        temperature: fitted, or 1 with the reason.
        threshold: for the goal; 0 where there is no goal, or none that can be guaranteed.
        too_few: why there is no threshold for the goal; None where there is one, or no goal.
        before, after: how well the scores fit the truth of the pictures reported on, without and with
            the temperature.
        fit, report: what temperature and threshold do to the pictures they were chosen by, and to
            the others.
        verdict: *inconclusive* where the goal cannot be guaranteed, *fail* where the 95 %
            interval on the pictures reported on is beyond the goal, else *pass*.
    """

    request: FitRequest
    temperature: Temperature
    threshold: float
    too_few: TooFew | None
    before: ScoreFit
    after: ScoreFit
    fit: ScoreFigures
    report: ScoreFigures
    verdict: Verdict


def fit(gathered: Gathered, request: FitRequest) -> Fitted:
    """Chooses on one part of the pictures, and measures on the other, once.

    Args:
        gathered: scores of both parts, before any temperature.
        request: what to fit; a goal of ``false_accept`` needs unknown pictures.

    Raises:
        MissingExtraError: SciPy is not installed.
        ValidationError: false accepts are to be limited, and no unknown picture was given.
    """
    goal = request.goal
    if goal is not None and goal.kind == "false_accept" and not len(gathered.unknown_fit):
        raise ValidationError(
            "a false-accept rate needs unknown pictures; give a folder with --unknown DIR"
        )
    known, other = gathered.fit, gathered.report
    temperature = Temperature(NO_TEMPERATURE, None, len(known.truth), 0, "not requested")
    if request.temperature:
        temperature = fit_temperature(known.scores, known.truth)
    # From here on the scores that a device computes with this temperature, in its precision.
    t = temperature.value
    chosen_by, reported = temper(known.scores, t), temper(other.scores, t)
    unknown_by, unknown_on = temper(gathered.unknown_fit, t), temper(gathered.unknown_report, t)
    right_by = chosen_by.argmax(axis=1) == known.truth
    right_on = reported.argmax(axis=1) == other.truth
    best_by, best_on = chosen_by.max(axis=1), reported.max(axis=1)
    unknown_by, unknown_on = unknown_by.max(axis=1), unknown_on.max(axis=1)
    threshold, too_few = 0.0, None
    if goal is not None:
        match choose(goal, best_by, right_by, unknown_by):
            case ChosenThreshold(value) if (best_by >= np.float32(value)).any():
                threshold = value
            case ChosenThreshold():  # a device that rejects every picture satisfies every goal
                too_few = TooFew(len(known.truth), None)
            case TooFew() as few:
                too_few = few
    report = measure(best_on, right_on, unknown_on, threshold)
    return Fitted(
        request=request,
        temperature=temperature,
        threshold=threshold,
        too_few=too_few,
        before=score_fit(other.scores, other.truth),
        after=score_fit(reported, other.truth),
        fit=measure(best_by, right_by, unknown_by, threshold),
        report=report,
        verdict=_verdict(request, temperature, too_few, report),
    )


def _verdict(
    request: FitRequest, temperature: Temperature, too_few: TooFew | None, report: ScoreFigures
) -> Verdict:
    if request.goal is None:
        return "inconclusive" if temperature.reason else "pass"
    if too_few is not None:
        return "inconclusive"
    return "fail" if _broken(request.goal, report) else "pass"


def _broken(goal: Goal, report: ScoreFigures) -> bool:
    """Whether the other pictures show that the goal is missed."""
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
