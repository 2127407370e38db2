"""Every architecture: builds, trains for some steps, converts, and agrees with its float model.

    python benchmarks/architectures.py --data trashnet/ [--only resnet8 ...] > table.md

Without pretrained weights a network has learnt almost nothing after some steps, so equal answers
mean little: the correlation of the scores over pictures and classes is given as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.classifier import Classifier
from host_tools.conversion import convert_run
from host_tools.data.load import DataPlace, load_for
from host_tools.extras import require
from host_tools.models import build_model, with_softmax
from host_tools.models.head import set_trainable
from host_tools.recipe import AugmentationRecipe, DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from host_tools.recipe.keys import ARCHITECTURES, ConversionRecipe
from host_tools.run_directory import RunDirectory, find_trained
from host_tools.third_party.keras import save_keras
from host_tools.train.batches import material_for
from host_tools.train.distributed import ALONE
from host_tools.train.objective import compile_for
from host_tools.train.stages import stages_of

_SMALL = ("small-cnn", "resnet8", "resnet20", "airbench", "resdense")
_FORMATS = ("int8", "float16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=ARCHITECTURES, choices=ARCHITECTURES)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=100, help="to compare answers on")
    arguments = parser.parse_args()
    print(
        "| architecture | input | parameters | build s | step s | int8 bytes | convert s |", end=""
    )
    print(" int8 same answer | int8 r | float16 same answer | float16 r |")
    print("|---|" + "---|" * 10)
    for name in arguments.only:
        row = _measure(name, arguments.data, arguments.steps, arguments.pictures)
        print(_as_markdown(row), flush=True)
        print(json.dumps(row), file=sys.stderr, flush=True)


def _measure(name: str, data: Path, steps: int, pictures: int) -> dict[str, Any]:
    side = 32 if name in _SMALL else 96
    recipe = Recipe(
        name,
        data=DataRecipe(width=side, height=side),
        augmentation=AugmentationRecipe(horizontal_flip=0.5),
        model=ModelRecipe(architecture=name),
        training=TrainingRecipe(epochs=1, batch_size=16, learning_rate=0.001, schedule="constant"),
        conversion=ConversionRecipe(formats=_FORMATS, calibration_images=100),
    )
    dataset = load_for(recipe, DataPlace(data), lambda _: None)
    started = time.perf_counter()
    require("keras").utils.set_random_seed(0)
    network = build_model(recipe, len(dataset.classes))
    built_s = time.perf_counter() - started
    stage = stages_of(recipe)[0]
    set_trainable(network, recipe.model, "all")
    material = material_for(network, dataset, recipe, stage, ALONE)
    model = compile_for(material.model, recipe.training, stage, steps)
    batches = material.batches(0)
    model.train_on_batch(*batches[0])  # traces the graph
    started = time.perf_counter()
    for index in range(1, steps):
        loss = model.train_on_batch(*batches[index])[0]
    step_s = (time.perf_counter() - started) / (steps - 1)
    assert np.isfinite(loss), f"{name}: the loss is {loss}"
    _settle(network, [batches[index][0] for index in range(10)])
    with tempfile.TemporaryDirectory() as folder:
        return {
            "architecture": name,
            "input": side,
            "parameters": network.count_params(),
            "build_s": built_s,
            "step_s": step_s,
        } | _converted(network, dataset, recipe, Path(folder), pictures)


def _settle(network: Any, batches: list[Any]) -> None:
    """Statistics of batch normalisation for the weights as they are: few steps leave old ones."""
    norms = [x for x in network.layers if type(x).__name__ == "BatchNormalization"]
    for norm in norms:
        norm.momentum = 0.5
    for batch in batches:
        network(batch.astype(np.float32), training=True)


def _converted(
    network: Any, dataset: Any, recipe: Recipe, folder: Path, pictures: int
) -> dict[str, Any]:
    run = RunDirectory(folder)
    run.write_description(recipe, dataset.classes)
    float_model = with_softmax(network)
    save_keras(float_model, run.model)
    started = time.perf_counter()
    paths = convert_run(
        find_trained(folder), dataset, recipe.conversion, folder, note=lambda _: None
    )
    figures: dict[str, Any] = {"convert_s": time.perf_counter() - started}
    pixels = dataset.splits["test"].pixels(slice(0, pictures))
    wanted = np.asarray(float_model.predict(pixels.astype(np.float32), verbose=0, batch_size=16))
    for format_, path in zip(_FORMATS, paths, strict=True):
        with Classifier.open(path) as classifier:
            got = np.stack([classifier.classify(picture).scores for picture in pixels])
        logs = [np.log(np.clip(scores, 1e-7, 1)) for scores in (wanted, got)]
        centred = [rows - rows.mean(axis=0) for rows in logs]
        figures[f"{format_}_bytes"] = path.stat().st_size
        figures[f"{format_}_agreement"] = float((wanted.argmax(1) == got.argmax(1)).mean())
        figures[f"{format_}_r"] = float(np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1])
    return figures


def _as_markdown(row: dict[str, Any]) -> str:
    cells = [
        row["architecture"],
        f"{row['input']} px",
        f"{row['parameters']:,}",
        f"{row['build_s']:.1f}",
        f"{row['step_s']:.2f}",
        f"{row['int8_bytes']:,}",
        f"{row['convert_s']:.1f}",
    ]
    for format_ in _FORMATS:
        cells += [f"{100 * row[f'{format_}_agreement']:.0f} %", f"{row[f'{format_}_r']:.4f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
