"""What batch normalisation as one operation saves of a training step, beside Keras' own.

    python benchmarks/fused_norm.py --data trashnet/ [--only airbench ...]

Two networks with the same weights learn from the same batches in turns: one as ``edgecls train``
prepares it, one with Keras' batch normalisation. Their first losses must agree before a time counts;
later losses of a deep network differ by rounding, as Keras' own do between runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from host_tools.data.load import DataPlace, load_for
from host_tools.extras import require
from host_tools.models import build_model
from host_tools.models.head import set_trainable
from host_tools.recipe import AugmentationRecipe, DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from host_tools.train.batches import material_for
from host_tools.train.distributed import ALONE
from host_tools.train.objective import compile_for
from host_tools.train.stages import stages_of

# Architecture: side of the input in pixels, pictures in a batch.
_NETWORKS = {
    "small-cnn": (32, 128),
    "airbench": (32, 128),
    "resnet8": (32, 128),
    "resdense": (64, 32),
    "mobilenet-v2": (96, 32),
    "resnet50": (96, 16),
}
_WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(_NETWORKS), choices=_NETWORKS)
    parser.add_argument("--steps", type=int, default=12, help="of each network, in turns")
    arguments = parser.parse_args()
    print("| architecture | input | batch | Keras' ms a step | edgecls ms | ratio |")
    print("|---|---|---|---|---|---|")
    for name in arguments.only:
        keras_ms, ours_ms, ratio = _measure(name, arguments.data, arguments.steps)
        side, batch = _NETWORKS[name]
        print(
            f"| {name} | {side} px | {batch} | {keras_ms:.0f} | {ours_ms:.0f} | {ratio:.2f} |",
            flush=True,
        )


def _measure(name: str, data: Path, steps: int) -> tuple[float, float, float]:
    """Medians in milliseconds of Keras' and of our step, and of the paired ratios."""
    side, batch_size = _NETWORKS[name]
    recipe = Recipe(
        name,
        data=DataRecipe(width=side, height=side),
        augmentation=AugmentationRecipe(horizontal_flip=0.5),
        model=ModelRecipe(architecture=name, dropout=0.0),
        training=TrainingRecipe(batch_size=batch_size, optimizer="sgd", learning_rate=1e-4),
    )
    dataset = load_for(recipe, DataPlace(data), lambda _: None)
    composed, batches = _compiled(recipe, dataset)
    for layer in composed.layers:
        vars(layer).pop("call", None)  # Keras' own, before the first step
    fused, _ = _compiled(recipe, dataset)
    assert any("call" in vars(layer) for layer in fused.layers), f"{name}: nothing is fused"
    times: list[tuple[float, float]] = []
    for index in range(_WARM_UP + steps):
        batch = batches[index % len(batches)]
        (keras_s, keras_loss), (ours_s, ours_loss) = _step(composed, batch), _step(fused, batch)
        assert times or np.isclose(keras_loss, ours_loss, rtol=1e-3), (name, keras_loss, ours_loss)
        times.append((keras_s, ours_s))
    kept = times[_WARM_UP:]  # the first traces the graph
    keras_s, ours_s = (statistics.median(column) for column in zip(*kept, strict=True))
    return 1000 * keras_s, 1000 * ours_s, statistics.median(a / b for a, b in kept)


def _compiled(recipe: Recipe, dataset: Any) -> tuple[Any, Any]:
    """The model of the recipe's only stage, ready for its first step, and its batches."""
    require("keras").utils.set_random_seed(0)
    stage = stages_of(recipe)[0]
    network = build_model(recipe, len(dataset.classes))
    set_trainable(network, recipe.model, "all")
    material = material_for(network, dataset, recipe, stage, ALONE)
    batches = material.batches(0)
    return compile_for(material.model, recipe.training, stage, len(batches)), batches


def _step(model: Any, batch: Any) -> tuple[float, float]:
    """Seconds and loss of one training step."""
    started = time.perf_counter()
    loss = float(model.train_on_batch(*batch)[0])
    return time.perf_counter() - started, loss


if __name__ == "__main__":
    main()
