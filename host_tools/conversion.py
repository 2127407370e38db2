"""The conversion of a trained model: one float network, every requested artifact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edge_sdk.errors import ConversionError
from edge_sdk.plain import to_plain
from host_tools.data.load import Dataset
from host_tools.package import (
    Description,
    artifact_name,
    data_provenance,
    tool_versions,
    travelling_recipe,
    write_artifact,
)
from host_tools.quantize.convert import convert, float_graph
from host_tools.quantize.graph import Graph, append_softmax
from host_tools.quantize.int8 import Treatment, quantized
from host_tools.quantize.lint import CalibrationRequest, CheckedCalibration, checked_calibration
from host_tools.recipe import ConversionRecipe, DataRecipe, Recipe, preprocessing_of
from host_tools.repair.fine_tune import FineTuning, fine_tuned
from host_tools.repair.ladder import Climber
from host_tools.repair.report import Repaired, confirm, record
from host_tools.repair.rungs import RepairBudget
from host_tools.run_directory import TrainedModel
from host_tools.third_party.keras import input_shape, load_keras

Note = Callable[[str], None]
# Formats that are calibrated on pictures.
_INTEGER_FORMATS = ("int8", "int16x8", "onnx-int8")


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A trained model, and what its artifacts record about it."""

    trained: TrainedModel
    model: Any
    dataset: Dataset | None
    labels: tuple[str, ...]
    recipe: Recipe
    provenance: dict[str, Any]


def convert_run(
    trained: TrainedModel,
    dataset: Dataset | None,
    conversion: ConversionRecipe,
    out: Path,
    *,
    request: CalibrationRequest = CalibrationRequest(),  # noqa: B008  frozen
    note: Note,
) -> list[Path]:
    """Converts a trained model to every requested format.

    Args:
        trained: the model, with its recipe and labels if they are known.
        dataset: for calibration, and for labels where the model has none of its own.
        conversion: formats, and how many pictures to calibrate with.
        out: folder for the artifacts.
        request: which pictures to calibrate with.
        note: called with a message for each file written.

    Raises:
        ConversionError: the model does not convert, the data set is another one's, or the lint
            stops the calibration.
    """
    source = _source(trained, dataset, note)
    integer = None
    if formats_needing_data(conversion.formats):
        integer = _calibrated(source, conversion, request, note)
    paths = []
    for format_ in conversion.formats:
        flatbuffer = _flatbuffer(source.model, format_, integer, conversion.io)
        measured = integer if format_ in _INTEGER_FORMATS else None
        more = {"calibration": measured[1].record} if measured else {}
        paths.append(_write(source, out, flatbuffer, format_, more, note))
    return paths


def repair_run(
    trained: TrainedModel,
    dataset: Dataset,
    conversion: ConversionRecipe,
    out: Path,
    budget: RepairBudget,
    *,
    request: CalibrationRequest = CalibrationRequest(),  # noqa: B008  frozen
    note: Note,
) -> Repaired:
    """Converts a trained model to an int8 artifact within a budget, or to the best one found.

    Writes ``<name>_repair.json`` and ``.html`` beside the artifact: a report of what was tried.

    Args:
        trained, conversion, out, request: as of ``convert_run``.
        dataset: its validation split chooses the model, its test split confirms it.
        budget: of accuracy, and of time.
        note: called with a message for each step.

    Raises:
        ConversionError: as ``convert_run``, or there are no validation pictures.
    """
    validation, test = dataset.splits["validation"], dataset.splits["test"]
    if not len(validation):
        raise ConversionError(
            f"{dataset.folder.root}: no validation pictures for a repair to choose by; train with "
            "data.validation above 0"
        )
    source = _source(trained, dataset, note)
    integer = _calibrated(source, conversion, request, note)
    assert integer is not None  # there is a data set
    graph, calibration = integer
    ladder = Climber(
        *(graph, calibration, validation.pixels(), validation.labels),
        lambda: convert(source.model, "float16"),
        budget,
        conversion.io,
        note,
        partial(_fine_tuned_graph, source, dataset, calibration, note),
    ).climb()
    best = ladder.best
    float_model = append_softmax(graph.pack())
    confirmed = confirm(*(float_model, ladder.flatbuffer, test.pixels(), test.labels), budget)
    more = {
        "calibration": calibration.record,
        "repair": {
            "rung": best.name,
            "kept_float": list(best.kept_float),
            "validation": {"drop_points": best.drop_points, "n": ladder.n},
            "test": to_plain(confirmed),
        },
    }
    if best.format != "int8":
        del more["calibration"]
    path = _write(source, out, ladder.flatbuffer, best.format, more, note)
    repaired = Repaired(path, ladder, budget, confirmed)
    record(repaired, graph, calibration)
    return repaired


