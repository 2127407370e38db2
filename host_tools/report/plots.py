"""Plots as matplotlib figures; no global state, no window."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from host_tools.evaluate.figures import wilson_interval
from host_tools.extras import require

BLUE, ORANGE, GRAY = "#2563a8", "#d9730d", "#6b7280"


def curves(history: list[dict[str, float]], best_epoch: int) -> Any:
    """Loss and accuracy over the epochs, training and validation, the kept epoch marked.

    Args:
        history: a row per epoch with ``epoch``, ``loss``, ``accuracy`` and, where there is a
            validation split, ``val_loss``, ``val_accuracy``.
        best_epoch: 0-based epoch whose weights were kept.
    """
    figure = figure_of(9, 3.4)
    epochs = [row["epoch"] for row in history]
    for position, (key, title) in enumerate((("loss", "Loss"), ("accuracy", "Accuracy")), 1):
        axes = figure.add_subplot(1, 2, position)
        axes.plot(epochs, [row[key] for row in history], color=BLUE, label="training")
        if f"val_{key}" in history[0]:
            values = [row[f"val_{key}"] for row in history]
            axes.plot(epochs, values, color=ORANGE, label="validation")
        axes.axvline(best_epoch + 1, color=GRAY, linestyle=":", linewidth=1, label="kept")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.25)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if key == "accuracy":
            axes.set_ylim(top=1.01)
            axes.legend(loc="lower right", frameon=False)
    figure.tight_layout()
    return figure


def confusion_matrix(confusion: list[list[int]], labels: list[str]) -> Any:
    """Truth down, answers across, each row as shares of its class; counts written where they fit."""
    counts = np.array(confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    classes = len(labels)
    side = min(12.0, max(3.5, 1.6 + 0.42 * classes))
    figure = figure_of(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, fraction=0.046, label="share of the class")
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    if classes <= 40:
        short = [short_label(label) for label in labels]
        slanted = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
        long = any(len(label) > 3 for label in short)
        axes.set_xticks(range(classes), short, **(slanted if long else {}))
        axes.set_yticks(range(classes), short)
    if classes <= 25:
        for row, column in zip(*np.nonzero(counts), strict=True):
            axes.text(
                column,
                row,
                str(counts[row, column]),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shares[row, column] > 0.5 else "black",
            )
    figure.tight_layout()
    return figure


def drops(artifacts: list[dict[str, Any]]) -> Any:
    """Each artifact's drop in points with its 95 % interval, and its size."""
    figure = figure_of(9, 1.2 + 0.5 * len(artifacts))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    rows = range(len(artifacts))
    for row, artifact in zip(rows, artifacts, strict=True):
        drop, (low, high) = artifact["drop_points"], artifact["drop_ci95"]
        left.plot([low, high], [row, row], color=BLUE, linewidth=2.5, solid_capstyle="butt")
        left.plot(drop, row, "o", color=BLUE)
    left.axvline(0, color=GRAY, linewidth=1)
    left.set_yticks(list(rows), [artifact["format"] for artifact in artifacts])
    left.set_ylim(len(artifacts) - 0.5, -0.5)
    left.set_xlabel("points of accuracy lost (95 % interval)")
    left.grid(axis="x", alpha=0.25)
    sizes = [artifact["size_bytes"] / 1000 for artifact in artifacts]
    right.barh(list(rows), sizes, color=ORANGE, height=0.5)
    for row, size in zip(rows, sizes, strict=True):
        right.text(size, row, f" {size:,.0f}", va="center", fontsize=9)
    right.set_xlim(0, max(sizes) * 1.2)
    right.set_xlabel("kB")
    figure.tight_layout()
    return figure


def architecture(stages: list[dict[str, Any]]) -> Any:
    """The network from left to right: a box per resolution, as high as its feature map is.

    Args:
        stages: ``StageAnatomy`` each, as a dictionary.
    """
    figure = figure_of(9, 3.6)
    axes = figure.add_subplot()
    tallest = max(max(stage["height"] for stage in stages), 1)
    left = 0.0
    for stage in stages:
        # Square roots, so that a map of 4 x 4 with 2,048 channels still fits beside one of 224 x 224.
        high = 0.25 + 2.75 * (stage["height"] / tallest) ** 0.5
        wide = 0.35 + 0.05 * stage["channels"] ** 0.5
        color = BLUE if stage["height"] else ORANGE
        axes.add_patch(_box(left, -high / 2, wide, high, color))
        size = f"{stage['width']} x {stage['height']}" if stage["height"] else "head"
        axes.text(left + wide / 2, 1.65, size, ha="center", va="bottom", fontsize=9)
        layers = f"{stage['layers']} layer{'s' * (stage['layers'] != 1)}"
        what = f"{stage['channels']:,} ch\n{layers}\n{_short(stage['parameters'])}"
        if stage["receptive_field"]:
            what += f"\nsees {stage['receptive_field']} px"
        axes.text(left + wide / 2, -1.65, what, ha="center", va="top", fontsize=8, color=GRAY)
        left += wide + 0.75
        if stage is not stages[-1]:
            axes.annotate(
                "",
                (left - 0.1, 0),
                (left - 0.65, 0),
                arrowprops={"arrowstyle": "->", "color": GRAY},
            )
    axes.set_xlim(-0.6, left)
    axes.set_ylim(-3.1, 2.2)
    axes.axis("off")
    figure.tight_layout()
    return figure


def _box(x: float, y: float, width: float, height: float, color: str) -> Any:
    patches = require("matplotlib.patches")
    return patches.Rectangle((x, y), width, height, facecolor=color, alpha=0.25, edgecolor=color)


def _short(parameters: int) -> str:
    if parameters >= 1_000_000:
        return f"{parameters / 1e6:.1f} M par."
    return f"{parameters / 1e3:.0f} k par." if parameters >= 10_000 else f"{parameters:,} par."


def svg(figure: Any) -> str:
    """The figure as an ``<svg>`` element for a page."""
    buffer = io.StringIO()
    context = require("matplotlib").rc_context({"svg.fonttype": "none", "svg.hashsalt": "edgecls"})
    with context, _any_script():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


@contextlib.contextmanager
def _any_script() -> Iterator[None]:
    """No warning for each letter of a label that matplotlib's font lacks; browsers have it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def png(figure: Any) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with _any_script():
        figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def short_label(label: str) -> str:
    """A class name that fits beside an axis; a dollar sign is a letter, not the start of a formula."""
    short = label if len(label) <= 16 else label[:15] + "…"
    return short.replace("$", r"\$")


def figure_of(width: float, height: float) -> Any:
    """An empty figure, inches."""
    return require("matplotlib.figure").Figure(figsize=(width, height))


# The most bars of a readable plot.
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
    # A bin of three pictures is uncertain; its interval shows that.
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
    # A random classifier's precision is the share of the class.
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
