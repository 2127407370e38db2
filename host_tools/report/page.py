"""``report.html``: one self-contained page made of ``report.json`` and sheets of pictures."""

from __future__ import annotations

from typing import Any

from edge_sdk.files import write_atomically
from host_tools.pages import markup, render
from host_tools.report import evaluation_plots, plots
from host_tools.report.pictures import Sheets
from host_tools.run_directory import RunDirectory


def write_page(run: RunDirectory, sheets: Sheets) -> None:
    """Writes the page and the plots (``plots/*.png``) of a run that has a ``report.json``.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
        WriteError: the disk is full.
    """
    report = run.read_report()
    figures = _figures(report)
    for name, figure in figures.items():
        write_atomically(run.path / "plots" / f"{name}.png", plots.png(figure))
    drawn = {name: plots.svg(figure) for name, figure in figures.items()}
    write_atomically(run.page, _render(report, drawn, run.contact_sheet.read_bytes(), sheets))


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    training, evaluation = report["training"], report["evaluation"]
    figures = {"curves": plots.curves(training["history"], training["best_epoch"])}
    if evaluation["n"]:
        figures["confusion"] = plots.confusion_matrix(evaluation["confusion"], evaluation["labels"])
        figures["classes"] = evaluation_plots.classes(evaluation["per_class"])
        figures["calibration"] = evaluation_plots.reliability(evaluation["calibration"]["bins"])
    if evaluation["roc"]:
        figures["roc"] = evaluation_plots.roc(evaluation)
        figures["pr"] = evaluation_plots.precision_recall(evaluation)
    if report["validation"]:
        figures["drops"] = plots.drops(report["validation"]["artifacts"])
    figures["architecture"] = plots.architecture(report["architecture"]["stages"])
    return figures


def _render(report: dict[str, Any], drawn: dict[str, str], contact: bytes, sheets: Sheets) -> str:
    artifacts = report["validation"]["artifacts"] if report["validation"] else []
    return render(
        "report.html",
        report=report,
        plots={name: markup(text) for name, text in drawn.items()},
        contact=contact,
        sheets=sheets,
        recalls=[
            (a["format"], {c["label"]: c["artifact"] for c in a["per_class"]}) for a in artifacts
        ],
        most_bars=evaluation_plots.MOST_CLASSES,
        lost=_lost,
        heat=_heat,
    )


def _lost(points: float) -> str:
    if round(points, 2) == 0:
        return "nothing lost against float"
    return f"{abs(points):.2f} points {'lost' if points > 0 else 'gained'} against float"


def _heat(accuracy: float, clean: float) -> str:
    """A background from red (nothing right any more) to white (as good as on clean pictures)."""
    kept = min(1.0, accuracy / clean) if clean else 1.0
    return f"background: hsl(8 80% {62 + 38 * kept:.0f}%)"
