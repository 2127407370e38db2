"""A new head on a frozen backbone: features computed once beside ``model.fit`` on pictures.

    python benchmarks/feature_cache.py --data trashnet/ --weights mobilenet_v2_..._0.35_224_no_top.h5

The same pictures, splits, network, optimizer and number of epochs, one after the other, in a process
that has imported TensorFlow; neither stops early. Both are tested on the test split, and the drop
from one to the other is given with its paired 95 % interval. Exit code 1: a target is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.data.load import DataPlace, Dataset, load_for
from host_tools.extras import require
from host_tools.models import build_model
from host_tools.models.head import set_trainable
from host_tools.recipe import Recipe, load_recipe
from host_tools.run_directory import RunDirectory
from host_tools.third_party.keras import load_keras
from host_tools.train.batches import picture_batches, plain_batches, targets_of
from host_tools.train.fit import train
from host_tools.train.objective import compile_for
from host_tools.train.stages import stages_of
from host_tools.validate.statistics import drop_interval

_TARGET = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    recipe = load_recipe("edge-mobilenet", [f"model.weights={arguments.weights}"])
    recipe = replace(
        recipe,
        augmentation=type(recipe.augmentation)(),
        training=replace(
            recipe.training,
            epochs=arguments.epochs,
            patience=0,
            feature_variants=1,
            schedule="constant",
        ),
    )
    dataset = load_for(recipe, DataPlace(arguments.data), print)
    require("tensorflow")  # its import takes seconds, and only the first of the two would pay them
    cached_s, cached = _through_features(recipe, dataset)
    print(json.dumps({"features": cached_s}), flush=True)
    plain_s, plain = _through_pictures(recipe, dataset)
    truth = dataset.splits["test"].labels
    right = [answers == truth for answers in (plain, cached)]
    lost, gained = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    low, high = drop_interval(lost, gained, len(truth))
    ratio = plain_s / cached_s
    figures = {
        "epochs": arguments.epochs,
        "model_fit_s": plain_s,
        "features_s": cached_s,
        "ratio": ratio,
        "model_fit_accuracy": float(right[0].mean()),
        "features_accuracy": float(right[1].mean()),
        "drop_points_ci95": [100 * low, 100 * high],
    }
    print(json.dumps(figures, indent=1))
    sys.exit(ratio < _TARGET or not low <= 0 <= high)


def _through_features(recipe: Recipe, dataset: Dataset) -> tuple[float, NDArray[np.int64]]:
    """Our training, everything it writes included."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder))
        started = time.perf_counter()
        train(recipe, dataset, run)
        seconds = time.perf_counter() - started
        return seconds, _answers(load_keras(run.model), dataset)


def _through_pictures(recipe: Recipe, dataset: Dataset) -> tuple[float, NDArray[np.int64]]:
    """One ``model.fit``, its frozen base computed again for every picture of every epoch."""
    require("keras").utils.set_random_seed(recipe.training.seed)
    classes = len(dataset.classes)
    network = build_model(recipe, classes)
    set_trainable(network, recipe.model, "head")
    stage, subset = stages_of(recipe)[0], dataset.splits["train"]
    targets = targets_of(subset, recipe, classes)
    batches = picture_batches(subset, targets, recipe, stage.batch_size, 0)
    validation = dataset.splits["validation"]
    held_out = plain_batches(validation.pixels, validation.labels, classes, 64)
    model = compile_for(network, recipe.training, stage, len(batches))
    started = time.perf_counter()
    model.fit(batches, validation_data=held_out, epochs=recipe.training.epochs, verbose=2)
    return time.perf_counter() - started, _answers(network, dataset)


def _answers(model: Any, dataset: Dataset) -> NDArray[np.int64]:
    test = dataset.splits["test"]
    batches = plain_batches(test.pixels, test.labels, len(dataset.classes), 64)
    answers: NDArray[np.int64] = np.asarray(model.predict(batches, verbose=0)).argmax(axis=1)
    return answers


if __name__ == "__main__":
    main()