def _fine_tuned_graph(
    source: _Source,
    dataset: Dataset,
    calibration: CheckedCalibration,
    note: Note,
    treatment: Treatment,
    seconds: float,
) -> Graph | None:
    how = FineTuning(seconds, flips=source.recipe.augmentation.horizontal_flip > 0)
    data = (dataset.splits["train"], calibration.pixels)
    try:
        tuned = fine_tuned(source.model, *data, treatment, how, note)
    except ConversionError as error:
        note(f"not fine-tuned: {error}")
        return None
    return float_graph(tuned.model) if tuned.improved else None


def _source(trained: TrainedModel, dataset: Dataset | None, note: Note) -> _Source:
    model = load_keras(trained.path)
    labels = trained.labels or (dataset.classes if dataset else None)
    if labels is None:
        raise ConversionError(f"{trained.path}: a bare .keras file has no labels; give --data DIR")
    if dataset is not None and dataset.classes != labels:
        raise ConversionError(
            f"{dataset.folder.root}: its classes ({', '.join(dataset.classes[:5])}, ...) are not the "
            f"labels of {trained.path} ({', '.join(labels[:5])}, ...)"
        )
    if len(labels) != model.outputs[0].shape[-1]:
        raise ConversionError(
            f"{trained.path}: {model.outputs[0].shape[-1]} outputs, but {len(labels)} classes in the "
            "data; give the data set that it was trained on with --data"
        )
    recipe = trained.recipe or recipe_for_bare(trained, model)
    if trained.recipe is None:
        note(
            f"{trained.path}: no run directory; its input is taken as RGB 0..255, centre-cropped; "
            "if it was trained on another range, put a Rescaling layer in front and save it again"
        )
    provenance = {
        "recipe": travelling_recipe(recipe),
        "data": data_provenance(trained, dataset, note),
        "tools": tool_versions(),
    }
    return _Source(trained, model, dataset, labels, recipe, provenance)


def _calibrated(
    source: _Source, conversion: ConversionRecipe, request: CalibrationRequest, note: Note
) -> tuple[Graph, CheckedCalibration] | None:
    graph = float_graph(source.model)
    about = (graph, source.trained, source.recipe, source.labels, source.dataset)
    calibration = checked_calibration(*about, conversion.calibration_images, request, note)
    return (graph, calibration) if calibration else None


def _write(
    source: _Source, out: Path, flatbuffer: bytes, format_: str, more: dict[str, Any], note: Note
) -> Path:
    path = out / artifact_name(source.trained.name, format_)
    description = Description(
        name=source.trained.name,
        text=source.recipe.description,
        format=format_,
        labels=source.labels,
        preprocessing=preprocessing_of(source.recipe),
        provenance={**source.provenance, **more},
    )
    write_artifact(path, flatbuffer, description)
    note(f"wrote {path}, {path.stat().st_size:,} bytes")
    return path


def _flatbuffer(
    model: Any, format_: str, integer: tuple[Graph, CheckedCalibration] | None, io: str
) -> bytes:
    if integer is None:
        return convert(model, format_)
    graph, calibration = integer
    if format_ == "int8":
        return quantized(graph, calibration.observed, calibration.pixels, Treatment(io=io))
    return convert(model, format_, calibration.pixels)


def recipe_for_bare(trained: TrainedModel, model: Any) -> Recipe:
    """The recipe of a ``.keras`` file without a run directory: only its input size is known."""
    height, width, channels = input_shape(model)
    data = DataRecipe(width=width, height=height, color="rgb" if channels == 3 else "gray")
    return Recipe(trained.path.stem, data=data)


def formats_needing_data(formats: Sequence[str]) -> tuple[str, ...]:
    """Those of ``formats`` that are calibrated on pictures."""
    return tuple(f for f in formats if f in _INTEGER_FORMATS)
