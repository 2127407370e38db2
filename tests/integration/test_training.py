"""Training: interrupted at any point it gives the same result, and it minimises the documented loss."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_sdk.errors import EdgeClsError, RecipeError, TrainingError
from host_tools.recipe import Recipe, TrainingRecipe, recipe_from
from tests.integration.host import edgecls, some_digits

pytest.importorskip("tensorflow", reason="the extra [host] is not installed")

_SMALL = {"width": 0.25}
_PIXELS = {"width": 16, "height": 16, "test": 0.0, "validation": 0.25}


@pytest.fixture(scope="module")
def keras() -> Any:
    from host_tools.extras import require

    return require("keras")


def _recipe(**sections: dict[str, Any]) -> Recipe:
    """A recipe whose training takes seconds."""
    defaults: dict[str, dict[str, Any]] = {
        "data": _PIXELS,
        "model": _SMALL,
        "training": {"epochs": 2, "schedule": "constant", "learning_rate": 0.003},
    }
    for section, values in sections.items():
        defaults[section] = defaults.get(section, {}) | values
    return recipe_from({"name": "any", **defaults}, "test")


def _dataset(recipe: Recipe, pictures: Path) -> Any:
    from host_tools.data.load import DataPlace, load_for

    return load_for(recipe, DataPlace(pictures), lambda _: None)


def _train(recipe: Recipe, pictures: Path, out: Path, *, all_of_it: bool = False) -> Any:
    """Trains without a command around it; the history."""
    from host_tools.run_directory import RunDirectory
    from host_tools.train.fit import train

    dataset = _dataset(recipe, pictures)
    dataset = dataset.all_for_training() if all_of_it else dataset
    return train(recipe, dataset, RunDirectory(out)).history


def _weights(path: Path) -> list[Any]:
    from host_tools.third_party.keras import load_keras

    return [np.array(weight) for weight in load_keras(path).weights]


def _rows(path: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader(path.read_text().splitlines()))
    for row in rows:
        del row["seconds"]  # the one figure that may differ
    return rows


# Interrupted, and going on.

# Whatever a resumed training could forget: dropout's and augmentation's chance, averages, the
# plateau's rate, patience, and which of two stages it was in.
_EVERYTHING = tuple(
    word
    for setting in (
        "training.epochs=6",
        "training.stages=[{width=16,height=16},{}]",
        "training.schedule=plateau",
        "training.plateau_patience=1",
        "training.learning_rate=0.01",
        "training.patience=3",
        "training.ema=0.9",
        "training.class_weights=balanced",
        "model.width=0.25",
        "model.block_dropout=0.1",
        "augmentation.horizontal_flip=0.5",
        "augmentation.mixup=0.3",
        "augmentation.coarse_dropout=0.5",
        "data.test=0.0",
        "data.validation=0.25",
    )
    for word in ("--set", setting)
)


def _killed(data: Path, out: Path, epoch: int, *more: str) -> None:
    """Starts a training and kills it as soon as it has said that an epoch is done."""
    words = ["train", "digits", "--data", str(data), "--out", str(out), *_EVERYTHING, *more]
    program = "from host_tools.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith(f"epoch {epoch}/"):
                process.kill()
                break
        assert f"epoch {epoch}/" in said, said


@pytest.fixture(scope="module")
def uninterrupted(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    result = edgecls("train", "digits", "--data", digits, "--out", out, *_EVERYTHING)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def killed_thrice(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed in its first stage, between the stages and in its second, then ended."""
    out = tmp_path_factory.mktemp("killed") / "run"
    _killed(digits, out, 2)
    for epoch in (3, 5):
        _killed(digits, out, epoch, "--resume")
    assert not (out / "model.keras").exists()
    words = ("train", "digits", "--data", digits, "--out", out, *_EVERYTHING, "--resume")
    result = edgecls(*words)
    assert result.exit_code == 0, result.output
    return out


