"""``report.html``: one self-contained page made of ``report.json`` and the contact sheet."""

from __future__ import annotations

import base64
from typing import Any

from edge_sdk.files import write_atomically
from host_tools.extras import require
from host_tools.report import plots
from host_tools.run_directory import RunDirectory


def write_page(run: RunDirectory) -> None:
    """Writes the page and the plots (``plots/*.png``) of a run that has a ``report.json``.

    Raises:
        MissingExtraError: matplotlib or Jinja is not installed.
        WriteError: the disk is full.
    """
    report = run.read_report()
    training = report["training"]
    figures = {"curves": plots.curves(training["history"], training["best_epoch"])}
    if report.get("evaluation", {}).get("n"):
        evaluation = report["evaluation"]
        figures["confusion"] = plots.confusion_matrix(evaluation["confusion"], evaluation["labels"])
    if report.get("validation"):
        figures["drops"] = plots.drops(report["validation"]["artifacts"])
    figures["architecture"] = plots.architecture(report["architecture"]["stages"])
    for name, figure in figures.items():
        write_atomically(run.path / "plots" / f"{name}.png", plots.png(figure))
    drawn = {name: plots.svg(figure) for name, figure in figures.items()}
    sheet = base64.b64encode(run.contact_sheet.read_bytes()).decode()
    write_atomically(run.page, _render(report, drawn, sheet))


def _render(report: dict[str, Any], drawn: dict[str, str], sheet: str) -> str:
    jinja2 = require("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("host_tools", "report"),
        autoescape=True,  # labels are names of folders, and may hold anything
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.2f} %"
    environment.filters["kilobytes"] = lambda size: f"{size / 1000:,.1f} kB"
    environment.filters["lost"] = _lost
    safe = {name: require("markupsafe").Markup(text) for name, text in drawn.items()}
    page: str = environment.get_template("page.html").render(report=report, plots=safe, sheet=sheet)
    return page


def _lost(points: float) -> str:
    if round(points, 2) == 0:
        return "nothing lost against float"
    return f"{abs(points):.2f} points {'lost' if points > 0 else 'gained'} against float"
