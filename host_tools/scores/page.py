"""The fit as one self-contained page: figures, reliability before and after, risk over coverage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host_tools import pages
from host_tools.report.evaluation_plots import reliability
from host_tools.report.plots import svg
from host_tools.scores.plots import histogram, risk_coverage
from host_tools.scores.summary import advice, in_words, mean_text, share_text

if TYPE_CHECKING:
    from host_tools.scores.figures import Belief
    from host_tools.scores.stage import Calibrated

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
        "goal": in_words(fitted) if fitted.wish.goal else None,
        "advice": advice(fitted),
        "rows": rows,
        "n": (fitted.fit.accuracy.n, fitted.report.accuracy.n),
        "before": _drawn(reliability(_bins(fitted.before))),
        "after": _drawn(reliability(_bins(fitted.after))),
        "risk": _drawn(risk_coverage(one)),
        "histogram": _drawn(histogram(one)),
    }


def _bins(belief: Belief) -> list[dict[str, Any]]:
    return [asdict(one) for one in belief.bins]


def _drawn(figure: Any) -> Any:
    return pages.markup(svg(figure))
