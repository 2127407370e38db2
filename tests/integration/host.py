"""A tiny real data set and a tiny trained run, shared by the tests of the host's tools."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

_GOLDEN = Path(__file__).parents[1] / "golden"

# Three epochs over a few hundred digits, done in seconds. How much a network has learnt by then
# depends on the processor: a test that needs a good one takes `golden_weights`, too.
QUICK = tuple(
    word
    for setting in (
        "training.epochs=3",
        "training.batch_size=8",
        "training.schedule=constant",
        "model.width=0.25",
        "gates.max_drop=50",
    )
    for word in ("--set", setting)
)


def edgecls(*words: object) -> Result:
    """Runs the command in this process; exceptions of ours have become exit codes by then."""
    from host_tools.cli import main

    result = CliRunner().invoke(main, [str(word) for word in words])
    unexpected = result.exception
    if unexpected is not None and not isinstance(unexpected, SystemExit):
        raise unexpected
    return result


def set_golden_weights(model: Any, name: str) -> None:
    """Gives a Keras model the weights of ``tests/golden/NAME.npz``, made by `make_weights.py`."""
    with np.load(_GOLDEN / f"{name}.npz") as file:
        model.set_weights([file[f"arr_{i}"].astype(np.float32) for i in range(len(file.files))])


@contextlib.contextmanager
def golden_weights() -> Iterator[None]:
    """Trainings of ``QUICK`` on the fixture ``digits`` end with known weights, however they went.

    The training itself runs; its model alone is another.
    """
    from host_tools import workflow
    from host_tools.third_party.keras import load_keras, save_keras

    usual = workflow.train

    def train(recipe: Any, dataset: Any, run: Any, **options: Any) -> Any:
        progress = usual(recipe, dataset, run, **options)
        model = load_keras(run.model)
        set_golden_weights(model, "four_digits")
        save_keras(model, run.model)
        return progress

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "train", train)
        yield


def some_digits(pictures: Path, out: Path, classes: tuple[int, ...], each: int) -> Path:
    """A folder with the first ``each`` pictures of some digits."""
    for digit in classes:
        (out / str(digit)).mkdir(parents=True)
        for picture in sorted((pictures / str(digit)).glob("*.png"))[:each]:
            shutil.copy(picture, out / str(digit))
    return out
