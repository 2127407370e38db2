"""The temperature at which a model's scores fit the truth best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.vision.tensors import NO_TEMPERATURE
from host_tools.extras import require

# One parameter needs about ten events to be estimated by (Peduzzi et al. 1996). The event is a wrong
# answer: a model that was right throughout would be told to be infinitely certain. With fewer, the
# likelihood must tell the temperature from 1: twice its gain is above the 95 % point of chi-square
# with one degree of freedom (Wilks 1938).
LEAST_MISTAKES = 10
_CHI_SQUARE_95 = 3.841458820694124
# Where the search ends; trained networks want 0.5 to 5.
_SEARCHED = (0.05, 20.0)
# The logarithm of a score of 0: float32's smallest normal number, below which engines round to 0.
_LOWEST = math.log(float(np.finfo(np.float32).tiny))
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Temperature:
    """What was found.

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
        return none(
            f"no wrong answer among {n} pictures, so nothing says how certain is too certain"
        )
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
            "tell right from wrong on these pictures"
        )
    gain = n * (_mean_loss(logits, truth, 1.0) - float(found.fun))
    if mistakes < LEAST_MISTAKES and 2 * gain < _CHI_SQUARE_95:
        return none(
            f"{mistakes} wrong answers of {n} are too few to tell a temperature from 1; give more "
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
    # Far from certain it would end beyond what was searched.
    return 1 / (inverse + half), 1 / max(inverse - half, 1 / _SEARCHED[1])
