"""Where a model comes from, as an artifact and a run's report record it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import edge_sdk
from host_tools.data.load import Dataset
from host_tools.extras import require
from host_tools.recipe import Recipe, recipe_to
from host_tools.run_directory import RunDirectory, TrainedModel


def tool_versions() -> dict[str, str]:
    """Versions of what shapes a model."""
    names = ("keras", "numpy", "ai-edge-litert")
    installed = {name: _installed(name) for name in ("litert-quantizer", "tf2onnx", "onnxruntime")}
    return {
        "edgecls": edge_sdk.__version__,
        "python": platform.python_version(),
        "tensorflow": str(require("tensorflow").__version__),
        **{name: version(name) for name in names},
        **{name: number for name, number in installed.items() if number is not None},
    }


def _installed(name: str) -> str | None:
    """The version of a package that not everybody has."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def travelling_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe without the places where its maker keeps weights."""
    model = replace(recipe.model, weights=Path(recipe.model.weights).name)
    training = replace(recipe.training, teacher=Path(recipe.training.teacher).name)
    return recipe_to(replace(recipe, model=model, training=training))


def data_provenance(
    trained: TrainedModel, dataset: Dataset | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """The data set the model was trained on, as its run says, else the one given now."""
    recorded = RunDirectory(trained.path.parent).read_report() if trained.recipe else {}
    kept = (
        {key: recorded["data"][key] for key in ("fingerprint", "fingerprints", "counts")}
        if recorded
        else {}
    )
    if dataset is None:
        return kept
    if kept and kept["fingerprint"] != dataset.fingerprint:
        say(
            f"{dataset.folder.root}: not the pictures this model was trained on, as its run recorded them"
        )
    return kept or describe_data(dataset)


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Fingerprints and numbers of pictures, of all and of each split."""
    return {
        "fingerprint": dataset.fingerprint,
        "fingerprints": {split: dataset.split_fingerprint(split) for split in dataset.splits},
        "counts": {split: len(subset) for split, subset in dataset.splits.items()},
    }
