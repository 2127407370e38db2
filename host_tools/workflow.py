"""The stages in order: load, train, convert, validate, report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_sdk.errors import DatasetError, TrainingError
from edge_sdk.files import write_atomically
from edge_sdk.plain import to_plain
from host_tools.conversion import convert_run
from host_tools.data.load import DataPlace, Dataset, load_for
from host_tools.evaluate.robustness import Predict
from host_tools.models.anatomy import layers_of, stages_of_network
from host_tools.package import add_provenance, describe_data, tool_versions
from host_tools.predict import Opening, save_scores
from host_tools.recipe import Recipe, recipe_to, recipe_toml
from host_tools.report.page import predictor, scores_on, write_report
from host_tools.report.pictures import contact_sheet, jpeg
from host_tools.run_directory import RunDirectory, find_trained, taken
from host_tools.scores.calibrate import calibrate_built
from host_tools.third_party.keras import load_keras, sweep_unfinished
from host_tools.train.checkpoint import holds_unfinished
from host_tools.train.distributed import ALONE, Meeting, Team, joined
from host_tools.train.fit import train
from host_tools.validate.results import Budget, Validation
from host_tools.validate.validation import scores_of, validate

Note = Callable[[str], None]


def train_run(
    recipe: Recipe,
    dataset: Dataset,
    run: RunDirectory,
    *,
    resume: bool,
    note: Note,
    corruptions: bool = False,
    together: bool = False,
    meeting: Meeting | None = None,
) -> dict[str, Any] | None:
    """Trains into a run directory and writes its first report, on the validation split.

    Args:
        recipe, dataset, run: what to train, on what, and where to write.
        resume: continue an unfinished training.
        note: called with each message for the user.
        corruptions: measure accuracy on corrupted pictures, too.
        together: share the training among all devices; ``use_jax`` must have been called.
        meeting: of the processes that share it; None: this one alone.

    Returns:
        The report, as in ``report.json``; None in every process but the one that writes it.

    Raises:
        TrainingError: the run is unfinished, the loss became NaN, or a process was lost.
        FolderInUseError: another process writes into the run directory.
    """
    writes = meeting is None or meeting.rank == 0
    with taken(run.path) if writes else contextlib.nullcontext():
        trained = _trained(
            recipe, dataset, run, resume=resume, note=note, together=together, meeting=meeting
        )
        if trained is None:
            return None
        report, predict = trained
        scores = scores_on(dataset, "validation", predict)
        worse = predict if corruptions else None
        write_report(run, report, dataset, "validation", scores, worse, note)
        return report


def _trained(
    recipe: Recipe,
    dataset: Dataset,
    run: RunDirectory,
    *,
    resume: bool,
    note: Note,
    together: bool = False,
    meeting: Meeting | None = None,
) -> tuple[dict[str, Any], Predict] | None:
    """Trains; returns the report so far, without an evaluation, and the model as a function."""
    if not resume and holds_unfinished(run.checkpoint):
        raise TrainingError(
            f"{run.path}: holds an unfinished training; add --resume to continue it, or choose "
            "another --out"
        )
    sharing: contextlib.AbstractContextManager[Team] = contextlib.nullcontext(ALONE)
    if together:
        sharing = joined(meeting)
    with sharing as team:
        if team.rank == 0:
            sweep_unfinished(run.path)
        progress = train(recipe, dataset, run, resume=resume, team=team)
    if team.rank:
        return None
    shared = f" on {team.devices} devices of {team.size} processes" if together else ""
    note(
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
            "stages": to_plain(stages_of_network(layers)),
            "layers": to_plain(layers),
        },
        "validation": None,
        "evaluation": None,
        "tools": tool_versions(),
        "recipe": recipe_to(recipe),
        "recipe_toml": recipe_toml(recipe),
    }
    write_atomically(run.contact_sheet, jpeg(contact_sheet(dataset, recipe)))
    return report, predictor(network)


def build(
    recipe: Recipe,
    data: DataPlace,
    out: Path,
    *,
    resume: bool = False,
    corruptions: bool = False,
    note: Note,
) -> Validation:
    """Everything: train, convert, validate on the test split, report.

    Args:
        recipe, data, out: what to build, from what, and where to write.
        resume: continue an unfinished training.
        corruptions: measure accuracy on corrupted pictures, too.
        note: called with each message for the user.

    Returns:
        The comparison of the artifacts with the float model; its verdict is that of the recipe's
        gates, None where it names no budget.

    Raises:
        DatasetError: a folder that cannot be trained on, or has nothing to validate on.
        FolderInUseError: another process writes into ``out``.
    """
    with taken(out):
        return _build(recipe, data, out, resume=resume, corruptions=corruptions, note=note)


def _build(
    recipe: Recipe, data: DataPlace, out: Path, *, resume: bool, corruptions: bool, note: Note
) -> Validation:
    run = RunDirectory(out)
    dataset = load_for(recipe, data, note)
    if not len(dataset.splits["test"]):
        raise DatasetError(
            f"{data.path}: no test pictures, so the drop could not be measured; raise data.test, or use "
            "edgecls train and edgecls convert"
        )
    trained = _trained(recipe, dataset, run, resume=resume, note=note)
    assert trained is not None  # there is one process
    report, predict = trained
    try:
        artifacts = convert_run(find_trained(out), dataset, recipe.conversion, out, note=note)
        calibrate_built(artifacts, dataset, recipe.scores, note)
    except Exception:
        # The training is reported even if the conversion fails.
        write_report(run, report, dataset, "validation", scores_on(dataset, "validation", predict))
        raise
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
        say=note,
    )
    save_scores(run.scores, scores_of(comparison))
    comparison = _recorded(comparison, artifacts)
    report["validation"] = comparison.to_json()
    scores = comparison.reference_scores
    if comparison.pictures != dataset.splits["test"].pictures:  # one is no longer readable
        scores = scores_on(dataset, "test", predict)
    write_report(run, report, dataset, "test", scores, predict if corruptions else None, note)
    return comparison


def _recorded(comparison: Validation, artifacts: Sequence[Path]) -> Validation:
    """Writes each artifact's figures into its provenance, and corrects its size for that."""
    figures = comparison.to_json()
    # An artifact is published: it holds no local paths, nor a size that is about to change.
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
