"""From scores to an answer: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Answer(NamedTuple):
    """What is said of one picture.

    Attributes:
        chosen: index of the label, None where the answer is "unknown".
        score: of that label; of the best candidate where there is none. 0..1.
        ranking: ``(index, score)`` of the candidates, best first.
    """

    chosen: int | None
    score: float
    ranking: tuple[tuple[int, float], ...]


def top_k(scores: NDArray[np.float32], k: int) -> tuple[int, ...]:
    """Indices of the k highest of ``scores`` ``(C,)``, best first; ties keep label order.

    Raises:
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"top_k needs k of at least 1, got {k}")
    order = np.argsort(-scores, kind="stable")[:k]
    return tuple(int(i) for i in order)


def candidates(
    labels: Sequence[str], allow: Sequence[str] = (), deny: Sequence[str] = ()
) -> NDArray[np.bool_]:
    """Which labels may be an answer, ``(C,)``: those of ``allow`` (empty: all), without ``deny``.

    Names that are no label count for nothing, see ``unknown_labels``.
    """
    wanted, unwanted = set(allow), set(deny)
    return np.array([(not wanted or x in wanted) and x not in unwanted for x in labels], np.bool_)


def unknown_labels(labels: Sequence[str], names: Sequence[str]) -> str:
    """A sentence about the first of ``names`` that is no label; empty where all are."""
    for name in names:
        if name not in labels:
            import difflib  # only a mistake needs it, and every start would pay for it

            near = difflib.get_close_matches(name, labels, 1)
            choose = f"did you mean {near[0]!r}?" if near else f"choose from {_some(labels)}"
            return f"the model has no label {name!r}; {choose}"
    return ""


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")


def rank(
    scores: NDArray[np.float32], allowed: NDArray[np.bool_] | None, k: int
) -> tuple[tuple[int, float], ...]:
    """``(index, score)`` of the k best candidates, best first; ties keep label order.

    Args:
        scores: ``(C,)``.
        allowed: ``(C,)``, what may be an answer; None: everything.
        k: at least 1.
    """
    if allowed is None:
        return tuple((i, float(scores[i])) for i in top_k(scores, k))
    where = np.flatnonzero(allowed)
    return tuple((int(where[i]), float(scores[where[i]])) for i in top_k(scores[where], k))


def best(ranking: tuple[tuple[int, float], ...], threshold: float) -> Answer:
    """The first of a ranking, or "unknown" where its score is below the threshold."""
    if not ranking:
        return Answer(None, 0.0, ranking)
    index, score = ranking[0]
    return Answer(index if score >= threshold else None, score, ranking)
