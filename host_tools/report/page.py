"""``report.html``: one self-contained page made of ``report.json`` and sheets of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import TrainingError
from edge_sdk.files import write_atomically
from host_tools.data.load import Dataset
from host_tools.data.pictures import Picture, Split
from host_tools.evaluate.figures import evaluate
from host_tools.evaluate.robustness import Predict, robustness
from host_tools.pages import markup, render
from host_tools.progress import progress, working
from host_tools.report import plots
from host_tools.report.pictures import Answered, Sheets, draw_sheets
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
        figures["classes"] = plots.classes(evaluation["per_class"])
        figures["calibration"] = plots.reliability(evaluation["calibration"]["bins"])
    if evaluation["roc"]:
        figures["roc"] = plots.roc(evaluation)
        figures["pr"] = plots.precision_recall(evaluation)
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
        most_bars=plots.MOST_CLASSES,
        lost=_lost,
        heat=_heat,
    )


def _lost(points: float) -> str:
    if round(points, 2) == 0:
        return "nothing lost against float"
    return f"{abs(points):.2f} points {'lost' if points > 0 else 'gained'} against float"


def _heat(accuracy: float, clean: float) -> str:
    """A background from red (no picture right) to white (as good as on clean pictures)."""
    kept = min(1.0, accuracy / clean) if clean else 1.0
    return f"background: hsl(8 80% {62 + 38 * kept:.0f}%)"


_BATCH = 64


def predictor(network: Any) -> Predict:
    """A Keras model as a function of uint8 pixels.

    Raises:
        TrainingError: from that function, where the model gives NaN.
    """

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        scores = np.asarray(network.predict_on_batch(pixels.astype(np.float32)), np.float32)
        if not np.isfinite(scores).all():
            raise TrainingError(
                "the trained model gives NaN instead of scores; train it again with a lower "
                "training.learning_rate"
            )
        return scores

    return predict


def scores_on(dataset: Dataset, split: Split, predict: Predict) -> NDArray[np.float32]:
    """``(N, classes)`` scores of a split's pictures, in their order."""
    subset = dataset.splits[split]
    empty = np.empty((0, len(dataset.classes)), np.float32)
    starts = range(0, len(subset), _BATCH)
    shown = progress(starts, f"evaluating on {split}", len(starts))
    return np.concatenate(
        [empty, *(predict(subset.pixels(slice(start, start + _BATCH))) for start in shown)]
    )


def write_report(
    run: RunDirectory,
    report: dict[str, Any],
    dataset: Dataset,
    split: Split,
    scores: NDArray[np.float32],
    worse: Predict | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Adds the evaluation to a report; writes it, its page and its pictures.

    Args:
        run: where to.
        report: all else, as in ``report.json``; its ``evaluation`` is set.
        dataset, split: what the scores belong to.
        scores: ``(N, classes)`` of the split's pictures, in their order.
        worse: the model, for corrupted pictures too; None: they are not measured.
        note: called before a long step.
    """
    subset = dataset.splits[split]
    with working("computing figures"):
        evaluation = asdict(evaluate(scores, subset.labels, dataset.classes, split))
    if worse is not None and len(subset):
        note("measuring accuracy on noisy, blurred, dark, compressed and pale pictures")
        trained_s = report["training"]["seconds"]
        measured = robustness(
            worse, subset.pixels, subset.labels, subset.digests, trained_s=trained_s
        )
        evaluation["robustness"] = measured and asdict(measured)
    report["evaluation"] = evaluation
    names = [_name(picture, dataset) for picture in subset.pictures]
    sheets = draw_sheets(Answered(scores, subset.labels, dataset.classes, names, subset.pixels))
    for name, sheet in (("mistakes", sheets.mistakes_jpeg), ("examples", sheets.examples_jpeg)):
        path = run.path / "plots" / f"{name}.jpg"
        if sheet:
            write_atomically(path, sheet)
        else:
            path.unlink(missing_ok=True)  # of another split
    run.write_report(report)
    write_page(run, sheets)


def _name(picture: Picture, dataset: Dataset) -> str:
    root = dataset.folder.root
    path = picture.path
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
