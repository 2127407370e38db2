"""The parts of a training without a network: stages, learning rates, checkpoints, rows."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import TrainingError
from host_tools.recipe import (
    DataRecipe,
    ModelRecipe,
    Recipe,
    StageRecipe,
    TrainingRecipe,
    load_recipe,
)
from host_tools.train.checkpoint import (
    TrainingProgress,
    holds_unfinished,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from host_tools.train.fit import history_csv
from host_tools.train.objective import plateau_rate
from host_tools.train.stages import Stage, stages_of


def _recipe(*stages: StageRecipe, epochs: int = 30) -> Recipe:
    return Recipe("any", training=TrainingRecipe(epochs=epochs, stages=stages))


# Stages.


def test_a_recipe_without_stages_has_one() -> None:
    recipe = Recipe(
        "any",
        data=DataRecipe(width=48, height=32),
        model=ModelRecipe(trainable="last-3", weights="w.h5"),
        training=TrainingRecipe(
            epochs=7, batch_size=16, learning_rate=0.25, schedule="plateau", stages=()
        ),
    )
    assert stages_of(recipe) == (Stage(0, 7, 48, 32, "last-3", 16, 0.25, "plateau"),)


def test_a_stage_overrides_what_it_names() -> None:
    own = StageRecipe(1.0, 16, 24, "head", 8, 0.5, "constant")
    first, second = stages_of(_recipe(own, StageRecipe(), epochs=4))
    assert first == Stage(0, 2, 16, 24, "head", 8, 0.5, "constant")
    assert second == Stage(1, 2, 32, 32, "all", 32, 0.001, "cosine")


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12),
    st.integers(0, 500),
)
def test_epochs_are_shared_out_whole(shares: list[float], more: int) -> None:
    total = len(shares) + more
    stages = stages_of(_recipe(*(StageRecipe(share=share) for share in shares), epochs=total))
    epochs = [stage.epochs for stage in stages]
    assert sum(epochs) == total
    assert min(epochs) >= 1
    assert [stage.number for stage in stages] == list(range(len(shares)))
    for (a, shorter), (b, longer) in (
        pair
        for one in zip(shares, epochs, strict=True)
        for other in zip(shares, epochs, strict=True)
        if (pair := (one, other))
    ):
        assert a >= b or shorter <= longer + 1  # who has more of the share has not fewer epochs


@pytest.mark.parametrize(
    ("shares", "total", "epochs"),
    [
        ((1, 1), 60, [30, 30]),
        ((2, 1), 30, [20, 10]),
        ((1, 1, 1), 3, [1, 1, 1]),
        ((1e6, 1e-6), 5, [4, 1]),
        ((1, 1), 5, [3, 2]),
    ],
)
def test_epochs_are_shared_out_as_one_would(
    shares: tuple[float, ...], total: int, epochs: list[int]
) -> None:
    stages = stages_of(_recipe(*(StageRecipe(share=share) for share in shares), epochs=total))
    assert [stage.epochs for stage in stages] == epochs


def test_progressive_resizing_ends_at_the_input_of_the_device() -> None:
    sizes = [(s.width, s.height) for s in stages_of(load_recipe("tiny-imagenet-resdense"))]
    assert sizes == [(32, 32), (64, 64)]


# Plateau.

_LOSSES = st.lists(st.floats(0, 10) | st.just(1.0), max_size=40)


@given(_LOSSES, st.integers(1, 5), st.floats(0.01, 0.9))
def test_a_plateau_lowers_the_rate_as_keras_does(
    losses: list[float], patience: int, factor: float
) -> None:
    # ReduceLROnPlateau(min_delta=0, min_lr=0), written down from its documentation.
    rate, best, wait = 0.1, float("inf"), 0
    for loss in losses:
        if loss < best:
            best, wait = loss, 0
            continue
        wait += 1
        if wait >= patience:
            rate, wait = rate * factor, 0
    training = TrainingRecipe(plateau_factor=factor, plateau_patience=patience)
    assert plateau_rate(training, 0.1, losses) == pytest.approx(rate, rel=1e-9)


@given(_LOSSES, st.floats(0, 10))
def test_a_rate_never_rises_and_depends_on_the_past_alone(
    losses: list[float], next_: float
) -> None:
    training = TrainingRecipe()
    before = plateau_rate(training, 0.1, losses)
    assert before == plateau_rate(training, 0.1, list(losses))
    assert plateau_rate(training, 0.1, [*losses, next_]) <= before


def test_falling_losses_keep_the_rate() -> None:
    assert plateau_rate(TrainingRecipe(), 0.1, [3.0, 2.0, 1.0, 0.5, 0.4, 0.3]) == 0.1


# Checkpoints. What they need of a model is lists of variables.


class _Variable:
    def __init__(self, value: Any) -> None:
        self.value = np.asarray(value)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.value.copy()

    def assign(self, value: Any) -> None:
        assert np.shape(value) == self.value.shape
        self.value = np.asarray(value)


class _Optimizer:
    def __init__(self, values: list[Any]) -> None:
        self.variables = [_Variable(value) for value in values]

    def build(self, variables: Any) -> None:
        pass


class _Model:
    def __init__(self, weights: list[Any], state: list[Any]) -> None:
        self.variables = self.trainable_variables = [_Variable(weight) for weight in weights]
        self.optimizer = _Optimizer(state)


def _random(count: int) -> list[Any]:
    generator = np.random.default_rng(count)
    return [generator.normal(size=(3, i + 1)).astype(np.float32) for i in range(count)]


def _progress() -> TrainingProgress:
    rows = [{"epoch": i + 1, "loss": 1 / (i + 3), "val_loss": 0.1 + i} for i in range(3)]
    return TrainingProgress("me", 1, 2, 3, 0.1, 0, rows, 4.5)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, _Model(_random(12), _random(13)), _random(11), _progress())
    return path


def test_a_checkpoint_gives_back_what_it_was_given(checkpoint: Path) -> None:
    saved = read_checkpoint(checkpoint, "me")
    assert saved.progress == _progress()
    model = _Model([w * 0 for w in _random(12)], [w * 0 for w in _random(13)])
    restore(model, saved)
    for have, wanted in (
        ([v.value for v in model.variables], _random(12)),
        ([v.value for v in model.optimizer.variables], _random(13)),
        (saved.best, _random(11)),
    ):
        for one, other in zip(have, wanted, strict=True):
            assert np.array_equal(one, other)


def test_a_checkpoint_of_something_else_is_refused(checkpoint: Path) -> None:
    with pytest.raises(TrainingError, match="another recipe or other pictures; train again"):
        read_checkpoint(checkpoint, "you")


def test_only_a_finished_training_is_finished(checkpoint: Path, tmp_path: Path) -> None:
    assert holds_unfinished(checkpoint)
    assert not holds_unfinished(tmp_path / "nowhere.npz")
    done = replace(_progress(), finished=True)
    save_checkpoint(checkpoint, _Model([], []), [], done)
    assert not holds_unfinished(checkpoint)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 18, b"[1, 2]"], ids=repr
)
def test_garbage_is_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(content)
    assert holds_unfinished(path)
    with pytest.raises(TrainingError, match="the checkpoint is damaged"):
        read_checkpoint(path, "me")


def test_one_array_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(TrainingError, match="the checkpoint is damaged"):
        read_checkpoint(path, "me")


def test_a_checkpoint_cut_anywhere_is_damaged(checkpoint: Path) -> None:
    content = checkpoint.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 60)):
        checkpoint.write_bytes(content[:length])
        with pytest.raises(TrainingError, match="the checkpoint is damaged"):
            read_checkpoint(checkpoint, "me")


def test_a_flipped_bit_is_found_or_does_no_harm(checkpoint: Path) -> None:
    content, chance = checkpoint.read_bytes(), random.Random(0)
    for _ in range(400):
        spoilt = bytearray(content)
        spoilt[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        checkpoint.write_bytes(spoilt)
        holds_unfinished(checkpoint)
        try:
            saved = read_checkpoint(checkpoint, "me")
        except TrainingError:
            continue
        assert saved.progress == _progress()
        arrays = (*saved.model, *saved.optimizer, *saved.best)
        for one, other in zip(arrays, (*_random(12), *_random(13), *_random(11)), strict=True):
            assert np.array_equal(one, other)


def test_a_stage_on_another_size_starts_its_own_comparison() -> None:
    progress = _progress()
    progress.begin_stage(2, same_input=True)
    assert (progress.stage, progress.stage_began, progress.best_loss) == (2, 3, 0.1)
    progress.begin_stage(3, same_input=False)
    assert progress.best_loss == float("inf")


# Rows.


@given(
    st.lists(
        st.fixed_dictionaries(
            {"loss": st.floats(allow_nan=False)}, optional={"val_loss": st.floats(-1e300, 1e300)}
        ),
        max_size=5,
    )
)
def test_a_history_is_read_back_to_the_last_bit(rows: list[dict[str, float]]) -> None:
    read = list(csv.DictReader(history_csv(rows).splitlines()))
    assert [{k: float(v) for k, v in row.items() if v} for row in read] == rows
