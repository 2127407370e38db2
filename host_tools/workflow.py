"""The stages in order: load, train, convert, validate, report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edge_sdk.errors import ConversionError, DatasetError, TrainingError
from edge_sdk.files import write_atomically
from host_tools.data.load import Dataset
from host_tools.data.prepare import DataPlace, load_for
from host_tools.evaluate.robustness import Predict
from host_tools.keras_files import load_keras
from host_tools.models.anatomy import layers_of, stages_of_network
from host_tools.opening import Opening
from host_tools.package import Description, add_provenance, write_artifact
from host_tools.provenance import (
    data_provenance,
    describe_data,
    tool_versions,
    travelling_recipe,
)
from host_tools.quantize.checked import CalibrationRequest, checked_calibration
from host_tools.quantize.convert import convert, input_shape
from host_tools.recipe import (
    ConversionRecipe,
    DataRecipe,
    Recipe,
    preprocessing_of,
    recipe_to,
    recipe_toml,
)
from host_tools.report.contact_sheet import contact_sheet, jpeg
from host_tools.report.stage import predictor, scores_on, write_report
from host_tools.run_directory import RunDirectory, TrainedModel, find_trained
from host_tools.train.checkpoint import holds_unfinished
from host_tools.train.fit import train
from host_tools.train.team import ALONE, Meeting, Team, joined
from host_tools.validate.compare import Budget, Comparison
from host_tools.validate.scores import save_scores
from host_tools.validate.stage import scores_of, validate

Say = Callable[[str], None]
_INTEGER_FORMATS = ("int8", "int16x8")


def train_run(
    recipe: Recipe,
    dataset: Dataset,
    run: RunDirectory,
    *,
    resume: bool,
    say: Say,
    together: bool = False,
    meeting: Meeting | None = None,
) -> dict[str, Any] | None:
    """Trains into a run directory and writes its first report, on the validation split.

    Args:
        recipe, dataset, run: what, on what, into where.
        resume: go on with an unfinished training.
        say: told what a person should know.
        together: share the training among all devices; ``use_jax`` must have been called.
        meeting: of the processes that share it; None: this one alone.

    Returns:
        The report, as in ``report.json``; None in every process but the one that writes it.

    Raises:
        TrainingError: an unfinished training is in the way, the loss became NaN, or another process
            was lost.
    """
    trained = _trained(
        recipe, dataset, run, resume=resume, say=say, together=together, meeting=meeting
    )
    if trained is None:
        return None
    report, predict = trained
    scores = scores_on(dataset, "validation", predict)
    write_report(run, report, dataset, "validation", scores, predict, say)
    return report


def _trained(
    recipe: Recipe,
    dataset: Dataset,
    run: RunDirectory,
    *,
    resume: bool,
    say: Say,
    together: bool = False,
    meeting: Meeting | None = None,
) -> tuple[dict[str, Any], Predict] | None:
    """Trains; gives the report so far, without an evaluation, and the model as a function."""
    if not resume and holds_unfinished(run.checkpoint):
        raise TrainingError(
            f"{run.path}: holds an unfinished training; add --resume to go on with it, or choose "
            "another --out"
        )
    sharing: contextlib.AbstractContextManager[Team] = contextlib.nullcontext(ALONE)
    if together:
        sharing = joined(meeting)
    with sharing as team:
        progress = train(recipe, dataset, run, resume=resume, team=team)
    if team.rank:
        return None
    shared = f" on {team.devices} devices of {team.size} processes" if together else ""
    say(
        f"trained {progress.epochs_done} epochs in {progress.seconds:.0f} s{shared}; "
        f"kept epoch {progress.best_epoch + 1}"
    )
    network = load_keras(run.model)
    layers = layers_of(network)
    report = {
        "schema": 1,
        "type": "run",
        "name": recipe.name,
        "description": recipe.description,
        "data": {
            **describe_data(dataset),
            "unreadable": [f"{u.picture.path}: {u.reason}" for u in dataset.unreadable],
        },
        "training": {
            "seconds": progress.seconds,
            "best_epoch": progress.best_epoch,
            "history": progress.history,
        },
        "architecture": {
            "parameters": sum(layer.parameters for layer in layers),
            "stages": [asdict(stage) for stage in stages_of_network(layers)],
            "layers": [asdict(layer) for layer in layers],
        },
        "validation": None,
        "evaluation": None,
        "tools": tool_versions(),
        "recipe": recipe_to(recipe),
        "recipe_toml": recipe_toml(recipe),
    }
    write_atomically(run.contact_sheet, jpeg(contact_sheet(dataset, recipe)))
    return report, predictor(network)


def convert_run(
    trained: TrainedModel,
    dataset: Dataset | None,
    conversion: ConversionRecipe,
    out: Path,
    *,
    request: CalibrationRequest = CalibrationRequest(),  # noqa: B008  frozen
    say: Say,
) -> list[Path]:
    """Converts a trained model to every format asked for.

    Args:
        trained: the model, with its recipe and labels if they are known.
        dataset: for calibration, and for labels where the model has none of its own.
        conversion: formats, and how many pictures to calibrate with.
        out: folder for the artifacts.
        request: which pictures to calibrate with.
        say: told each file as it is written.

    Raises:
        ConversionError: the model does not convert, the data set is another one's, or the lint
            stops the calibration.
    """
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
            f"{trained.path}: {model.outputs[0].shape[-1]} outputs, but {len(labels)} classes in the data"
        )
    recipe = trained.recipe or recipe_for_bare(trained, model)
    if trained.recipe is None:
        say(
            f"{trained.path}: no run directory, so it is taken to want RGB 0..255 and a centre crop; "
            "if it was trained on another range, put a Rescaling layer in front and save it again"
        )
    calibration = None
    if formats_needing_data(conversion.formats):
        count, about = conversion.calibration_images, (model, trained, recipe, labels, dataset)
        calibration = checked_calibration(*about, count, request, say)
    provenance = {
        "recipe": travelling_recipe(recipe),
        "data": data_provenance(trained, dataset, say),
        "tools": tool_versions(),
    }
    paths = []
    for format_ in conversion.formats:
        path = out / f"{trained.name}_{format_}.tflite"
        flatbuffer = convert(model, format_, calibration.pixels if calibration else None)
        if format_ in _INTEGER_FORMATS and calibration is not None:
            provenance["calibration"] = calibration.record
        else:
            provenance.pop("calibration", None)
        write_artifact(
            path,
            flatbuffer,
            Description(
                name=trained.name,
                text=recipe.description,
                format=format_,
                labels=labels,
                preprocessing=preprocessing_of(recipe),
                provenance=dict(provenance),
            ),
        )
        say(f"wrote {path}, {path.stat().st_size:,} bytes")
        paths.append(path)
    return paths


def build(
    recipe: Recipe,
    data: DataPlace,
    out: Path,
    *,
    resume: bool = False,
    say: Say,
) -> Comparison:
    """Everything: train, convert, validate on the test split, report.

    Returns:
        The comparison of the artifacts with the float model; its verdict is that of the recipe's
        gates, None where it names no budget.

    Raises:
        DatasetError: a folder that cannot be trained on, or has nothing to validate on.
    """
    run = RunDirectory(out)
    dataset = load_for(recipe, data, say)
    if not len(dataset.splits["test"]):
        raise DatasetError(
            f"{data.path}: no test pictures, so the drop could not be measured; raise data.test, or use "
            "edgecls train and edgecls convert"
        )
    trained = _trained(recipe, dataset, run, resume=resume, say=say)
    assert trained is not None  # there is one process
    report, predict = trained
    # Should a conversion fail, there is a report of the training.
    write_report(run, report, dataset, "validation", scores_on(dataset, "validation", predict))
    artifacts = convert_run(find_trained(out), dataset, recipe.conversion, out, say=say)
    budget = Budget(recipe.gates.max_drop, recipe.gates.max_class_drop)
    comparison = validate(
        artifacts,
        out,
        data.path,
        layout=data.layout,
        split="test",
        budget=budget,
        opening=Opening(),
        max_pixels=data.max_pixels,
        say=say,
    )
    save_scores(run.scores, scores_of(comparison))
    comparison = _recorded(comparison, artifacts)
    report["validation"] = comparison.to_json()
    scores = comparison.reference_scores
    if comparison.pictures != dataset.splits["test"].pictures:  # one can be read no more
        scores = scores_on(dataset, "test", predict)
    write_report(run, report, dataset, "test", scores, predict, say)
    return comparison


def _recorded(comparison: Comparison, artifacts: Sequence[Path]) -> Comparison:
    """Writes each artifact's figures into its provenance, and corrects its size for that."""
    figures = comparison.to_json()
    # An artifact travels: it does not tell where its maker keeps files, nor a size about to change.
    left_out = ("path", "per_class", "size_bytes")
    reference = {key: value for key, value in figures["reference"].items() if key != "path"}
    for path, result in zip(artifacts, figures["artifacts"], strict=True):
        kept = {key: value for key, value in result.items() if key not in left_out}
        add_provenance(path, "validation", {"reference": reference, **kept})
    sized = (
        replace(result, size_bytes=path.stat().st_size)
        for path, result in zip(artifacts, comparison.artifacts, strict=True)
    )
    return replace(comparison, artifacts=tuple(sized))


def recipe_for_bare(trained: TrainedModel, model: Any) -> Recipe:
    """What can be said of a ``.keras`` file without a run directory: its input's size."""
    height, width, channels = input_shape(model)
    data = DataRecipe(width=width, height=height, color="rgb" if channels == 3 else "gray")
    return Recipe(trained.path.stem, data=data)


def formats_needing_data(formats: Sequence[str]) -> tuple[str, ...]:
    """Those of ``formats`` that are calibrated on pictures."""
    return tuple(f for f in formats if f in _INTEGER_FORMATS)