def test_a_training_killed_thrice_ends_as_if_nothing_had_happened(
    uninterrupted: Path, killed_thrice: Path
) -> None:
    assert _rows(killed_thrice / "history.csv") == _rows(uninterrupted / "history.csv")
    for ours, other in zip(
        _weights(killed_thrice / "model.keras"),
        _weights(uninterrupted / "model.keras"),
        strict=True,
    ):
        assert np.array_equal(ours, other)


def test_a_finished_training_resumes_to_itself(
    uninterrupted: Path, digits: Path, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    words = ("train", "digits", "--data", digits, "--out", tmp_path / "run", *_EVERYTHING)
    assert edgecls(*words, "--resume").exit_code == 0
    assert _rows(tmp_path / "run" / "history.csv") == _rows(uninterrupted / "history.csv")
    for ours, other in zip(
        _weights(tmp_path / "run" / "model.keras"),
        _weights(uninterrupted / "model.keras"),
        strict=True,
    ):
        assert np.array_equal(ours, other)


def test_epochs_are_counted_through_both_stages(uninterrupted: Path) -> None:
    rows = _rows(uninterrupted / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.slow
def test_the_second_stage_goes_on_from_the_first(digits: Path, tmp_path: Path) -> None:
    # Some steps at the least rate that a recipe may have: such a stage ends as it began.
    for name, stages in (("one", [{}]), ("both", [{}, {"learning_rate": 1e-12}])):
        recipe = _recipe(
            model={"batch_norm": False, "dropout": 0.0},
            training={"epochs": len(stages), "optimizer": "sgd", "stages": stages},
        )
        _train(recipe, digits, tmp_path / name)
    first, both = (_weights(tmp_path / name / "model.keras") for name in ("one", "both"))
    for ours, other in zip(both, first, strict=True):
        np.testing.assert_allclose(ours, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("run", ["uninterrupted", "killed_thrice"])
def test_each_epoch_stands_in_the_logs_once(run: str, request: pytest.FixtureRequest) -> None:
    from host_tools.extras import require

    out = request.getfixturevalue(run)
    assert _rows(out / "logs" / "history.csv") == _rows(out / "history.csv")
    tf = require("tensorflow")
    (events,) = (out / "logs").glob("events.out.tfevents.*")
    logged: dict[str, dict[int, float]] = {}
    for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
            assert event.step not in logged.setdefault(value.tag, {})
            logged[value.tag][event.step] = value.simple_value
    rows = _rows(out / "history.csv")
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        assert list(logged[name]) == [1, 2, 3, 4, 5, 6]
        assert list(logged[name].values()) == pytest.approx([float(row[name]) for row in rows])


@pytest.mark.slow
def test_a_frozen_stage_and_a_fine_tuning_resume_too(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from host_tools.run_directory import RunDirectory
    from host_tools.train import fit

    _train(_recipe(training={"epochs": 1}), digits, tmp_path / "base")
    recipe = _recipe(
        model={"weights": str(tmp_path / "base"), "trainable": "head", "head": [8]},
        augmentation={"horizontal_flip": 0.5},
        training={
            "epochs": 4,
            "batch_size": 8,
            "optimizer": "sgd",
            "feature_variants": 2,
            "schedule": "cosine",
            "stages": [{}, {"trainable": "last-3", "learning_rate": 0.001}],
        },
    )
    _train(recipe, digits, tmp_path / "whole")

    dataset, run = _dataset(recipe, digits), RunDirectory(tmp_path / "run")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit, "_report_epoch", interrupted)
        for done in (1, 2, 3):  # in the frozen stage, between the stages, in the second
            with pytest.raises(KeyboardInterrupt, match=f"{done} of 4 epochs are done and kept"):
                fit.train(recipe, dataset, run, resume=True)
    fit.train(recipe, dataset, run, resume=True)
    assert _rows(run.history) == _rows(tmp_path / "whole" / "history.csv")
    for ours, other in zip(
        _weights(run.model), _weights(tmp_path / "whole" / "model.keras"), strict=True
    ):
        assert np.array_equal(ours, other)


@pytest.mark.slow
def test_patience_is_counted_anew_in_every_stage(digits: Path, tmp_path: Path) -> None:
    # At this rate no weight changes, so no loss is ever lower than the first.
    recipe = _recipe(
        model={"batch_norm": False, "dropout": 0.0},
        training={
            "epochs": 12,
            "optimizer": "sgd",
            "learning_rate": 1e-12,
            "patience": 2,
            "stages": [{}, {}],
        },
    )
    history = _train(recipe, digits, tmp_path / "run")
    assert len({row["val_loss"] for row in history}) == 1
    assert len(history) == 3 + 2


# Not a number.


def test_a_training_that_diverges_at_once_has_nothing_to_keep(digits: Path, tmp_path: Path) -> None:
    recipe = _recipe(
        model={"batch_norm": False},
        training={"optimizer": "sgd", "weight_decay": 1.0, "learning_rate": 1000.0},
    )
    with pytest.raises(
        TrainingError, match=r"in epoch 1, step \d+; lower training\.learning_rate$"
    ):
        _train(recipe, digits, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.keras"))


@pytest.mark.slow
def test_a_training_that_diverges_keeps_its_best_weights_and_the_run_before(
    digits: Path, tmp_path: Path
) -> None:
    from host_tools.third_party.keras import load_keras
    from host_tools.train.batches import plain_batches

    out = tmp_path / "run"
    before = _recipe(training={"epochs": 1})
    _train(before, digits, out)
    kept = {
        path: path.read_bytes()
        for path in out.iterdir()
        if path.suffix in (".keras", ".csv", ".toml")
    }

    diverging = _recipe(
        model={"batch_norm": False},
        training={
            "epochs": 4,
            "optimizer": "sgd",
            "learning_rate": 0.01,
            "weight_decay": 1.0,  # at the second rate every step makes weights 999 times larger
            "stages": [{}, {"learning_rate": 1000.0}],
        },
    )
    with pytest.raises(TrainingError, match=r"in epoch 3, step \d+; lower training\.learning_rate"):
        _train(diverging, digits, out)
    assert {path: path.read_bytes() for path in kept} == kept

    rows = _rows(out / "logs" / "history.csv")
    assert len(rows) == 2
    validation = _dataset(diverging, digits).splits["validation"]
    batches = plain_batches(validation.pixels, validation.labels, 4, 64)
    answers = load_keras(out / "last_good.keras").predict(batches, verbose=0).argmax(axis=1)
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert np.isclose((answers == validation.labels).mean(), float(best["val_accuracy"]))


# How it learns.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "rate", "schedule"),
    [
        ("adam", 0.005, "cosine"),
        ("adamw", 0.005, "one-cycle"),
        ("rmsprop", 0.001, "constant"),
        ("sgd", 0.02, "plateau"),
    ],
)
def test_every_optimizer_learns_at_the_rate_of_its_schedule(
    optimizer: str, rate: float, schedule: str, digits: Path, tmp_path: Path
) -> None:
    from host_tools.train.objective import plateau_rate

    recipe = _recipe(
        training={
            "epochs": 5,
            "batch_size": 16,
            "optimizer": optimizer,
            "learning_rate": rate,
            "schedule": schedule,
            "weight_decay": 0.001,
            "plateau_patience": 1,
        },
    )
    history = _train(recipe, digits, tmp_path / "run")
    # That it learns, not how well: at these rates a twentieth to a seventh of the loss is left.
    assert history[-1]["loss"] < history[0]["loss"]
    rates = [row["learning_rate"] for row in history]
    losses = [row["val_loss"] for row in history]
    if schedule == "constant":
        assert rates == pytest.approx([rate] * 5)
    elif schedule == "plateau":
        expected = [plateau_rate(recipe.training, rate, losses[:i]) for i in range(5)]
        assert rates == pytest.approx(expected)
    else:
        steps = -(-len(_dataset(recipe, digits).splits["train"]) // 16)
        assert rates == pytest.approx(
            [_rate(schedule, rate, steps * epoch, steps * 5) for epoch in range(1, 6)], rel=1e-3
        )


def _rate(schedule: str, peak: float, step: int, steps: int) -> float:
    """The learning rate after some of all steps, from its description."""
    warm_up = steps // 4 if schedule == "one-cycle" else 0
    if step < warm_up:
        return peak / 25 + (peak - peak / 25) * step / warm_up
    return float(peak * (1 + np.cos(np.pi * (step - warm_up) / (steps - warm_up))) / 2)


def _every_step(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Records the weights after every step of the trainings to come."""
    from host_tools.train import fit

    steps: list[list[Any]] = []
    real = fit.watch

    def watch(*arguments: Any, **options: Any) -> Any:
        callback = real(*arguments, **options)
        original = callback.on_train_batch_end

        def on_train_batch_end(batch: int, logs: Any = None) -> None:
            original(batch, logs)
            steps.append([np.array(v) for v in callback.model.trainable_variables])

        callback.on_train_batch_end = on_train_batch_end
        return callback

    monkeypatch.setattr(fit, "watch", watch)
    return steps


@pytest.mark.slow
def test_an_average_of_the_weights_is_kept_and_does_not_change_the_training(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from host_tools.third_party.keras import load_keras

    steps = _every_step(monkeypatch)
    plain = _recipe(training={"epochs": 3})
    _train(plain, digits, tmp_path / "plain", all_of_it=True)
    without = list(steps)
    steps.clear()
    averaged = replace(plain, training=replace(plain.training, ema=0.8))
    _train(averaged, digits, tmp_path / "averaged", all_of_it=True)

    average = steps[0]
    for step in steps[1:]:
        average = [0.8 * a + 0.2 * new for a, new in zip(average, step, strict=True)]
    kept = load_keras(tmp_path / "averaged" / "model.keras").trainable_variables
    for ours, by_hand in zip(kept, average, strict=True):
        assert np.allclose(ours, by_hand, atol=1e-5)

    assert len(steps) == len(without)
    for ours, other in zip(steps[-1], without[-1], strict=True):
        assert np.array_equal(ours, other)


@pytest.mark.slow
def test_averaged_weights_are_the_ones_validated(digits: Path, tmp_path: Path) -> None:
    from host_tools.third_party.keras import load_keras
    from host_tools.train.batches import plain_batches

    recipe = _recipe(training={"epochs": 2, "ema": 0.95})
    history = _train(recipe, digits, tmp_path / "run")
    best = min(history, key=lambda row: row["val_loss"])
    validation = _dataset(recipe, digits).splits["validation"]
    batches = plain_batches(validation.pixels, validation.labels, 4, 64)
    scores = load_keras(tmp_path / "run" / "model.keras").predict(batches, verbose=0)
    right = scores[np.arange(len(scores)), validation.labels]
    assert -np.log(right).mean() == pytest.approx(best["val_loss"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_training_in_half_precision_keeps_a_float32_model(
    precision: str, digits: Path, tmp_path: Path
) -> None:
    from host_tools.third_party.keras import load_keras

    recipe = _recipe(training={"epochs": 3, "precision": precision, "batch_size": 16})
    history = _train(recipe, digits, tmp_path / "run")
    model = load_keras(tmp_path / "run" / "model.keras")
    for layer in model.layers:
        assert layer.compute_dtype == layer.variable_dtype == "float32", layer.name
    validation = _dataset(recipe, digits).splits["validation"]
    scores = model.predict(validation.pixels().astype(np.float32), verbose=0)
    right = scores[np.arange(len(scores)), validation.labels]
    best = min(history, key=lambda row: row["val_loss"])
    # A bfloat16 has 8 significant bits: logits of some ten units are known to some hundredths.
    assert -np.log(right).mean() == pytest.approx(best["val_loss"], rel=0.05, abs=0.05)


# The loss, against its formula.


def _softmax(logits: Any) -> Any:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _linear(keras: Any, side: int, classes: int, *, softmax: bool = False, scale: float = 1) -> Any:
    """Means of the channels, then one dense layer: small enough to be followed by hand."""
    inputs = keras.Input((side, side, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(scale / 255)(inputs))
    x = keras.layers.Dense(classes)(x)
    return keras.Model(inputs, keras.layers.Softmax()(x) if softmax else x)


def _compiled(keras: Any, training: TrainingRecipe, teacher: Any = None) -> Any:
    from host_tools.train.objective import compile_for
    from host_tools.train.stages import stages_of

    stage = stages_of(replace(_recipe(), training=training))[0]
    return compile_for(_linear(keras, 8, 3), training, stage, 10, teacher)


def _batch(random: np.random.Generator) -> tuple[Any, Any, Any]:
    # Pictures of one colour each: the same at every size.
    x = np.broadcast_to(random.integers(0, 256, (5, 1, 1, 3)), (5, 8, 8, 3)).astype(np.uint8)
    y = np.eye(3, dtype=np.float32)[random.integers(0, 3, 5)]
    return x, y, random.uniform(0.5, 2, 5).astype(np.float32)


@pytest.mark.computes
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(("loss", "gamma"), [("crossentropy", 0), ("focal", 2.0), ("focal", 0.5)])
def test_the_loss_is_its_formula(loss: str, gamma: float, smoothing: float, keras: Any) -> None:
    training = TrainingRecipe(loss=loss, focal_gamma=gamma, label_smoothing=smoothing)
    model = _compiled(keras, training)
    x, y, weights = _batch(np.random.default_rng(1))
    logits = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
    p, wanted = _softmax(logits), y * (1 - smoothing) + smoothing / 3
    by_hand = (weights * (-wanted * (1 - p) ** gamma * np.log(p)).sum(axis=1)).mean()
    ours = model.compute_loss(x, y, keras.ops.convert_to_tensor(logits), weights)
    assert float(ours) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.computes
@pytest.mark.parametrize("side", [8, 12], ids=["same size", "other size"])
def test_the_loss_with_a_teacher_is_hintons(side: int, keras: Any) -> None:
    training = TrainingRecipe(distillation_weight=0.3, distillation_temperature=2.5)
    teacher = _linear(keras, side, 3, softmax=True, scale=4)
    model = _compiled(keras, training, teacher)
    x, y, weights = _batch(np.random.default_rng(3))
    student = model([x.astype(np.float32)])
    logits = np.array(student)
    own = -(y * np.log(_softmax(logits))).sum(axis=1)
    seen = np.broadcast_to(x[:, :1, :1], (5, side, side, 3)).astype(np.float32)
    teachers = np.log(teacher.predict(seen, verbose=0))
    soft, learnt = _softmax(teachers / 2.5), np.log(_softmax(logits / 2.5))
    by_hand = (weights * (0.7 * own + 0.3 * 2.5**2 * -(soft * learnt).sum(axis=1))).mean()
    ours = model.compute_loss(x, y, student, weights, training=True)
    assert float(ours) == pytest.approx(by_hand, rel=1e-4)
    # Validation asks how well the student does, not how alike the two are.
    assert float(model.compute_loss(x, y, student, weights, training=False)) == pytest.approx(
        (weights * own).mean(), rel=1e-4
    )


def test_half_precision_scales_the_loss_with_a_teacher_too(keras: Any) -> None:
    from host_tools.models import build_model
    from host_tools.train.objective import compile_for
    from host_tools.train.stages import stages_of

    recipe = _recipe(training={"precision": "mixed_float16"})
    for teacher in (None, _linear(keras, 8, 4, softmax=True)):
        network = build_model(recipe, 4, precision="mixed_float16")
        model = compile_for(network, recipe.training, stages_of(recipe)[0], 10, teacher)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_balanced_classes_count_alike(digits: Path, tmp_path: Path) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    from host_tools.train.batches import picture_batches, targets_of

    data = some_digits(digits, tmp_path / "data", (0, 1, 4), 60)
    for extra in sorted((data / "4").iterdir())[12:]:
        extra.unlink()
    recipe = _recipe(training={"class_weights": "balanced"}, augmentation={"mixup": 1.0})
    subset = _dataset(recipe, data).splits["train"]
    targets = targets_of(subset, recipe, 3)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=subset.labels)
    assert targets.weights == pytest.approx(expected)
    assert targets_of(subset, _recipe(), 3).weights == pytest.approx([1, 1, 1])
    batches = picture_batches(subset, targets, recipe, 32, epoch=0)
    mixed = 0
    for i in range(len(batches)):
        pixels, wanted, weights = batches[i]
        assert pixels.dtype == np.uint8
        assert wanted.sum(axis=1) == pytest.approx(1)
        assert weights == pytest.approx(wanted @ expected)  # as much as what it is mixed of
        mixed += int((wanted.max(axis=1) < 1).sum())
    assert mixed


def test_an_epoch_is_every_picture_once_in_an_order_of_its_own(digits: Path) -> None:
    from host_tools.train.batches import picture_batches, targets_of

    recipe = _recipe(augmentation={"brightness": 0.3})
    subset = _dataset(recipe, digits).splits["train"]
    targets = targets_of(subset, recipe, 4)

    def labels_and_pixels(epoch: int) -> tuple[Any, Any]:
        batches = picture_batches(subset, targets, recipe, 64, epoch)
        # Workers ask in any order.
        parts = {i: batches[i] for i in reversed(range(len(batches)))}
        ordered = [parts[i] for i in range(len(batches))]
        return tuple(np.concatenate([part[k] for part in ordered]) for k in (1, 0))  # type: ignore[return-value]

    first, again, second = (labels_and_pixels(epoch) for epoch in (0, 0, 1))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], second[0])
    for labels, _ in (first, second):
        assert labels.sum(axis=0).tolist() == np.bincount(subset.labels, minlength=4).tolist()


# Teachers.


@pytest.mark.slow
def test_a_student_may_have_a_larger_teacher(digits: Path, tmp_path: Path) -> None:
    teacher = _recipe(data={"width": 24, "height": 24}, training={"epochs": 3, "batch_size": 16})
    _train(teacher, digits, tmp_path / "teacher")
    student = _recipe(
        training={"epochs": 3, "teacher": str(tmp_path / "teacher"), "batch_size": 16}
    )
    history = _train(student, digits, tmp_path / "student")
    assert len(history) == 3
    assert np.isfinite([row["loss"] for row in history]).all()
    assert len(_weights(tmp_path / "student" / "model.keras")) == len(
        _weights(tmp_path / "teacher" / "model.keras")
    )  # what is kept is the student alone


def _teacher_file(keras: Any, path: Path, what: str) -> Path:
    if what == "classes":
        model = _linear(keras, 8, 7, softmax=True)
    elif what == "vector":
        inputs = keras.Input((5,))
        model = keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(inputs))
    elif what == "gray":
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(inputs))
        model = keras.Model(inputs, x)
    else:
        model = _linear(keras, 8, 4)
    model.save(path)
    return path


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("classes", "has 7 classes, the data set has 4"),
        ("vector", "training.teacher"),
        ("gray", "training.teacher"),
        ("logits", "training.teacher.*softmax"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(
    what: str, message: str, keras: Any, digits: Path, tmp_path: Path
) -> None:
    path = _teacher_file(keras, tmp_path / "teacher.keras", what)
    recipe = _recipe(training={"epochs": 1, "teacher": str(path)})
    with pytest.raises(EdgeClsError, match=message):
        _train(recipe, digits, tmp_path / "run")


def test_a_missing_teacher_is_a_usage_error(digits: Path, tmp_path: Path) -> None:
    words = ("train", "digits", "--data", digits, "--out", tmp_path / "run")
    for teacher in (tmp_path / "nowhere.keras", tmp_path):
        result = edgecls(*words, "--set", f"training.teacher={teacher}")
        assert result.exit_code == 2
        assert "give a .keras model or a run directory" in result.stderr


# Data.


def test_a_class_that_only_validation_has_is_named(digits: Path, tmp_path: Path) -> None:
    for split, classes in (("train", (0, 1)), ("val", (0, 1, 4))):
        some_digits(digits, tmp_path / "data" / split, classes, 10)
    result = edgecls("train", "digits", "--data", tmp_path / "data", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "class 4 has no training pictures" in result.stderr


_ODD = ("größe", "a, b; c", 'quo"te', "猫 🐈")


@pytest.mark.slow
def test_odd_names_of_classes_reach_the_device_as_they_are(digits: Path, tmp_path: Path) -> None:
    data = some_digits(digits, tmp_path / "data", (0, 1, 4, 7), 30)
    for folder, name in zip(sorted(data.iterdir()), _ODD, strict=True):
        folder.rename(data / name)
    out = tmp_path / "run"
    quick = ("--set", "training.epochs=1", "--set", "model.width=0.25")
    assert edgecls("train", "digits", "--data", data, "--out", out, *quick).exit_code == 0
    assert edgecls("convert", out, "--data", data, "--format", "int8").exit_code == 0
    shown = json.loads(edgecls("inspect", out / "digits_int8.tflite", "--json").stdout)
    assert shown["labels"] == sorted(_ODD)
    assert (out / "labels.txt").read_text("utf-8") == "\n".join(sorted(_ODD)) + "\n"


@pytest.mark.slow
def test_a_thousand_classes_are_trained_and_reported(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(1000):
        folder = tmp_path / "data" / f"n{number:08d}"
        folder.mkdir(parents=True)
        for name in "ab":
            picture = random.integers(0, 256, (8, 8, 3), np.uint8)
            cv2.imwrite(str(folder / f"{name}.png"), picture)
    out = tmp_path / "run"
    result = edgecls(
        *("train", "digits", "--data", tmp_path / "data", "--out", out, "--split", "all"),
        *("--set", "training.epochs=1", "--set", "training.batch_size=256"),
        *("--set", "data.width=8", "--set", "data.height=8", "--set", "model.width=0.25"),
        *("--set", "data.validation=0", "--set", "data.test=0"),
    )
    assert result.exit_code == 0, result.output
    assert len((out / "labels.txt").read_text().splitlines()) == 1000
    assert (out / "report.html").stat().st_size < 3_000_000


def test_the_recipe_that_a_run_keeps_trains_the_same_again(
    uninterrupted: Path, digits: Path
) -> None:
    from host_tools.recipe import load_recipe

    overrides: Sequence[str] = [word for word in _EVERYTHING if word != "--set"]
    assert load_recipe(uninterrupted / "recipe.toml") == load_recipe("digits", overrides)


def test_a_stage_whose_network_cannot_be_built_is_a_recipe_error(
    digits: Path, tmp_path: Path
) -> None:
    recipe = _recipe(
        data={"width": 32, "height": 32},
        model={"architecture": "mobilenet", "width": 0.25},
        training={"stages": [{"width": 16, "height": 16}, {}]},
    )
    with pytest.raises(RecipeError, match="at least 32 x 32 pixels, got 16 x 16"):
        _train(recipe, digits, tmp_path / "run")
