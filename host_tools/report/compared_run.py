"""What a comparison takes from the ``report.json`` of a run, read strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edge_sdk.errors import ArtifactNotFoundError, ConversionError, TrainingError
from host_tools.report.strict_report import ReportReader
from host_tools.run_directory import RunDirectory

_SCHEMA = 1
_SEED = "training.seed"
# Keys that a training does not depend on.
_WORDS = ("name", "description")


@dataclass(frozen=True, slots=True)
class Figures:
    """What is compared; None where the run does not know it.

    Attributes:
        accuracy: of the float model on the evaluated split, 0..1.
        top5: share of pictures whose truth is among the five highest scores, 0..1.
        macro_f1: mean of the classes' F1, 0..1.
        ece: expected calibration error, 0..1.
        corruption_accuracy: mean accuracy on worse pictures, 0..1.
        int8_accuracy: of the int8 artifact on the test split, 0..1.
        int8_drop_points: 100 x (float accuracy - int8 accuracy) there.
        int8_size_bytes: of that file.
        parameters: of the float model.
        epochs: trained, not only up to the kept one.
        seconds: that the training took.
    """

    accuracy: float | None
    top5: float | None
    macro_f1: float | None
    ece: float | None
    corruption_accuracy: float | None
    int8_accuracy: float | None
    int8_drop_points: float | None
    int8_size_bytes: float | None
    parameters: float | None
    epochs: float | None
    seconds: float | None


FIGURES: tuple[str, ...] = tuple(field.name for field in fields(Figures))


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        path: of the run directory, as it was given.
        title: the recipe's name.
        labels: names of the C classes; None where nothing was evaluated.
        split, n: what was evaluated, None and 0 where nothing was.
        fingerprint: of the pictures of all splits; None in a report without.
        split_fingerprint: of the evaluated ones alone.
        recipe: every key with its value, as TOML can hold them, sections as ``section.key``.
        history: a row per epoch, see ``host_tools.report.plots.curves``.
        accuracy_ci95: 95 % interval of the accuracy, 0..1.
        class_counts: pictures of each class, C of them; empty where nothing was evaluated.
        class_accuracy: share of them answered rightly; None without pictures.
        figures: see there.
    """

    path: Path
    title: str
    labels: tuple[str, ...] | None
    split: str | None
    n: int
    fingerprint: str | None
    split_fingerprint: str | None
    recipe: Mapping[str, Any]
    history: tuple[Mapping[str, float], ...]
    accuracy_ci95: tuple[float, float] | None
    class_counts: tuple[int, ...]
    class_accuracy: tuple[float | None, ...]
    figures: Figures

    @property
    def seed(self) -> Any:
        """``training.seed`` of the recipe; None where it has none."""
        return self.recipe.get(_SEED)

    @property
    def identity(self) -> str:
        """What repetitions of a run share: the recipe but for the seed, and the pictures."""
        ignored = (_SEED, *_WORDS)
        recipe = {key: value for key, value in self.recipe.items() if key not in ignored}
        pictures = (self.fingerprint, self.split, self.split_fingerprint)
        return json.dumps([recipe, pictures], sort_keys=True)


def read_run(path: Path) -> ComparedRun:
    """Reads a finished run.

    Args:
        path: of its directory.

    Raises:
        ArtifactNotFoundError: no run directory.
        TrainingError: an unfinished run.
        ConversionError: its report is damaged, or of a later version.
    """
    run = RunDirectory(path)
    if not path.is_dir():
        what = "a file, not a run directory" if path.is_file() else "there is no such run directory"
        raise ArtifactNotFoundError(f"{path}: {what}; edgecls train makes one")
    if not run.report.exists():
        if run.recipe_file.exists() or run.checkpoint.exists():
            raise TrainingError(
                f"{path}: an unfinished run, it has no report.json; finish it with edgecls train "
                f"{run.recipe_file} --data DIR --out {path} --resume, or leave it out"
            )
        raise ArtifactNotFoundError(
            f"{path}: not a run directory, there is no report.json in it; edgecls train makes one"
        )
    try:
        report = run.read_report()
        return _understood(path, ReportReader(report, run.report))
    except RecursionError as error:
        raise ConversionError(f"{run.report}: damaged (nested too deep); train again") from error


