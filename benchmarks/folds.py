"""Accuracy of a recipe on a small data set, in stratified folds pooled: float and int8.

    python benchmarks/folds.py edge-mobilenet --data trashnet/ --work DIR \\
        --set model.weights=mobilenet_v2_..._0.35_224_no_top.h5

Every picture is tested once, by a model that has not seen it; all answers together give one accuracy
with its 95 % Wilson interval, and one drop with its paired interval. The folds are scikit-learn's
StratifiedKFold. After an interruption the same command continues and skips finished folds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.classifier import Classifier
from host_tools.conversion import convert_run
from host_tools.data.layouts import find_pictures
from host_tools.data.load import DataPlace, Dataset, load_for
from host_tools.extras import require
from host_tools.recipe import Recipe, load_recipe
from host_tools.run_directory import RunDirectory, find_trained
from host_tools.third_party.keras import load_keras
from host_tools.train.checkpoint import holds_unfinished
from host_tools.validate.statistics import drop_interval
from host_tools.workflow import train_run

_FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--data", type=Path, required=True, help="a folder per class")
    parser.add_argument("--work", type=Path, required=True, help="folds, runs and answers go there")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()
    recipe = load_recipe(
        arguments.recipe, ["data.test=0", 'conversion.formats=["int8"]', *arguments.overrides]
    )
    started = time.perf_counter()
    folds = _folds(arguments.data, arguments.work)
    answers = [_fold(recipe, fold, arguments.work / f"run-{fold.name}") for fold in folds]
    truth, plain, quantized = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    right = [plain == truth, quantized == truth]
    lost, won = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    low, high = drop_interval(lost, won, len(truth))
    figures = {
        "pictures": len(truth),
        "float": _accuracy(right[0]),
        "int8": _accuracy(right[1]),
        "drop_points": 100 * (lost - won) / len(truth),
        "drop_ci95": [100 * low, 100 * high],
        "folds": [
            {"float": float((p == t).mean()), "int8": float((q == t).mean())} for t, p, q in answers
        ],
        "seconds": time.perf_counter() - started,
    }
    print(json.dumps(figures, indent=1))


def _folds(data: Path, work: Path) -> list[Path]:
    """A folder per fold with train and test in it, hard links to the pictures."""
    found = find_pictures(data)
    labels = [picture.label for picture in found.pictures]
    splitter = require("sklearn.model_selection").StratifiedKFold(
        _FOLDS, shuffle=True, random_state=0
    )
    folds = []
    for number, (_, tested) in enumerate(splitter.split(labels, labels)):
        fold = work / f"fold-{number}"
        folds.append(fold)
        chosen = set(tested.tolist())
        for row, picture in enumerate(found.pictures):
            split = "test" if row in chosen else "train"
            link = fold / split / found.classes[picture.label] / picture.path.name
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(picture.path, link)
    return folds


def _fold(recipe: Recipe, fold: Path, out: Path) -> list[NDArray[np.int64]]:
    """Truth, and what the float and the int8 model answer to the pictures of a fold."""
    kept = out / "answers.npz"
    if not kept.exists():
        run = RunDirectory(out)
        dataset = load_for(recipe, DataPlace(fold), _say)
        if not run.model.exists() or holds_unfinished(run.checkpoint):
            train_run(recipe, dataset, run, resume=True, note=_say)
        (artifact,) = convert_run(find_trained(out), dataset, recipe.conversion, out, note=_say)
        np.savez(kept, *_answers(dataset, run, artifact))
    with np.load(kept) as answers:
        return [answers[name] for name in answers.files]


def _answers(dataset: Dataset, run: RunDirectory, artifact: Path) -> list[NDArray[Any]]:
    test = dataset.splits["test"]
    pixels = test.pixels()
    scores = load_keras(run.model).predict(pixels, batch_size=64, verbose=0)
    with Classifier.open(artifact) as classifier:
        quantized = [int(classifier.classify(picture).scores.argmax()) for picture in pixels]
    return [test.labels, scores.argmax(axis=1), np.array(quantized, np.int64)]


def _accuracy(right: NDArray[np.bool_]) -> dict[str, Any]:
    """With its 95 % Wilson interval (Wilson 1927)."""
    n, share, z = len(right), float(right.mean()), 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return {"accuracy": share, "ci95": [middle - half, middle + half]}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
