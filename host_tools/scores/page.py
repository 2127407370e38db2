"""The fit as one self-contained page: figures, reliability before and after, risk over coverage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.vision.tensors import temper
from host_tools import pages
from host_tools.report.plots import BLUE, GRAY, ORANGE, figure_of, reliability, svg
from host_tools.scores.calibrate import advice, in_words, mean_text, share_text

if TYPE_CHECKING:
    from host_tools.scores.calibrate import Calibrated
    from host_tools.scores.fit import ScoreFit

_RED = "#b91c1c"
_BINS = 40
_MOST_POINTS = 400


def risk_coverage(one: Calibrated) -> Any:
    """Accuracy of the answers that are kept, over the share of pictures that keep one.

    On the pictures reported on, known and unknown, with the threshold marked; El-Yaniv and Wiener
    2010 call the distance to 1 the selective risk.
    """
    best, right, unknown = _reported(one)
    order = np.argsort(-best, kind="stable")
    ranked = best[order]
    ends = np.append(ranked[1:] != ranked[:-1], True)  # equal scores are kept or not together
    coverage = np.arange(1, len(best) + 1)[ends] / len(best)
    accuracy = (np.cumsum(right[order]) / np.arange(1, len(best) + 1))[ends]
    accepted = (unknown[:, None] >= ranked[ends][None, :]).mean(axis=0) if len(unknown) else None
    shown = np.unique(np.linspace(0, len(coverage) - 1, _MOST_POINTS).round().astype(int))
    figure = figure_of(5, 3.6)
    axes = figure.add_subplot()
    axes.plot(coverage[shown], accuracy[shown], color=BLUE, linewidth=2, label="answers right")
    if accepted is not None:
        axes.plot(
            coverage[shown], accepted[shown], color=ORANGE, linewidth=2, label="unknown answered"
        )
    figures = one.fitted.report
    if one.fitted.threshold > 0 and figures.coverage.value is not None:
        axes.axvline(figures.coverage.value, color=GRAY, linestyle=":", label="threshold")
    axes.set_xlim(0, 1.01)
    if accepted is None:
        axes.set_ylim(top=1 + 0.02 * (1 - float(accuracy.min())) + 1e-3)
    axes.set_xlabel("coverage: share of known pictures answered")
    axes.set_ylabel("share")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    figure.tight_layout()
    return figure


def histogram(one: Calibrated) -> Any:
    """Best scores of right, wrong and unknown answers, each as shares of its own kind."""
    best, right, unknown = _reported(one)
    figure = figure_of(5, 3.6)
    axes = figure.add_subplot()
    edges = np.linspace(0, 1, _BINS + 1)
    kinds = (
        ("right", best[right], BLUE),
        ("wrong", best[~right], _RED),
        ("unknown", unknown, ORANGE),
    )
    for name, scores, color in kinds:
        if len(scores):
            counts, _ = np.histogram(np.clip(scores, 0, 1), edges)
            axes.stairs(
                counts / len(scores),
                edges,
                color=color,
                fill=name == "right",
                alpha=0.35 if name == "right" else 1,
                linewidth=1.6,
                label=f"{name} ({len(scores):,})",
            )
    if one.fitted.threshold > 0:
        axes.axvline(one.fitted.threshold, color=GRAY, linestyle=":", linewidth=1.5)
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_xlabel("score of the answer, with the temperature")
    axes.set_ylabel("share of its kind")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    figure.tight_layout()
    return figure


def _reported(
    one: Calibrated,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    t, report = one.fitted.temperature.value, one.gathered.report
    scores = temper(report.scores, t)
    right = scores.argmax(axis=1) == report.truth
    return scores.max(axis=1), right, temper(one.gathered.unknown_report, t).max(axis=1)


_ROWS = (
    ("accuracy", "Accuracy", "right answers, threshold or not"),
    ("coverage", "Coverage", "known pictures that keep an answer"),
    ("selective_accuracy", "Selective accuracy", "right ones of the answers that are kept"),
    ("wrong_caught", "Wrong ones caught", "wrong answers that become unknown"),
    ("false_accepts", "False accepts", "unknown pictures that get an answer"),
)


def write_page(path: Path, done: list[Calibrated]) -> None:
    """Writes the page.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
        WriteError: the disk is full, or a folder is in the way.
    """
    pages.write_page(path, "scores.html", artifacts=[_shown(one) for one in done], mean=mean_text)


def _shown(one: Calibrated) -> dict[str, Any]:
    fitted = one.fitted
    rows = [
        (name, about, [share_text(part) for part in parts if part is not None])
        for key, name, about in _ROWS
        if (parts := (getattr(fitted.fit, key), getattr(fitted.report, key)))[1] is not None
    ]
    return {
        "name": one.path.name,
        "format": one.format,
        "written": one.written,
        "fitted": fitted,
        "goal": in_words(fitted) if fitted.request.goal else None,
        "advice": advice(fitted),
        "rows": rows,
        "n": (fitted.fit.accuracy.n, fitted.report.accuracy.n),
        "before": _drawn(reliability(_bins(fitted.before))),
        "after": _drawn(reliability(_bins(fitted.after))),
        "risk": _drawn(risk_coverage(one)),
        "histogram": _drawn(histogram(one)),
    }


def _bins(measured: ScoreFit) -> list[dict[str, Any]]:
    return [asdict(one) for one in measured.bins]


def _drawn(figure: Any) -> Any:
    return pages.markup(svg(figure))
