"""Plots of an evaluation: classes, calibration, and the curves of two classes."""

from __future__ import annotations

from typing import Any

from host_tools.evaluate.figures import wilson_interval
from host_tools.report.plots import BLUE, GRAY, ORANGE, figure_of, short_label

# Bars that can still be read.
MOST_CLASSES = 30


def classes(per_class: list[dict[str, Any]]) -> Any:
    """A bar of F1 per class of the split, with precision and recall as marks; the lowest first.

    Args:
        per_class: as in ``report.json``; of more than ``MOST_CLASSES``, the lowest are drawn.
    """
    present = [row for row in per_class if row["n"]]
    rows = sorted(present, key=lambda row: row["f1"])[:MOST_CLASSES]
    figure = figure_of(5.5, 1.3 + 0.27 * len(rows))
    axes = figure.add_subplot()
    places = range(len(rows))
    axes.barh(places, [row["f1"] for row in rows], color=BLUE, alpha=0.35, height=0.6, label="F1")
    for key, marker in (("precision", "|"), ("recall", "o")):
        known = [(row[key], place) for place, row in enumerate(rows) if row[key] is not None]
        size = {"|": 90, "o": 22}[marker]
        color = {"|": ORANGE, "o": BLUE}[marker]
        x, y = zip(*known, strict=True) if known else ((), ())
        axes.scatter(x, y, marker=marker, s=size, color=color, label=key, zorder=3)
    axes.set_yticks(places, [short_label(row["label"]) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.02)
    axes.grid(axis="x", alpha=0.25)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    figure.tight_layout()
    return figure


def reliability(bins: list[dict[str, Any]]) -> Any:
    """Accuracy over score in bins beside the diagonal, and below how many answers each has.

    Args:
        bins: as in ``report.json``.
    """
    figure = figure_of(5, 5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = bins[0]["high"] - bins[0]["low"]
    used = [one for one in bins if one["n"]]
    middles = [one["low"] + width / 2 for one in used]
    accuracy = [one["accuracy"] for one in used]
    # A bin of three pictures says little; its interval shows that.
    ends = [wilson_interval(round(one["accuracy"] * one["n"]), one["n"]) for one in used]
    away = [
        [value - low for value, (low, _) in zip(accuracy, ends, strict=True)],
        [high - value for value, (_, high) in zip(accuracy, ends, strict=True)],
    ]
    above.bar(middles, accuracy, width * 0.9, color=BLUE, alpha=0.55, label="share that is right")
    above.errorbar(
        middles, accuracy, away, fmt="none", ecolor=BLUE, elinewidth=1.2, label="95 % interval"
    )
    above.plot(
        *([one["confidence"] for one in used],) * 2, "D", color=ORANGE, markersize=5, label="score"
    )
    above.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1.5, zorder=1)
    above.set_ylim(0, 1.02)
    above.set_ylabel("accuracy")
    above.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    below.bar(middles, [one["n"] for one in used], width * 0.94, color=GRAY)
    below.set_xlim(0, 1)
    below.set_xlabel("score of the answer")
    below.set_ylabel("pictures")
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    figure.tight_layout()
    return figure


def roc(evaluation: dict[str, Any]) -> Any:
    """The ROC curve of two classes.

    Args:
        evaluation: as in ``report.json``, with ``roc``.
    """
    figure, axes = _unit_square()
    curve = evaluation["roc"]
    axes.plot(curve["fpr"], curve["tpr"], color=BLUE, linewidth=2)
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1.5)
    axes.set_title(f"ROC, area {evaluation['roc_auc']:.3f}")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    return figure


def precision_recall(evaluation: dict[str, Any]) -> Any:
    """The precision-recall curve of two classes.

    Args:
        evaluation: as in ``report.json``, with ``pr``.
    """
    figure, axes = _unit_square()
    curve = evaluation["pr"]
    axes.plot(curve["recall"], curve["precision"], color=BLUE, linewidth=2, drawstyle="steps-pre")
    counts = {row["label"]: row["n"] for row in evaluation["per_class"]}
    # Who answers at random is right as often as the class occurs.
    chance = counts[evaluation["positive"]] / evaluation["n"]
    axes.axhline(chance, color=GRAY, linestyle=":", linewidth=1.5)
    axes.set_title(f"Precision-recall, average {evaluation['average_precision']:.3f}")
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    return figure


def _unit_square() -> tuple[Any, Any]:
    figure = figure_of(4.3, 4.3)
    axes = figure.add_subplot()
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.grid(alpha=0.25)
    figure.set_layout_engine("tight")
    return figure, axes
