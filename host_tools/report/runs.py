"""The part of a run's ``report.json`` that a comparison needs, read strictly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edge_sdk.errors import ArtifactNotFoundError, ConversionError, TrainingError
from edge_sdk.plain import PlainError, from_plain, key
from host_tools.run_directory import RunDirectory

_SCHEMA = 1
_SEED = "training.seed"
# Keys without an effect on the training.
_WORDS = ("name", "description")


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The compared figures; None where the run lacks one.

    Attributes:
        accuracy: of the float model on the evaluated split, 0..1.
        top5: share of pictures whose truth is among the five highest scores, 0..1.
        macro_f1: mean of the classes' F1, 0..1.
        ece: expected calibration error, 0..1.
        corruption_accuracy: mean accuracy on corrupted pictures, 0..1.
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


FIGURES: tuple[str, ...] = tuple(field.name for field in fields(RunFigures))


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
        class_accuracy: share of them classified correctly; None without pictures.
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
    figures: RunFigures

    @property
    def seed(self) -> Any:
        """``training.seed`` of the recipe; None where it has none."""
        return self.recipe.get(_SEED)

    @property
    def identity(self) -> str:
        """What repetitions of a run share: the recipe but for the seed, and the pictures."""
        ignored = (_SEED, *_WORDS)
        recipe = {name: value for name, value in self.recipe.items() if name not in ignored}
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
        return _understood(path, run.report, run.read_report())
    except PlainError as error:
        raise ConversionError(f"{run.report}: damaged ({error}); train again") from error
    except RecursionError as error:
        raise ConversionError(f"{run.report}: damaged (nested too deep); train again") from error


def _understood(path: Path, file: Path, content: Any) -> ComparedRun:
    if not isinstance(content, dict) or content.get("type") != "run" or not content.get("schema"):
        kind = content.get("type") if isinstance(content, dict) else content
        raise PlainError("", f"type is {kind!r:.60}, expected 'run' and a schema")
    report = from_plain(_Report, content)
    if report.schema > _SCHEMA:
        raise ConversionError(
            f"{file}: schema {report.schema}, this edgecls reads up to {_SCHEMA}; "
            "compare with the edgecls that trained it"
        )
    evaluation, data = report.evaluation or _Evaluation(), report.data or _Data()
    rights, counts = _confusion(evaluation)
    return ComparedRun(
        path=path,
        title=report.name or "",
        labels=evaluation.labels or None,
        split=evaluation.split,
        n=evaluation.n or 0,
        fingerprint=data.fingerprint,
        split_fingerprint=(data.fingerprints or {}).get(evaluation.split or ""),
        recipe=_flat(report.recipe or {}),
        history=_history(report.training or _Training()),
        accuracy_ci95=evaluation.accuracy_ci95,
        class_counts=counts,
        class_accuracy=tuple(
            right / n if n else None for right, n in zip(rights, counts, strict=True)
        ),
        figures=_figures(report, evaluation),
    )


def _figures(report: _Report, evaluation: _Evaluation) -> RunFigures:
    training = report.training or _Training()
    artifacts = (report.validation or _Validation()).artifacts or ()
    int8 = next((artifact for artifact in artifacts if artifact.format == "int8"), _Artifact())
    return RunFigures(
        accuracy=evaluation.accuracy,
        top5=evaluation.top5,
        macro_f1=(evaluation.macro or _Macro()).f1,
        ece=(evaluation.calibration or _Calibration()).ece,
        corruption_accuracy=(evaluation.robustness or _Robustness()).mean,
        int8_accuracy=int8.accuracy,
        int8_drop_points=int8.drop_points,
        int8_size_bytes=int8.size_bytes,
        parameters=(report.architecture or _Architecture()).parameters,
        epochs=len(training.history or ()) or None,
        seconds=training.seconds,
    )


def _confusion(evaluation: _Evaluation) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Right answers and pictures of each class; empty without a matrix."""
    rows, classes = evaluation.confusion or (), len(evaluation.labels or ())
    fits = all(len(row) == classes and min(row, default=0) >= 0 for row in rows)
    if not fits or len(rows) not in (0, classes):
        raise PlainError("evaluation.confusion", f"must be {classes} rows of {classes} counts")
    return tuple(row[place] for place, row in enumerate(rows)), tuple(map(sum, rows))


def _history(training: _Training) -> tuple[Mapping[str, float], ...]:
    rows = training.history or ()
    for number, row in enumerate(rows):
        place = f"training.history[{number}]"
        for name, value in row.items():
            # A loss may be infinite or NaN: the training recorded it.
            if type(value) not in (int, float):
                raise PlainError(f"{place}.{name}", f"must be a number, got {value!r:.60}")
        if "epoch" not in row:
            raise PlainError(f"{place}.epoch", "is missing")
    return rows


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": entry for inner, entry in value.items()}
        else:
            flat[name] = value
    return flat


# The parts of a report.json that are read. Keys absent in an earlier version, or null, are None.


def _share() -> Any:
    return key(None, within=(0, 1))


def _count() -> Any:
    return key(None, within=(0, math.inf))


@dataclass(frozen=True, slots=True)
class _Macro:
    f1: float | None = _share()


@dataclass(frozen=True, slots=True)
class _Calibration:
    ece: float | None = _share()


@dataclass(frozen=True, slots=True)
class _Robustness:
    mean: float | None = _share()


@dataclass(frozen=True, slots=True)
class _Evaluation:
    split: str | None = None
    n: int | None = _count()
    labels: tuple[str, ...] | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None
    accuracy: float | None = _share()
    accuracy_ci95: tuple[float, float] | None = _share()
    top5: float | None = _share()
    macro: _Macro | None = None
    calibration: _Calibration | None = None
    robustness: _Robustness | None = None


@dataclass(frozen=True, slots=True)
class _Data:
    fingerprint: str | None = None
    fingerprints: dict[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class _Training:
    history: tuple[dict[str, Any], ...] | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Artifact:
    format: str | None = None
    accuracy: float | None = _share()
    drop_points: float | None = None
    size_bytes: int | None = _count()


@dataclass(frozen=True, slots=True)
class _Validation:
    artifacts: tuple[_Artifact, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Architecture:
    parameters: int | None = _count()


@dataclass(frozen=True, slots=True)
class _Report:
    schema: int
    name: str | None = None
    evaluation: _Evaluation | None = None
    data: _Data | None = None
    training: _Training | None = None
    validation: _Validation | None = None
    architecture: _Architecture | None = None
    recipe: dict[str, Any] | None = None