def _understood(path: Path, report: ReportReader) -> ComparedRun:
    schema = report.whole("schema")
    if report.text("type") != "run" or not schema:
        raise report.wrong("type", report.value.get("type"), "'run' and a schema")
    if schema > _SCHEMA:
        raise ConversionError(
            f"{report.file}: schema {schema}, this edgecls reads up to {_SCHEMA}; "
            "compare with the edgecls that trained it"
        )
    evaluation, data = report.inside("evaluation"), report.inside("data")
    labels = _labels(evaluation)
    rights, counts = _confusion(evaluation, len(labels or ()))
    split = evaluation.text("split")
    return ComparedRun(
        path=path,
        title=report.text("name") or "",
        labels=labels,
        split=split,
        n=evaluation.whole("n") or 0,
        fingerprint=data.text("fingerprint"),
        split_fingerprint=None if split is None else data.inside("fingerprints").text(split),
        recipe=_flat(report.inside("recipe").value),
        history=_history(report.inside("training")),
        accuracy_ci95=_interval(evaluation),
        class_counts=counts,
        class_accuracy=tuple(
            right / n if n else None for right, n in zip(rights, counts, strict=True)
        ),
        figures=_figures(report, evaluation),
    )


def _figures(report: ReportReader, evaluation: ReportReader) -> Figures:
    training = report.inside("training")
    artifacts = report.inside("validation").each("artifacts")
    none = ReportReader({}, report.file)
    int8 = next((artifact for artifact in artifacts if artifact.text("format") == "int8"), none)
    return Figures(
        accuracy=evaluation.share("accuracy"),
        top5=evaluation.share("top5"),
        macro_f1=evaluation.inside("macro").share("f1"),
        ece=evaluation.inside("calibration").share("ece"),
        corruption_accuracy=evaluation.inside("robustness").share("mean"),
        int8_accuracy=int8.share("accuracy"),
        int8_drop_points=int8.number("drop_points"),
        int8_size_bytes=int8.whole("size_bytes"),
        parameters=report.inside("architecture").whole("parameters"),
        epochs=len(training.entries("history")) or None,
        seconds=training.number("seconds"),
    )


def _labels(evaluation: ReportReader) -> tuple[str, ...] | None:
    labels = evaluation.entries("labels")
    for label in labels:
        if not isinstance(label, str):
            raise evaluation.wrong("labels", label, "names of classes")
    return tuple(labels) or None


def _confusion(evaluation: ReportReader, classes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Right answers and pictures of each class; empty without a matrix."""
    rows = evaluation.entries("confusion")
    fits = all(
        isinstance(row, list)
        and len(row) == classes
        and all(type(count) is int and count >= 0 for count in row)
        for row in rows
    )
    if not fits or len(rows) not in (0, classes):
        expected = f"{classes} rows of {classes} counts"
        raise evaluation.wrong("confusion", rows, expected)
    return tuple(row[place] for place, row in enumerate(rows)), tuple(map(sum, rows))


def _interval(evaluation: ReportReader) -> tuple[float, float] | None:
    ends = evaluation.entries("accuracy_ci95")
    if not ends:
        return None
    if len(ends) != 2 or not all(type(end) in (int, float) and 0 <= end <= 1 for end in ends):
        raise evaluation.wrong("accuracy_ci95", ends, "two numbers from 0 to 1")
    return float(ends[0]), float(ends[1])


def _history(training: ReportReader) -> tuple[Mapping[str, float], ...]:
    rows = training.each("history")
    for row in rows:
        for key, value in row.value.items():
            # A loss may be infinite or NaN: that is what happened.
            if type(value) not in (int, float):
                raise row.wrong(key, value, "a number")
        if row.number("epoch") is None:
            raise row.wrong("epoch", None, "a number")
    return tuple(row.value for row in rows)


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": entry for key, entry in value.items()}
        else:
            flat[name] = value
    return flat
